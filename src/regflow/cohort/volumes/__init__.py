"""Cohorts of volumes."""
