"""``regflow demo``: real data that arrive with installed packages, run from the sheet to the report."""

from functools import partial
from pathlib import Path

import click


@click.command(short_help="Run a worked example on real data.")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--rasters", is_flag=True, help="Satellite scenes instead of brains.")
@click.option("--cores", "-j", default="all", show_default=True, help="Cores to use.")
@click.option("--spacing-mm", type=float, help="Coarser volumes, for a quick look [default: 1 mm].")
@click.option("--build-only", is_flag=True, help="Make the data and the configuration, run nothing.")
def demo(folder: Path | None, rasters: bool, cores: str, spacing_mm: float | None, build_only: bool) -> None:
    r"""Make a study in FOLDER from real images, run it, and name its report.

    Brains go to the MNI atlas; with --rasters satellite scenes go to a reference, and what changed is
    mapped. FOLDER is demo or demo-rasters unless given. Nothing is downloaded: the images are part of
    Python packages; the message names one that is not installed.

    \b
    regflow demo                         results in demo/results/report/index.html
    regflow demo scenes --rasters
    """
    from regflow.examples import rasters as raster_demo
    from regflow.examples import volumes
    from regflow.examples.running import make_and_run

    if rasters and spacing_mm is not None:
        raise click.UsageError("--spacing-mm is for volumes; leave it out")
    make = (
        raster_demo.build_raster_study
        if rasters
        else partial(volumes.build_volume_study, spacing_mm=spacing_mm)
    )
    chosen = folder or Path("demo-rasters" if rasters else "demo")
    raise SystemExit(make_and_run(chosen, cores, make, build_only=build_only))
