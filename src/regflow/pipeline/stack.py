"""Assemble sections into a volume: order, links, places, bends, pixels, tables and a page."""

import logging
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from regflow.config.loading import check_part
from regflow.config.stack import complete_stack_settings
from regflow.core.chunks import open_workers
from regflow.core.errors import InputError
from regflow.core.threads import count_cores
from regflow.pipeline.group_options import lay_arguments
from regflow.pipeline.stack_places import describe_stack, place_stack
from regflow.pipeline.stack_products import StackResult, write_stack
from regflow.pipeline.stack_sections import open_sections

log = logging.getLogger(__name__)

MOST_LISTED = 20
"""Problems that are logged one by one."""


def assemble_stack(
    sections: Any,
    output: str | Path,
    *,
    table: str | Path | None = None,
    reference: str | Path | None = None,
    pixel_size_um: float | None = None,
    section_um: float | None = None,
    turn_deg: float | None = None,
    mirrored: bool | None = None,
    order: str | None = None,
    shape_width: float | None = None,
    deform: bool | None = None,
    rounds: int | None = None,
    bend_percent: float | None = None,
    across: int | None = None,
    fill: str | None = None,
    config: Mapping[str, Any] | None = None,
    threads: int | None = None,
) -> StackResult:
    """Assemble pictures of serial sections into one volume.

    Args:
        sections: files, folders, patterns such as ``slides/*.tif``, one TIFF with pages, or an array
            ``(N, rows, columns)``.
        output: folder to make.
        table: CSV or TSV with the columns section, a file, and perhaps number; ``sections`` is then empty.
        reference: volume whose shape the stack is given.
        pixel_size_um: width and height of a pixel.
        section_um: distance of sections.
        turn_deg: largest turn of a section against its neighbor; 180 when None.
        mirrored: whether to look for sections that lie the wrong side up; True when None.
        order: of sections that belong elsewhere: ``keep`` or ``sort``.
        shape_width: over how many sections the block's shape is that of the sections as scanned; as predicts
            their places best when None.
        deform: whether to bend sections onto their neighbors; True when None.
        rounds: how often every section is bent.
        bend_percent: width over which a bend is smooth, in percent of the section's diagonal.
        across: most pixels along the longer side at which sections are compared.
        fill: what stands for missing and damaged sections: ``none``, ``neighbor`` or ``interpolate``.
        config: the section ``stack`` of a configuration; the arguments override it.
        threads: most threads to use, all cores when None; no result depends on it.

    Returns:
        Where the volume is, a row for each section, and figures.

    Raises:
        InputError: there are no two sections that can be compared, or a setting is wrong.
    """
    settings = lay_arguments(config, locals(), ("sections", "output", "threads"))
    with TemporaryDirectory(prefix="regflow-") as folder:
        settings["sections"] = _store_sections(sections, Path(folder))
        return run_stack(output, settings=settings, threads=threads)


def run_stack(output: str | Path, *, settings: Mapping[str, Any], threads: int | None = None) -> StackResult:
    """Assemble the sections that the section ``stack`` names, into a folder.

    Raises:
        InputError: there are no two sections that can be compared, or a setting is wrong.
    """
    check_part("the configuration", {"stack": dict(settings)}, "rasters")
    settings = complete_stack_settings(settings)
    if not settings["sections"] and settings["table"] is None:
        raise InputError("no sections are named; name files, folders, patterns or a TIFF with pages")
    images = open_sections(settings["sections"], settings["table"])
    count = threads or count_cores()
    with open_workers(threads=count) as workers:
        stack = place_stack(images, settings, workers, count)
        for problem in describe_stack(stack)[:MOST_LISTED]:
            log.warning("%s", problem)
        return write_stack(Path(output), stack, settings, workers)


def _store_sections(sections: Any, folder: Path) -> list[str]:
    """Return the sections as files; arrays are written as TIFF."""
    if isinstance(sections, str | Path):
        return [str(sections)]
    planes = list(sections)
    if all(isinstance(each, str | Path) for each in planes):
        return [str(each) for each in planes]
    from regflow.core.grid import Grid
    from regflow.io.raster_files import write_raster

    for number, plane in enumerate(planes):
        values = np.asarray(plane)
        if values.ndim != 2:
            raise InputError(
                f"section {number} has {values.ndim} dimensions; give arrays of rows and columns"
            )
        write_raster(folder / f"section{number:05d}.tif", values[None], Grid(values.shape, np.eye(3)))
    return [str(folder / "*.tif")]
