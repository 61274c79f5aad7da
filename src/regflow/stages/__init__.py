"""The seven stages, one module each; rules, scripts and outputs bear the same names."""
