"""``regflow detect``: what changed between aligned scenes."""

from pathlib import Path
from typing import Any

import click

from regflow.commands.settings import add_setting_options, read_assignments, read_settings, spell_option
from regflow.core.errors import InputError

_FLAGS = {
    "masks": "--mask",
    "dates": "--date",
    "indices": "--index",
    "mapping_unit_px": "--mapping-unit",
    "residual_px": "--residual",
}


@click.command(short_help="Map what changed between aligned scenes.")
@click.argument("scenes", nargs=-1, required=True, metavar="BEFORE AFTER [LATER...]")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), required=True, help="Folder for the results."
)
@click.option(
    "--method",
    metavar="NAME",
    help="How change is told from noise: a method of the key detect.method  [default: as it says].",
)
@add_setting_options
@click.option("--bands", help="Bands to compare, by number or name: 'B04,B08'  [default: all].")
@click.option(
    "--index",
    "indices",
    multiple=True,
    metavar="A,B",
    help="For methods that compare indices: (A - B) / (A + B) of two of the bands compared; NDVI is nir,red.",
)
@click.option(
    "--threshold", type=click.Choice(["chi-square", "otsu"]), help="What parts changed from unchanged."
)
@click.option(
    "--level",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Chi-square level, 0 to 1: unchanged pixels left unmarked.",
)
@click.option(
    "--mapping-unit", "mapping_unit_px", type=click.IntRange(1), help="Pixels of the smallest change kept."
)
@click.option(
    "--residual", "residual_px", type=click.FloatRange(0), help="Remaining registration error in pixels."
)
@click.option("--mask", "masks", multiple=True, help="Quality mask of a scene; repeat it, in their order.")
@click.option("--mask-values", help="Of the masks, that exclude a pixel: '3, 8-10' or 'bit1'  [default: 0].")
@click.option("--nodata", help="A number, nan or none  [default: as declared].")
@click.option("--date", "dates", multiple=True, help="Date of a scene; repeat it, in their order.")
@click.option(
    "--pairs",
    type=click.Choice(["reference", "consecutive"]),
    help="With more than two scenes: each with the first, or with the date before  [default: reference].",
)
@click.option("--normalized", is_flag=True, help="Also write the later date in the earlier's radiometry.")
@click.option("--all-pixels", is_flag=True, help="Statistics from every pixel, not from an even sample.")
@click.option(
    "--chunk", type=click.IntRange(1), help="Pixels along a side of the blocks read; no result depends on it."
)
@click.option(
    "--threads", type=click.IntRange(1), help="Threads to use; no result depends on it  [default: all cores]."
)
def detect(scenes: tuple[str, ...], output: Path, threads: int | None, **given: Any) -> None:
    r"""Map what changed from BEFORE to AFTER, which lie on the same pixels.

    The folder gets magnitude.tif, probability.tif (of no change), change.tif (0 unchanged, 1 changed,
    2 explained by the remaining registration error, 255 no data), changes.gpkg, detect.json and
    report.html. With more than two scenes each comparison gets a folder of its own.

    \b
    regflow detect 2019.tif aligned/warped.tif -o change
    regflow detect a.tif b.tif -o change --method index-difference --index 4,3
    regflow detect a.tif b.tif c.tif -o change --pairs consecutive --date 2019-05-01 ...
    regflow detect 2019.tif aligned/warped.tif -o change --set detect.no_change=0.8

    Every key of config/rasters/README.md under detect can be given. --set overrides the other
    options, and they override the file of --config.

    The last line says pass, warn or fail and why; after fail the exit code is 1.
    """
    from regflow.api import detect_changes
    from regflow.pipeline.change_options import check_counts

    settings = _settings(given)
    check_counts(given, len(scenes), _spelled)
    of_scenes = {name: given[name] for name in ("masks", "mask_values", "nodata", "dates", "chunk")}
    found = detect_changes(
        *scenes, output=output, config={"detect": settings}, threads=threads, **of_scenes
    ).verdict
    changed = f"{found.figures['changed_percent']:.2f}% changed, {found.figures['regions']:.0f} places"
    click.echo(f"{found.status}: {found.reason} ({changed}); see {output}")
    raise SystemExit(1 if found.status == "fail" else 0)


def _spelled(name: str) -> str:
    return _FLAGS.get(name, spell_option(name))


def _settings(given: dict[str, Any]) -> dict[str, Any]:
    """Return the complete ``detect`` section: the file's, the options on it, and on top what is set.

    Raises:
        InputError: a key or a value is wrong, or no method is left.
    """
    from regflow.pipeline.change_options import make_change_config

    sections = ("detect",)
    file = read_settings(given["config"], "rasters", sections, "detect") if given["config"] else {}
    assigned = read_assignments(given["assignments"], "rasters", sections, "detect")
    pairs = [[int(n) for n in _numbers(text, "--index")] for text in given["indices"]]
    own = {**given, "indices": pairs}
    return make_change_config(own, below=file, above=assigned, spelled=_spelled)


def _numbers(text: str, option: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"{option} is '{text}', but must be numbers with commas between") from error
