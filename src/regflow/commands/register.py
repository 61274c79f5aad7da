"""``regflow register``: one pair, from two files to a folder of results."""

import re
from pathlib import Path
from typing import Any

import click

STAGES = 8
"""Ingest, preprocess of both images, initialize, refine, apply, assess and report: the bar's steps."""


def _path(*names: str, text: str) -> Any:
    return click.option(*names, metavar="FILE", help=text)


@click.command(short_help="Register one pair.")
@click.argument("fixed")
@click.argument("moving")
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True, help="The folder to make.")
@click.option("--preset", default="default", show_default=True, help="fast, default or accurate.")
@click.option("--initialize", metavar="METHODS", help="Rigid and affine methods, first choice first.")
@click.option("--refine", metavar="METHODS", help="Deformable methods, first choice first; none for affine.")
@_path("--fixed-mask", text="Where the fixed image may steer the registration.")
@_path("--moving-mask", text="Where the moving image may steer the registration.")
@_path("--fixed-labels", text="Structures of the fixed image, for Dice and surface distances.")
@_path("--moving-labels", text="Structures of the moving image; they are warped as well.")
@_path("--fixed-landmarks", text="Partners of the moving landmarks, to measure the error in mm.")
@_path("--moving-landmarks", text="Points of the moving image: .csv (x,y,z in LPS mm), .fcsv, .mrk.json.")
@click.option("--modality", help="Of the moving image: T1w, T2w, CT ...")
@click.option("--fixed-modality", help="Of the fixed image.")
@click.option("--volume", help="Which volume of a 4-D moving file, from 0, or which DICOM series.")
@click.option("--interpolation", help="Of the warped image: nearest, linear, cubic or lanczos.")
@click.option("--seed", type=int, help="Of every random choice [default: 0].")
@click.option("--threads", type=int, help="Threads to use; no result depends on it [default: all cores].")
def register(fixed: str, moving: str, output: Path, preset: str, threads: int | None, **given: Any) -> None:
    r"""Bring MOVING onto FIXED and write the result into a folder.

    The folder gets warped.nii.gz, transform.h5 (fixed to moving points, as ITK and ANTs read it),
    inverse.h5, quality.json and report.html, and the warped labels and landmarks if there are any.
    NIfTI, NRRD, MetaImage and folders of DICOM slices are read.

    \b
    regflow register atlas.nii.gz subject.nii.gz -o aligned
    regflow register atlas.nii.gz subject.nii.gz -o rigid --refine none --preset fast
    regflow register ct.nrrd mr.nrrd -o aligned --initialize mutual-information --moving-mask brain.nrrd

    The last line says pass, warn or fail and why; after fail the exit code is 1.
    """
    from regflow.core.logs import progress_log
    from regflow.pair import register_pair
    from regflow.samples import Fixed, Sample, resolve_example

    files = {key: given[key] for key in given if key.endswith(("_mask", "_labels", "_landmarks"))}
    atlas = Fixed(
        "fixed",
        resolve_example(fixed),
        files["fixed_mask"],
        files["fixed_labels"],
        files["fixed_landmarks"],
        given["fixed_modality"],
    )
    volume = given["volume"]
    subject = Sample(
        sample=re.split(r"\.nii|\.[^.]*$", Path(moving).name)[0] or "moving",
        moving=resolve_example(moving),
        fixed=atlas,
        modality=given["modality"],
        volume=int(volume) if volume is not None and volume.isdigit() else volume,
        **{key: path for key, path in files.items() if key not in ("fixed_mask", "fixed_labels")},
    )
    with progress_log("register", STAGES, steps_of="regflow.journal"):
        result = register_pair(atlas, subject, output, preset=preset, config=_config(given), threads=threads)
    click.echo(f"{result.verdict.status}: {result.verdict.reason}; see {output / 'report.html'}")
    raise SystemExit(1 if result.verdict.status == "fail" else 0)


def _config(given: dict[str, Any]) -> dict[str, Any]:
    """Return the options as sections of a configuration, which checks them."""
    ladders = {
        stage: {"methods": [name.strip() for name in given[stage].split(",")]}
        for stage in ("initialize", "refine")
        if given[stage] is not None
    }
    apply = {"interpolation": given["interpolation"]} if given["interpolation"] else {}
    seed = {"seed": given["seed"]} if given["seed"] is not None else {}
    return {**ladders, **({"apply": apply} if apply else {}), **seed}
