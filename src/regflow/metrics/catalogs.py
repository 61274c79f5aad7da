"""The catalogs of figures by kind of image."""

from collections.abc import Mapping

from regflow.metrics.catalog import VOLUMES, Catalog
from regflow.metrics.raster_catalog import RASTERS

CATALOGS: Mapping[str, Catalog] = {"volumes": VOLUMES, "rasters": RASTERS}
