"""Pictures, charts and pages of the report."""
