"""``regflow mosaic``: overlapping tiles to one picture."""

from pathlib import Path
from typing import Any

import click

from regflow.commands.settings import add_setting_options, read_section_options


@click.command(short_help="Stitch overlapping tiles into one picture.")
@click.argument("tiles", nargs=-1, metavar="TILES...")
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True, help="The folder to make.")
@click.option("--table", metavar="FILE", help="CSV or TSV with the columns tile, x, y and perhaps channel.")
@click.option("--pattern", metavar="TEXT", help="Of the tiles' names: 'img_r{row}_c{column}.tif'.")
@click.option("--grid", metavar="5x4", help="Columns and rows of tiles whose names say nothing.")
@click.option("--order", type=click.Choice(["rows", "snake"]), help="Of such tiles  [default: rows].")
@click.option(
    "--overlap",
    "overlap_percent",
    type=click.FloatRange(0, 90),
    metavar="PERCENT",
    help="Of neighbors, where rows and columns are known  [default: measured].",
)
@click.option(
    "--reach",
    "reach_px",
    type=click.FloatRange(1),
    metavar="PX",
    help="By how much expected offsets may be wrong  [default: 40].",
)
@click.option("--position-unit", type=click.Choice(["px", "um"]), help="Of x and y  [default: px].")
@click.option("--pixel-size-um", type=click.FloatRange(0, min_open=True), help="Width and height of a pixel.")
@click.option("--channel", metavar="NAME", help="Whose images are compared  [default: the first].")
@click.option("--flat-field/--no-flat-field", default=None, help="Correct for uneven light  [default: yes].")
@click.option("--gains/--no-gains", default=None, help="Balance the tiles' brightness  [default: yes].")
@click.option(
    "--blend", type=click.Choice(["feather", "sharpest", "first"]), help="Of overlaps  [default: feather]."
)
@click.option("--interpolation", type=click.Choice(["cubic", "nearest"]), help="[default: cubic].")
@click.option(
    "--format", type=click.Choice(["ome-zarr", "ome-tiff", "cog"]), help="Of the mosaic  [default: ome-zarr]."
)
@add_setting_options
@click.option("--threads", type=click.IntRange(1), help="No result depends on it  [default: all cores].")
def mosaic(
    tiles: tuple[str, ...],
    output: Path,
    threads: int | None,
    **given: Any,
) -> None:
    r"""Stitch TILES, files, folders or patterns of files, into one picture.

    Where tiles lie is told by a table, by their names (MIST's r001_c002, Micro-Manager's Pos_002_001, or
    --pattern), by their georeferences, by --grid, or measured from nothing for a few tiles. Links between
    overlapping tiles are measured to a part of a pixel and made consistent; a link that contradicts the
    others is dropped and named.

    \b
    regflow mosaic scan -o stitched
    regflow mosaic 'scan/*.tif' -o stitched --grid 5x4 --order snake --overlap 10
    regflow mosaic --table stage.csv -o stitched --position-unit um --pixel-size-um 0.65 --format ome-tiff

    The folder gets mosaic.ome.zarr (or mosaic.ome.tif, mosaic.tif), tiles.tsv, links.tsv, mosaic.json and
    report.html.
    """
    from regflow.core.logs import show_progress_log
    from regflow.pipeline.mosaic import stitch_mosaic

    settings = read_section_options(given, "rasters", "mosaic")
    sources = list(tiles) or settings.pop("tiles", [])
    with show_progress_log("mosaic", 1):
        found = stitch_mosaic(sources, output, config=settings, threads=threads)
    click.echo(f"{len(found.positions)} tiles, {found.figures['links']:.0f} links; see {output}")
