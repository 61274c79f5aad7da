"""Measurements of regflow beside its peers; see README.md."""
