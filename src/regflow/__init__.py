"""Registration of medical volumes and satellite rasters, from a sample sheet to a report."""

__version__ = "0.1.0"
