"""The cohort of volumes, from a sheet or a BIDS data set."""

from collections.abc import Mapping
from typing import Any

from regflow.cohort.volumes.samples import VolumeSample


def read_samples(config: Mapping[str, Any]) -> list[VolumeSample]:
    """Return the cohort of a complete configuration, in the sheet's order.

    A relative path in a sheet is looked up from the sheet's folder; where the path's first folder
    is not there, from the working directory. Paths in the configuration count from the latter.

    Raises:
        InputError: one sentence for each problem of the sheet, one to a line: unknown columns
            (the nearest valid one is named), bad or repeated ids, unknown atlases, bad cells.
    """
    if config["bids"] is not None:
        from regflow.cohort.volumes.bids import find_samples

        return find_samples(config)
    from regflow.cohort.volumes.sheet import read_sheet

    return read_sheet(config)
