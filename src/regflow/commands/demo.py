"""``regflow demo``: real data that arrive with installed packages, run from the sheet to the report."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

FOLDERS = {"volumes": "demo", "rasters": "demo-rasters", "groups": "demo-groups"}
"""Where each demo goes unless told."""


@click.command(short_help="Run a worked example on real data.")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--rasters", "kind", flag_value="rasters", help="Satellite scenes instead of brains.")
@click.option("--groups", "kind", flag_value="groups", help="A template, a series and a mosaic.")
@click.option("--cores", "-j", default="all", show_default=True, help="Cores to use.")
@click.option("--spacing-mm", type=float, help="Coarser volumes, for a quick look [default: 1 mm].")
@click.option("--build-only", is_flag=True, help="Make the data and the configuration, run nothing.")
def demo(
    folder: Path | None, kind: str | None, cores: str, spacing_mm: float | None, build_only: bool
) -> None:
    r"""Make a study in FOLDER from real images, run it, and name its report.

    Brains go to the MNI atlas; with --rasters satellite scenes go to a reference, and what changed is
    mapped; with --groups brains are averaged to a template, Landsat dates go onto one another, and tiles
    become one picture. FOLDER is demo, demo-rasters or demo-groups unless given. Nothing is downloaded: the
    images are part of Python packages; the message names one that is not installed.

    \b
    regflow demo                         results in demo/results/report/index.html
    regflow demo scenes --rasters
    regflow demo --groups                results in demo-groups/results
    """
    from regflow.examples import groups, rasters, volumes
    from regflow.examples.running import make_and_run, run_study

    kind = kind or "volumes"
    if kind != "volumes" and spacing_mm is not None:
        raise click.UsageError("--spacing-mm is for volumes; leave it out")
    makers: dict[str, Callable[[Path], None]] = {
        "volumes": partial(volumes.build_volume_study, spacing_mm=spacing_mm),
        "rasters": rasters.build_raster_study,
        "groups": groups.build_group_data,
    }
    run = groups.run_groups if kind == "groups" else partial(run_study, cores=cores)
    raise SystemExit(make_and_run(folder or Path(FOLDERS[kind]), makers[kind], None if build_only else run))
