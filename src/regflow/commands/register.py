"""``regflow register``: one pair, from two files to a folder of results."""

import re
from collections.abc import Mapping
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import click

from regflow.commands.pair_settings import pair_settings
from regflow.commands.settings import setting_options
from regflow.config.presets import PRESETS
from regflow.core.errors import InputError

if TYPE_CHECKING:
    from regflow.cohort.rasters.samples import RasterSample
    from regflow.core.gate import Verdict
    from regflow.core.progress import StageListener

STAGES = {"volumes": 7, "rasters": 8}
"""How many stages the bar counts to: ingest, preprocess (of scenes one for each), initialize, refine, apply,
assess and report."""

ONLY_VOLUMES = (
    *("fixed_labels", "moving_labels", "fixed_landmarks", "moving_landmarks"),
    *("modality", "fixed_modality", "volume", "masks"),
)
_DOCSTRING_MARGIN = " " * 4

ONLY_RASTERS = (
    *("bands", "fixed_bands", "nodata", "fixed_nodata", "mask_values", "fixed_mask_values"),
    *("representation", "classes", "truth"),
)


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
@setting_options
@_path("--fixed-mask", text="Where the fixed image may steer the registration.")
@_path("--moving-mask", text="Where the moving image may steer it; of scenes, a quality mask.")
@click.option(
    "--masks",
    type=click.Choice(["fixed", "both"]),
    help="Whose masks steer the deformation of volumes.",
)
@_path("--fixed-labels", text="Structures of the fixed image, for Dice and surface distances.")
@_path("--moving-labels", text="Structures of the moving image; they are warped as well.")
@_path("--fixed-landmarks", text="Partners of the moving landmarks, to measure the error in mm.")
@_path("--moving-landmarks", text="Points of the moving image: .csv (x,y,z in LPS mm), .fcsv, .mrk.json.")
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
    from regflow.cohort.examples import resolve_example
    from regflow.core.logs import progress_log

    files = resolve_example(fixed), resolve_example(moving)
    kinds = {_kind(path) for path in files}
    if len(kinds) > 1:
        raise InputError(f"{fixed} and {moving}: one is a volume and one a scene; give two of a kind")
    kind = kinds.pop()
    _refuse_others(given, ONLY_VOLUMES if kind == "rasters" else ONLY_RASTERS, kind)
    run = _register_scenes if kind == "rasters" else _register_volumes
    with progress_log("register", STAGES[kind]) as progress:
        verdict = run(*files, output, preset, threads, progress, given)
    click.echo(f"{verdict.status}: {verdict.reason}; see {output / 'report.html'}")
    raise SystemExit(1 if verdict.status == "fail" else 0)


def _presets_told(width: int = 76) -> str:
    """Return the presets of both kinds as lines that stand in the command's docstring."""
    lines = []
    for kind, title in (("volumes", "Presets of volumes:"), ("rasters", "Presets of scenes:")):
        lines.append(title)
        for name, preset in PRESETS[kind].items():
            lines += wrap(f"{name}: {preset.summary}", width, initial_indent="  ", subsequent_indent="      ")
    return ("\n" + _DOCSTRING_MARGIN).join(lines)


register.help = (register.help or "").replace("{presets}", _presets_told())


def _kind(path: str) -> str:
    from regflow.io.volumes import is_volume

    return "volumes" if is_volume(path) else "rasters"


def _refuse_others(given: Mapping[str, Any], names: tuple[str, ...], kind: str) -> None:
    for name in names:
        if given[name]:
            raise InputError(f"--{name.replace('_', '-')} is not for {kind}; leave it out")


def _register_volumes(
    fixed: str,
    moving: str,
    output: Path,
    preset: str,
    threads: int | None,
    progress: "StageListener",
    given: Mapping[str, Any],
) -> "Verdict":
    from regflow.cohort.rasters.samples import as_pairs
    from regflow.cohort.volumes.samples import Fixed, Sample
    from regflow.pipeline.volume_pair import register_pair

    files = {key: given[key] for key in given if key.endswith(("_mask", "_labels", "_landmarks"))}
    atlas = Fixed(
        "fixed",
        fixed,
        files["fixed_mask"],
        files["fixed_labels"],
        files["fixed_landmarks"],
        given["fixed_modality"],
    )
    volume = given["volume"]
    subject = Sample(
        sample=re.split(r"\.nii|\.[^.]*$", Path(moving).name)[0] or "moving",
        moving=moving,
        fixed=atlas,
        companions=as_pairs(given["companions"]),
        modality=given["modality"],
        volume=int(volume) if volume is not None and volume.isdigit() else volume,
        **{key: path for key, path in files.items() if key not in ("fixed_mask", "fixed_labels")},
    )
    config = pair_settings(given, "volumes", preset)
    return register_pair(
        atlas, subject, output, preset=preset, config=config, threads=threads, progress=progress
    ).verdict


def _register_scenes(
    fixed: str,
    moving: str,
    output: Path,
    preset: str,
    threads: int | None,
    progress: "StageListener",
    given: Mapping[str, Any],
) -> "Verdict":
    from regflow.pipeline.raster_pair import register_scenes

    config = pair_settings(given, "rasters", preset)
    pair = _scene_pair(fixed, moving, given)
    return register_scenes(
        pair,
        output,
        preset=preset,
        config=config,
        inverse_image=given["inverse_image"],
        threads=threads,
        progress=progress,
    ).verdict


def _scene_pair(fixed: str, moving: str, given: Mapping[str, Any]) -> "RasterSample":
    from regflow.cohort.rasters.samples import (
        RasterSample,
        Reference,
        Scene,
        as_bands,
        as_nodata,
        as_pairs,
        as_quality,
    )

    names = ("", "fixed_")
    scenes = [
        Scene(
            path,
            bands=as_bands(given[f"{side}bands"]),
            nodata=as_nodata(given[f"{side}nodata"]),
            mask=given["moving_mask" if not side else "fixed_mask"],
            quality=as_quality(given[f"{side}mask_values"]),
        )
        for path, side in zip((moving, fixed), names, strict=True)
    ]
    return RasterSample(
        Path(scenes[0].image).name.split(".")[0] or "moving",
        scenes[0],
        Reference("fixed", scenes[1]),
        companions=as_pairs(given["companions"]),
        classes=as_pairs(given["classes"]),
        truth=given["truth"],
    )
