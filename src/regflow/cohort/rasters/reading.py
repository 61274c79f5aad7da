"""The cohort of scenes, from a sheet or a STAC item collection."""

from collections.abc import Mapping
from typing import Any

from regflow.cohort.rasters.samples import RasterSample


def read_raster_samples(config: Mapping[str, Any]) -> list[RasterSample]:
    """Return the cohort of a complete configuration of kind ``rasters``.

    Raises:
        InputError: one sentence for each problem, one to a line.
    """
    if config["stac"] is not None:
        from regflow.cohort.rasters.stac import find_scenes

        return find_scenes(config)
    from regflow.cohort.rasters.sheet import read_sheet

    return read_sheet(config)
