"""``regflow stack``: serial sections to one volume."""

from pathlib import Path
from typing import Any

import click

from regflow.commands.settings import add_setting_options, read_section_options


@click.command(short_help="Assemble serial sections into one volume.")
@click.argument("sections", nargs=-1, metavar="SECTIONS...")
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True, help="The folder to make.")
@click.option("--table", metavar="FILE", help="CSV or TSV with the columns section and perhaps number.")
@click.option("--reference", metavar="FILE", help="Volume whose shape the stack is given.")
@click.option("--pixel-size-um", type=click.FloatRange(0, min_open=True), help="Width and height of a pixel.")
@click.option("--section-um", type=click.FloatRange(0, min_open=True), help="Distance of sections.")
@click.option(
    "--turn",
    "turn_deg",
    type=click.FloatRange(0, 180),
    metavar="DEGREES",
    help="Largest turn of a section against its neighbor  [default: 180].",
)
@click.option(
    "--mirrored/--no-mirrored", default=None, help="Look for sections the wrong side up  [default: yes]."
)
@click.option(
    "--order",
    type=click.Choice(["keep", "sort"]),
    help="Of sections that belong elsewhere: name them, or put them there  [default: keep].",
)
@click.option(
    "--shape-width",
    type=click.FloatRange(1),
    metavar="SECTIONS",
    help="Over how many the block's shape is as scanned  [default: as predicts their places best].",
)
@click.option(
    "--deform/--no-deform", default=None, help="Bend sections onto their neighbors  [default: yes]."
)
@click.option("--rounds", type=click.IntRange(1), help="How often every section is bent  [default: 2].")
@click.option(
    "--bend",
    "bend_percent",
    type=click.FloatRange(0.5),
    metavar="PERCENT",
    help="Width over which a bend is smooth, of the section's diagonal  [default: 7].",
)
@click.option(
    "--across", type=click.IntRange(64), help="Pixels at which sections are compared  [default: 256]."
)
@click.option(
    "--fill",
    type=click.Choice(["none", "neighbor", "interpolate"]),
    help="What stands for missing and damaged sections  [default: none].",
)
@add_setting_options
@click.option("--threads", type=click.IntRange(1), help="No result depends on it  [default: all cores].")
def stack(sections: tuple[str, ...], output: Path, threads: int | None, **given: Any) -> None:
    r"""Assemble SECTIONS, files, folders, patterns or a TIFF with pages, into one volume.

    Sections follow one another by the numbers in their names. Each is compared with its neighbors and theirs,
    turned by any angle and the wrong side up, too; those that are torn, missing or out of order are named and
    bridged. The block keeps its own slow shape. Then every section is bent onto its neighbors.

    \b
    regflow stack slides -o block --pixel-size-um 20 --section-um 50
    regflow stack 'slides/*.png' -o block --order sort --fill interpolate

    The folder gets stack.nii.gz, stack.ome.tif, transforms/NAME.h5, sections.tsv, links.tsv, stack.json and
    report.html.
    """
    from regflow.core.logs import show_progress_log
    from regflow.pipeline.stack import assemble_stack

    settings = read_section_options(given, "rasters", "stack")
    sources = list(sections) or settings.pop("sections", [])
    with show_progress_log("stack", 1):
        found = assemble_stack(sources, output, config=settings, threads=threads)
    sound = sum(row["state"] == "sound" for row in found.sections)
    click.echo(f"{sound} of {len(found.sections)} sections are sound; see {output}")
