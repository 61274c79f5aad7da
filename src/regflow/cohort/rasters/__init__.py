"""Cohorts of scenes."""
