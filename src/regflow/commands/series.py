"""``regflow series``: images over time, brought onto one another."""

from pathlib import Path
from typing import Any

import click

from regflow.commands.settings import NumberList, add_setting_options, read_command_settings

_OPTIONS = ("steps", "hub", "model", "onto", "motion", "deform")


@click.command(short_help="Align images over time.")
@click.argument("images", nargs=-1, required=True)
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True, help="The folder to make.")
@click.option("--date", "dates", multiple=True, help="Date of an image; repeat it, in their order.")
@click.option("--mask", "masks", multiple=True, help="Mask of an image; repeat it, in their order.")
@click.option(
    "--mask-values", help="Of scenes' masks, that exclude a pixel: '3, 8-10' or 'bit1'  [default: 0]."
)
@click.option("--bands", help="Of scenes, to register on, by number or name: 'B04'  [default: the first].")
@click.option("--nodata", help="Of scenes: a number, nan or none  [default: as declared].")
@click.option(
    "--steps",
    type=NumberList(int, "1,2,4"),
    metavar="NUMBERS",
    help="Places apart that images are registered over  [default: all pairs of up to 8 images, else 1,2,4].",
)
@click.option(
    "--hub/--no-hub",
    default=None,
    help="Also register all images to the one of which most is valid  [default: hub].",
)
@click.option(
    "--model",
    type=click.Choice(["translation", "rigid", "similarity", "affine"]),
    help="Of each image's map  [default: translation; of volumes rigid].",
)
@click.option("--onto", metavar="NAME", help="Image that all go onto  [default: the middle of all].")
@click.option(
    "--motion",
    type=click.Choice(["remove", "smooth"]),
    help="smooth: remove jitter, keep slow motion  [default: remove].",
)
@click.option(
    "--deform/--no-deform",
    default=None,
    help="Of volumes: measure how volume changed since the first  [default: no-deform].",
)
@click.option("--detect", is_flag=True, help="Map changes along the series; the section detect says how.")
@click.option(
    "--preset", metavar="NAME", default="default", show_default=True, help="As of regflow register."
)
@add_setting_options
@click.option("--seed", type=click.IntRange(0), help="Of every random choice  [default: 0].")
@click.option("--threads", type=click.IntRange(1), help="No result depends on it  [default: all cores].")
def series(
    images: tuple[str, ...],
    output: Path,
    dates: tuple[str, ...],
    masks: tuple[str, ...],
    detect: bool,
    preset: str,
    seed: int | None,
    threads: int | None,
    **given: Any,
) -> None:
    r"""Bring IMAGES of one place or subject over time onto one another.

    IMAGES are scenes, plain pictures or volumes, in the order of their dates, or of their names where none
    has one; one sheet (.tsv, .csv) with the columns sample and moving, and perhaps date and moving_mask; or
    one TIFF with several pages.

    Images are registered to their neighbors, to those some places apart and to the clearest one; of all
    those links one map for each image is found, and links that contradict the others are dropped and named.
    Every image is then resampled once, onto one grid. The folder gets aligned/NAME with the image and its
    transform, series.tsv, links.tsv, closures.tsv and report.html. Stopped at any time, the same command
    goes on where it was. With --deform it also gets volumes.tsv and jacobian/NAME of each session.

    \b
    regflow series dates/*.tif -o aligned --onto 2009-07-27 --detect
    regflow series stack.tsv -o aligned --mask-values 2-4 --steps 1,2,4,8
    regflow series frames/*.png -o steady --motion smooth --model similarity
    regflow series sessions/*.nii.gz -o sessions-aligned --set series.cutoff=3

    Every key of config/README.md or config/rasters/README.md under preprocess, initialize, refine, apply,
    detect and series can be given. After a failure to align any image at all the exit code is 1.
    """
    from regflow.core.logs import show_progress_log
    from regflow.core.threads import count_cores
    from regflow.pipeline.series import align_series_folder, count_series_steps
    from regflow.pipeline.series_objects import SECTIONS, make_scene_reading, make_series_settings
    from regflow.pipeline.series_samples import find_series_kind, read_series_samples

    reading = make_scene_reading(given["bands"], given["nodata"], given["mask_values"])
    samples = read_series_samples(images, dates=dates, masks=masks, reading=reading)
    kind = find_series_kind(samples)
    chosen = read_command_settings(given, kind, SECTIONS[kind], "series", _OPTIONS)
    settings = make_series_settings(chosen, kind, preset, seed)
    with show_progress_log("series", count_series_steps(samples, settings)) as progress:
        record = align_series_folder(
            output, samples, settings, threads=threads or count_cores(), detect=detect, progress=progress
        )
    for row in record["images"]:
        if row["verdict"] != "pass":
            click.echo(f"{row['image']}: {row['reason']}")
    for row in record["links"]:
        if row["reason"].startswith("contradicts"):
            click.echo(f"{row['first']} to {row['second']}: {row['reason']}; dropped")
    used = sum(row["used"] == "yes" for row in record["images"])
    click.echo(f"{used} of {len(record['images'])} images aligned; see {output / 'report.html'}")
