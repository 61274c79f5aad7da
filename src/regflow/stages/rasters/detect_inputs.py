"""The scenes that change detection compares: which bands of which files, and how they lie."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from regflow.core.addresses import redact_address
from regflow.core.blocks import decimate_data
from regflow.core.errors import InputError
from regflow.core.files import read_json
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.reprojection import is_same_crs, wrap_longitudes
from regflow.core.units import find_meters_per_pixel
from regflow.io.raster_header import Nodata, RasterHeader
from regflow.io.rasters import read_raster_header
from regflow.io.sample_values import apply_stated_scaling
from regflow.io.scenes import describe_view, open_view
from regflow.methods.detect.scene_pair import DatedScenePair
from regflow.stages.rasters.ingest import find_scene, read_manifest
from regflow.stages.rasters.views import list_excluded_values

log = logging.getLogger(__name__)

WARPED_FILE = "warped.tif"
MASK_FILE = "mask.tif"
"""In the apply stage's directory: the moving scene, and its quality mask if it has one."""


class NoCommonBandsError(InputError):
    """Two scenes have no bands that can be compared, and the configuration names none."""


@dataclass(frozen=True)
class DatedScene:
    """A scene of a stack that lies on the reference's pixels.

    Attributes:
        path: the raster.
        name: for people.
        date: ISO 8601, None where unknown.
        nodata: overrides what the file declares.
        mask: a quality mask on the same pixels; None without one.
        mask_values: its values that exclude a pixel.
        scaling: scale and offset of each band as a catalog states them, for files that declare none.
    """

    path: str
    name: str
    date: str | None = None
    nodata: Nodata = "file"
    mask: str | None = None
    mask_values: tuple[float, ...] = ()
    scaling: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", redact_address(self.path))
        object.__setattr__(self, "mask", self.mask and redact_address(self.mask))


def open_pair(
    before: DatedScene, after: DatedScene, bands: Sequence[int | str] | None, margin: int
) -> DatedScenePair:
    """Open two scenes that lie on the same pixels, or on pixels of which one's hold whole ones of the other.

    The finer is averaged to the coarser's pixels.

    Args:
        before: the first date.
        after: the second date.
        bands: of both; None takes those of the same name, else all where both have as many.
        margin: pixels around invalid ones that are left out.

    Raises:
        InputError: the scenes do not lie on one another.
        NoCommonBandsError: they have no bands in common.
    """
    headers = [
        apply_stated_scaling(read_raster_header(scene.path), scene.scaling) for scene in (before, after)
    ]
    for note in (note for header in headers for note in header.notes):
        log.warning("%s", note)
    chosen = (bands, bands) if bands is not None else _common(*headers)
    first, second = (
        _open(scene, header, own) for scene, header, own in zip((before, after), headers, chosen, strict=True)
    )
    return DatedScenePair(*_on_the_same_pixels(first, second, before, after), margin)


def read_fixed_scene(manifest: str | Path) -> DatedScene:
    """Return the fixed scene of a manifest that ingest wrote."""
    content = read_manifest(manifest)
    scene = find_scene(content)
    values = list_excluded_values(scene.quality, scene.mask)
    name, date = content["name"], scene.date
    return DatedScene(scene.image, name, date, scene.nodata, scene.mask, values, scene.scaling)


def find_warped_scene(manifest: str | Path, folder: str | Path) -> DatedScene:
    """Return a registered scene, in the directory of the apply stage; its mask was warped with it."""
    content = read_manifest(manifest)
    scene = find_scene(content)
    mask = Path(folder) / MASK_FILE
    known = mask.is_file()
    return DatedScene(
        str(Path(folder) / WARPED_FILE),
        content["name"],
        scene.date,
        mask=str(mask) if known else None,
        mask_values=list_excluded_values(scene.quality, scene.mask) if known else (),
    )


def find_residual_px(assessed: str | Path, grid: Grid) -> float | None:
    """Return the largest displacement that is plausible after registration, in pixels of a grid.

    The radius that holds 95% of the check points' residuals; None where there were no check points.
    """
    quality = read_json(Path(assessed) / "quality.json")
    found = quality["figures"].get("ce95_px_refine")
    if found is None:
        return None
    measured, here = quality.get("pixel_m"), find_meters_per_pixel(grid)
    scale = 1.0 if measured is None or here is None else math.hypot(*measured) / math.hypot(*here)
    return float(found) * scale


def _open(scene: DatedScene, header: RasterHeader, bands: Sequence[int | str] | None) -> Image:
    if header.georeference in ("gcps", "rpcs"):
        raise InputError(f"{scene.path}: its pixels are not on a map yet; bring it onto the reference first")
    view = describe_view(
        header, bands=bands, nodata=scene.nodata, mask=scene.mask, mask_values=scene.mask_values
    )
    return open_view(view)


def _on_the_same_pixels(
    first: Image, second: Image, before: DatedScene, after: DatedScene
) -> tuple[Image, Image]:
    """Return both images on the coarser one's pixels, with the first one's spelling of the CRS.

    Raises:
        InputError: the grids differ by more than whole pixels of the finer in one of the coarser.
    """
    if is_same_crs(first.grid.crs, second.grid.crs):
        grid = wrap_longitudes(replace(second.grid, crs=first.grid.crs), float(first.grid.center[0]))
        second = replace(second, grid=grid)
    spacing = max(float(image.grid.spacing.min()) for image in (first, second))
    first, second = (decimate_data(image, spacing) for image in (first, second))
    if not first.grid.matches(second.grid):
        raise InputError(
            f"{after.path} does not lie on the pixels of {before.path}; bring it there first: "
            f"regflow register {before.path} {after.path} -o DIR, and take its warped.tif"
        )
    return first, second


def _common(
    first: RasterHeader, second: RasterHeader
) -> tuple[list[int | str] | None, list[int | str] | None]:
    """Return the bands to compare: those of one name, else all where both files have as many."""
    plain = [[band for band in header.bands if band.color != "alpha"] for header in (first, second)]
    names = [[(band.name or "").casefold() for band in bands] for bands in plain]
    shared = [name for name in names[0] if names[0].count(name) == names[1].count(name) == 1 and name]
    if shared:
        left_out = sorted({*names[0]} ^ {*names[1]} - {""})
        if left_out:
            log.warning("compared are the bands of one name; only one scene has %s", ", ".join(left_out))
        return list(shared), list(shared)
    counts = [len(bands) for bands in plain]
    if counts[0] == counts[1]:
        return None, None
    raise NoCommonBandsError(
        f"{first.path} has {counts[0]} bands and {second.path} {counts[1]}, and no names in common; name "
        "the bands to compare (bands: [...] or --bands)"
    )
