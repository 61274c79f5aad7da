"""``regflow apply``: carry an image, a label map or points through a transform."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from regflow.core.errors import InputError

if TYPE_CHECKING:
    from regflow.core.grid import Grid
    from regflow.core.transform import Transform
    from regflow.io.header import Volume

FILE = click.Path(path_type=Path)

SCENE_TRANSFORMS = (".json", ".tif", ".tiff")
"""Endings of transforms between scenes; a folder holds one as well."""


@click.command(short_help="Carry an image, labels or points through a transform.")
@click.argument("transform", type=FILE)
@click.argument("source", metavar="INPUT")
@click.option("--reference", "-r", metavar="FILE", help="The fixed image, whose grid the result takes.")
@click.option("--output", "-o", type=FILE, required=True, help="The file to write.")
@click.option("--labels", is_flag=True, help="INPUT is a label map: no label is invented.")
@click.option("--points", is_flag=True, help="INPUT holds points: see below.")
@click.option(
    "--inverse", is_flag=True, help="The other way: from the fixed image's space to the moving one's."
)
@click.option(
    "--interpolation",
    type=click.Choice(["nearest", "linear", "cubic", "lanczos"]),
    default="linear",
    show_default=True,
    help="Of an image.",
)
@click.option(
    "--outside", type=float, help="Value where INPUT has no sample  [default: the image's own background]."
)
@click.option("--smooth", is_flag=True, help="Label borders between samples, instead of the nearest sample.")
@click.option("--volume", help="Which volume of a 4-D INPUT, from 0, or which DICOM series  [default: all].")
@click.option("--nodata", help="Of a scene INPUT: a number, nan or none  [default: as declared].")
def apply(
    transform: Path,
    source: str,
    reference: str | None,
    output: Path,
    labels: bool,
    points: bool,
    inverse: bool,
    interpolation: str,
    outside: float | None,
    smooth: bool,
    volume: str | None,
    nodata: str | None,
) -> None:
    r"""Carry INPUT, which lies in the moving image's space, into the fixed image's, by TRANSFORM.

    TRANSFORM is the same file for everything: transform.h5 of regflow, or any ITK transform from
    fixed to moving points. Points (.csv, .fcsv, .mrk.json) go by its inverse, which is what brings
    them along with an image.

    For scenes it is transform.json, the folder that holds it, or displacement.tif: other bands of
    the moving scene follow it, each at its own resolution; --labels is for classes, which take the
    nearest pixel. Points (.csv with columns x and y, .gpkg) are in the fixed scene's CRS, or in
    pixels where it has none. With --inverse the reference is the moving scene, and how far the
    inverse errs is told.

    \b
    regflow apply aligned/transform.h5 flair.nii.gz -r atlas.nii.gz -o flair_on_atlas.nii.gz
    regflow apply aligned/transform.h5 seg.nii.gz -r atlas.nii.gz --labels -o seg_on_atlas.nii.gz
    regflow apply aligned/transform.h5 landmarks.csv --points -o landmarks_on_atlas.csv
    regflow apply aligned/transform.json B11.jp2 -r reference.tif -o B11_on_reference.tif
    regflow apply aligned/displacement.tif wells.csv --points -o wells_on_reference.csv
    regflow apply aligned fields.tif --labels --inverse -r scene.tif -o fields_on_scene.tif
    """
    from regflow.io.transforms import read_transform

    _refuse_together(labels, points, outside)
    if reference is None and not points:
        raise InputError("--reference is missing; name the image whose grid the result takes")
    if transform.suffix.lower() in SCENE_TRANSFORMS or transform.is_dir():
        if smooth or volume is not None or outside is not None:
            raise InputError("--smooth, --volume and --outside are not for scenes; leave them out")
        what = "labels" if labels else "points" if points else "image"
        _apply_to_scene(transform, source, output, reference, what, inverse, interpolation, nodata)
        return
    if nodata is not None:
        raise InputError("--nodata is not for volumes; leave it out")
    grid = None if reference is None else _grid(reference)
    forward = read_transform(transform, grid)
    pull = forward.inverse() if inverse else forward
    if points:
        _apply_to_points(source, output, forward if inverse else forward.inverse())
        return
    assert grid is not None
    chosen = int(volume) if volume is not None and volume.isdigit() else volume
    if labels:
        _apply_to_labels(source, chosen, output, grid, pull, "smooth" if smooth else "nearest")
    else:
        how = {"interpolation": interpolation, "outside": outside}
        _apply_to_image(source, chosen, output, grid, pull, how)


def _refuse_together(labels: bool, points: bool, outside: float | None) -> None:
    """Refuse options that contradict each other."""
    if labels and points:
        raise InputError("--labels and --points are both given; INPUT is one of the two")
    if outside is not None and (labels or points):
        raise InputError("--outside is for images; label maps have 0 there, and points no background")


def _grid(reference: str) -> "Grid":
    from regflow.io.volumes import read_header

    return read_header(reference).grid


def _apply_to_points(source: str, output: Path, push: "Transform") -> None:
    from regflow.io.landmarks import read_landmarks, write_landmarks
    from regflow.stages.volumes.apply import map_landmarks

    write_landmarks(output, map_landmarks(read_landmarks(source), push))


def _apply_to_labels(
    source: str, volume: "Volume", output: Path, grid: "Grid", pull: "Transform", mode: str
) -> None:
    from regflow.io.volumes import read_labels, write_volume
    from regflow.stages.volumes.apply import warp_labels

    write_volume(output, warp_labels(*read_labels(source, volume), grid, pull, mode), grid)


def _apply_to_image(
    source: str, volume: "Volume", output: Path, grid: "Grid", pull: "Transform", how: dict[str, Any]
) -> None:
    """Write one volume, or all of a file of several when none is named."""
    from regflow.io.volumes import read_header, read_volume, refuse_diffusion_series, write_volume
    from regflow.stages.volumes.apply import warp_companion, warp_image

    if volume is None:
        refuse_diffusion_series(source)
    if volume is None and read_header(source).volumes > 1:
        warp_companion(output, source, grid, pull, how)
        return
    warped = warp_image(read_volume(source, volume), grid, pull, **how)
    write_volume(output, warped.channel, grid)


def _apply_to_scene(
    transform: Path,
    source: str,
    output: Path,
    reference: str | None,
    what: str,
    inverse: bool,
    interpolation: str,
    nodata: str | None,
) -> None:
    from regflow.cohort.rasters.samples import as_nodata
    from regflow.pipeline.scene_warp import Source, carry_points, carry_raster, read_correction

    correction = read_correction(transform)
    if what == "points":
        carry_points(correction, source, output, inverse=inverse)
        return
    assert reference is not None
    figures = carry_raster(
        correction,
        Source(source, what == "labels", as_nodata(nodata)),
        output,
        reference=reference,
        resampling={"linear": "bilinear"}.get(interpolation, interpolation),
        inverse=inverse,
    )
    if inverse:
        click.echo(
            f"the inverse errs by {figures['inverse_error_p95_px']:.3g} pixels or less at 95% of the points "
            f"measured, by {figures['inverse_error_max_px']:.3g} at most"
        )
