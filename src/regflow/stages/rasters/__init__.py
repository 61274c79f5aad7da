"""The stages of scenes, one module each; rules, scripts and outputs bear the same names."""
