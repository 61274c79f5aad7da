"""``regflow detect``: what changed between aligned scenes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from regflow.commands.settings import (
    Part,
    checked_options,
    read_assignments,
    read_settings,
    setting_options,
)
from regflow.core.addresses import public
from regflow.core.errors import InputError

if TYPE_CHECKING:
    from regflow.stages.rasters.detect_inputs import DatedScene


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
@setting_options
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
    from regflow.pipeline.change import detect_series

    settings = _settings(given)
    found = detect_series(
        _dated(scenes, given),
        output,
        settings,
        pairs=settings["pairs"],
        chunk=given["chunk"],
        threads=threads,
    )
    changed = f"{found.figures['changed_percent']:.2f}% changed, {found.figures['regions']:.0f} places"
    click.echo(f"{found.status}: {found.reason} ({changed}); see {output}")
    raise SystemExit(1 if found.status == "fail" else 0)


def _dated(scenes: tuple[str, ...], given: dict[str, Any]) -> list["DatedScene"]:
    from regflow.cohort.rasters.samples import as_nodata, as_quality
    from regflow.stages.rasters.detect_inputs import DatedScene
    from regflow.stages.rasters.views import excluded_values

    masks = _each(given["masks"], scenes, "--mask")
    dates = _each(given["dates"], scenes, "--date")
    quality, nodata = as_quality(given["mask_values"]), as_nodata(given["nodata"])
    names = _names([public(path) for path in scenes])
    return [
        DatedScene(path, name, date, nodata, mask, excluded_values(quality, mask))
        for path, name, date, mask in zip(scenes, names, dates, masks, strict=True)
    ]


def _settings(given: dict[str, Any]) -> dict[str, Any]:
    """Return the complete ``detect`` section: the file's, the options on it, and on top what is set.

    Raises:
        InputError: a key or a value is wrong, or no method is left.
    """
    from regflow.config.loading import load_config
    from regflow.config.presets import merged

    sections = ("detect",)
    file = read_settings(given["config"], "rasters", sections, "detect") if given["config"] else {}
    own = checked_options(_own(given), "rasters")
    assigned = read_assignments(given["assignments"], "rasters", sections, "detect")
    chosen = merged(merged(file, own), assigned)
    settings: dict[str, Any] = load_config({"kind": "rasters", **chosen}, with_samples=False)["detect"]
    if settings["method"] is None:
        raise InputError("detect.method is null, but regflow detect needs a method; name one by --method")
    return settings


def _own(given: dict[str, Any]) -> dict[str, Part]:
    """Return the settings that the command's own options stand for, by option."""
    from regflow.cohort.rasters.samples import as_bands

    named = {
        "--method": ("method", given["method"]),
        "--pairs": ("pairs", given["pairs"]),
        "--threshold": ("threshold", given["threshold"]),
        "--level": ("level", given["level"]),
        "--mapping-unit": ("mapping_unit_px", given["mapping_unit_px"]),
        "--residual": ("residual_px", given["residual_px"]),
        "--normalized": ("normalized", given["normalized"] or None),
    }
    parts = {option: {key: value} for option, (key, value) in named.items() if value is not None}
    if given["bands"]:
        parts["--bands"] = {"bands": list(as_bands(given["bands"]))}
    if given["all_pixels"]:
        parts["--all-pixels"] = {"pixels": None}
    if given["indices"]:
        pairs = [[int(n) for n in _numbers(text, "--index")] for text in given["indices"]]
        parts["--index"] = {"options": _of_methods_with("indices", pairs)}
    return {option: {"detect": part} for option, part in parts.items()}


def _of_methods_with(option: str, value: Any) -> dict[str, Part]:
    """Return an option's value for each method that has it."""
    from regflow.methods.detect import METHODS

    return {name: {option: value} for name, method in METHODS.items() if option in method.options}


def _each(values: tuple[str, ...], scenes: tuple[str, ...], option: str) -> list[str | None]:
    if values and len(values) != len(scenes):
        raise InputError(f"{option} is given {len(values)} times for {len(scenes)} scenes; give one for each")
    return list(values) or [None] * len(scenes)


def _names(scenes: Sequence[str]) -> list[str]:
    """Return a name for each scene, with its folder's where file names repeat."""
    stems = [Path(path).stem for path in scenes]
    if len(set(stems)) == len(stems):
        return stems
    return [f"{Path(path).parent.name}-{stem}" for path, stem in zip(scenes, stems, strict=True)]


def _numbers(text: str, option: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"{option} is '{text}', but must be numbers with commas between") from error
