"""``regflow register``: one pair, from two files to a folder of results."""

from collections.abc import Mapping
from pathlib import Path
from textwrap import wrap
from typing import Any

import click

from regflow.commands.pair_settings import read_pair_settings
from regflow.commands.settings import add_setting_options, spell_option
from regflow.config.presets import PRESETS

STAGE_COUNTS = {"volumes": 7, "rasters": 8}
"""How many stages the bar counts to: ingest, preprocess (of scenes one for each), initialize, refine, apply,
assess and report."""

_DOCSTRING_MARGIN = " " * 4

_SETTINGS = (
    *("config", "assignments", "initialize", "refine", "transform", "masks", "representation"),
    *("interpolation", "seed"),
)
"""Options that are sections of a configuration; the others are of the pair itself."""


def _path(*names: str, text: str) -> Any:
    return click.option(*names, metavar="FILE", help=text)


@click.command(short_help="Register one pair.")
@click.argument("fixed")
@click.argument("moving")
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True, help="The folder to make.")
@click.option("--preset", metavar="NAME", default="default", show_default=True, help="See below.")
@click.option("--initialize", metavar="METHODS", help="Linear methods, first choice first.")
@click.option("--refine", metavar="METHODS", help="Deformable methods, first choice first; none for linear.")
@click.option(
    "--transform",
    "--model",
    metavar="KIND",
    help="Linear and of this kind, nothing deformed unless --refine says how: rigid, similarity or affine; "
    "of scenes translation, similarity, affine or homography.",
)
@add_setting_options
@_path("--fixed-mask", text="Where the fixed image may steer the registration.")
@_path("--moving-mask", text="Where the moving image may steer it; of scenes, a quality mask.")
@click.option(
    "--masks",
    type=click.Choice(["fixed", "both"]),
    help="Whose masks steer the deformation of volumes.",
)
@_path("--fixed-labels", text="Structures of the fixed image, for Dice and surface distances.")
@_path("--moving-labels", text="Structures of the moving image; they are warped as well.")
@_path(
    "--fixed-landmarks",
    text="Partners of the moving landmarks: they measure the error, or drive 'landmarks'.",
)
@_path("--moving-landmarks", text="Points of the moving image: .csv (x,y,z in LPS mm), .fcsv, .mrk.json.")
@_path("--landmarks", text="Of scenes, pairs of points: QGIS' .points, or fixed_x,fixed_y,moving_x,moving_y.")
@click.option("--modality", help="Of the moving image: T1w, T2w, CT ...")
@click.option("--fixed-modality", help="Of the fixed image.")
@click.option("--volume", help="Which volume of a 4-D moving file, from 0, or which DICOM series.")
@click.option(
    "--bands",
    help="Of the moving scene, to match on: 'B04' or '4,3'  [default: named as the fixed one's, or first].",
)
@click.option("--fixed-bands", help="Of the fixed scene.")
@click.option("--nodata", help="Of the moving scene: a number, nan or none  [default: as declared].")
@click.option("--fixed-nodata", help="Of the fixed scene.")
@click.option("--mask-values", help="Of the moving mask, that exclude a pixel: '3, 8-10' or 'bit1, bit3'.")
@click.option("--fixed-mask-values", help="Of the fixed mask.")
@click.option("--representation", help="Of scenes: intensity, gradient or phase-congruency.")
@click.option(
    "--companion",
    "companions",
    multiple=True,
    metavar="NAME=FILE",
    help="Follows the moving image, resampled once from its own file; repeat it.",
)
@click.option("--classes", multiple=True, metavar="NAME=FILE", help="The same for rasters of classes.")
@click.option("--inverse-image", is_flag=True, help="Also bring the fixed image onto the moving one's grid.")
@_path("--truth", text="A known displacement.tif, to measure the true error with.")
@click.option("--interpolation", help="Of the warped image: nearest, linear, cubic or lanczos.")
@click.option("--seed", type=int, help="Of every random choice [default: 0].")
@click.option("--threads", type=int, help="Threads to use; no result depends on it [default: all cores].")
def register(fixed: str, moving: str, output: Path, preset: str, threads: int | None, **given: Any) -> None:
    r"""Bring MOVING onto FIXED and write the result into a folder.

    Volumes (NIfTI, NRRD, MetaImage, MGH, AFNI, a folder of DICOM slices): the folder gets warped.nii.gz,
    transform.h5 (fixed to moving points, as ITK and ANTs read it), inverse.h5, quality.json and
    report.html, and the warped labels, landmarks and companions if there are any.

    Scenes (GeoTIFF, COG, JP2, PNG and what else GDAL reads): the folder gets warped.tif,
    displacement.tif (dx and dy in CRS units from a fixed point to its place in the moving scene),
    tie_points.gpkg, quality.json and report.html.

    \b
    regflow register atlas.nii.gz subject.nii.gz -o aligned
    regflow register atlas.nii.gz subject.nii.gz -o rigid --transform rigid
    regflow register atlas.nii.gz subject.nii.gz -o aligned --companion flair=flair.nii.gz
    regflow register a.nii.gz b.nii.gz -o ab --refine greedy --set refine.options.greedy.radius='[5, 5, 7]'
    regflow register reference.tif scene.tif -o aligned --fixed-bands B04 --bands B08
    regflow register may.tif june.tif -o aligned --moving-mask scl.tif --mask-values "3, 8-10"

    Every key of config/README.md (config/rasters/README.md for scenes) under preprocess, initialize,
    refine, apply, assess and report can be given. --set overrides the other options, they override
    the file of --config, and that overrides the preset.

    The last line says pass, warn or fail and why; after fail the exit code is 1.

    \b
    {presets}
    """
    from regflow import api
    from regflow.core.logs import show_progress_log
    from regflow.pipeline.exchange import find_kind_of_pair
    from regflow.pipeline.pair_options import refuse_other_kind

    kind = find_kind_of_pair(fixed, moving)
    refuse_other_kind(given, kind, spell_option)
    config = read_pair_settings(given, kind, preset)
    of_pair = {name: value for name, value in given.items() if name not in _SETTINGS} | _parsed(given)
    with show_progress_log("register", STAGE_COUNTS[kind]) as progress:
        result = api.register(
            fixed,
            moving,
            output=output,
            preset=preset,
            config=config,
            threads=threads,
            progress=progress,
            **of_pair,
        )
    verdict = result.verdict
    click.echo(f"{verdict.status}: {verdict.reason}; see {output / 'report.html'}")
    raise SystemExit(1 if verdict.status == "fail" else 0)


def _parsed(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options whose texts on the command line stand for something else."""
    from regflow.cohort.rasters.samples import parse_pairs

    volume = given["volume"]
    return {
        "companions": parse_pairs(given["companions"]),
        "classes": parse_pairs(given["classes"]),
        "volume": int(volume) if volume is not None and volume.isdigit() else volume,
    }


def _presets_told(width: int = 76) -> str:
    """Return the presets of both kinds as lines that stand in the command's docstring."""
    lines = []
    for kind, title in (("volumes", "Presets of volumes:"), ("rasters", "Presets of scenes:")):
        lines.append(title)
        for name, preset in PRESETS[kind].items():
            lines += wrap(f"{name}: {preset.summary}", width, initial_indent="  ", subsequent_indent="      ")
    return ("\n" + _DOCSTRING_MARGIN).join(lines)


register.help = (register.help or "").replace("{presets}", _presets_told())
