"""The cohort of a configuration, of either kind."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regflow.cohort.volumes.reading import read_samples
from regflow.cohort.volumes.samples import VolumeSample

if TYPE_CHECKING:
    from regflow.cohort.rasters.samples import RasterSample


def read_cohort(config: Mapping[str, Any]) -> "list[VolumeSample] | list[RasterSample]":
    """Return the cohort of a complete configuration of either kind, in the sheet's order.

    Raises:
        InputError: one sentence for each problem, one to a line.
    """
    if config["kind"] == "rasters":
        from regflow.cohort.rasters.reading import read_raster_samples

        return read_raster_samples(config)
    return read_samples(config)


def write_sheet(config: Mapping[str, Any], target: str | Path) -> None:
    """Write the sample sheet of a complete configuration with paths as seen from the working directory.

    Nothing is written where the cohort comes from a data set instead.

    Raises:
        InputError: as :func:`read_cohort`.
    """
    if config["samples"] is not None:
        sheet = import_module(f"regflow.cohort.{config['kind']}.sheet")
        sheet.open_sheet(config).write_located(target)


def find_earlier_dates(config: Mapping[str, Any], samples: Iterable[Any]) -> dict[str, str | None]:
    """Return the sample before each one whose changes are wanted, None for the fixed scene.

    Raises:
        InputError: changes from date to date are wanted, and only some samples have a date.
    """
    if config["kind"] != "rasters" or config["detect"]["method"] is None:
        return {}
    from regflow.cohort.rasters.samples import find_predecessors

    return find_predecessors(samples, config["detect"]["pairs"])
