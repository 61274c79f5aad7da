"""``regflow apply``: carry an image, a label map or points through a transform."""

from pathlib import Path
from typing import Any

import click

from regflow.commands.settings import spell_option

FILE = click.Path(path_type=Path)


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
def apply(transform: Path, source: str, output: Path, volume: str | None, **given: Any) -> None:
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
    from regflow.api import apply_transform
    from regflow.pipeline.carry import find_kind_of_transform, refuse_misuse

    given["volume"] = int(volume) if volume is not None and volume.isdigit() else volume
    kind = find_kind_of_transform(transform)
    refuse_misuse(given, kind, spell_option)
    apply_transform(transform, source, output=output, **given)
    if kind == "rasters" and given["inverse"] and not given["points"]:
        _tell_inverse_error(output)


def _tell_inverse_error(product: Path) -> None:
    """Tell how far the inverse errs, which stands in the tags of a scene's file."""
    from regflow.io.open_rasters import open_raster

    tags = open_raster(product).tags()
    p95, most = (float(tags[f"REGFLOW_INVERSE_ERROR_{name}_PX"]) for name in ("P95", "MAX"))
    click.echo(
        f"the inverse errs by {p95:.3g} pixels or less at 95% of the points measured, by {most:.3g} at most"
    )
