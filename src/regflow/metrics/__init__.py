"""Figures that tell how good a registration is, each with its unit in its name."""
