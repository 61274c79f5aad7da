"""Carry a raster or points through a transform of scenes: what is behind ``regflow apply``.

Whatever the CRSs of the files, the transform is applied in the coordinates of the fixed scene it
was found for.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from regflow.cohort.rasters.samples import Scene
from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.core.inversion import invert_transform, measure_inverse_error_px
from regflow.core.reprojection import is_same_crs
from regflow.core.transform import Composite, Points, Transform, compose_transforms
from regflow.io.point_tables import read_point_table, write_point_table
from regflow.io.raster_header import RasterHeader
from regflow.io.raster_transforms import (
    TRANSFORM_FILE,
    read_displacement,
    read_fixed_grid,
    read_raster_transform,
    sample_displacement,
    write_parts,
)
from regflow.io.rasters import read_raster_header
from regflow.stages.rasters.footprints import check_footprints
from regflow.stages.rasters.views import describe_working_view, measure_spacing
from regflow.stages.rasters.warping import WarpInput, warp_raster

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LoadedTransform:
    """A transform between two scenes, read back.

    Attributes:
        path: where it was read.
        transform: from fixed to moving points, both in the fixed scene's world.
        grid: of the fixed scene, or of the field: what the transform covers.
        folder: with ``transform.json``; None for a bare displacement.
    """

    path: Path
    transform: Transform
    grid: Grid
    folder: Path | None


def load_transform(path: str | Path) -> LoadedTransform:
    """Read a transform of scenes.

    Args:
        path: ``transform.json``, the folder that holds it, or a raster of dx and dy such as
            ``displacement.tif``.

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: this transform does not exist; name what regflow register wrote")
    if path.is_dir() or path.name == TRANSFORM_FILE:
        folder = path if path.is_dir() else path.parent
        return LoadedTransform(path, read_raster_transform(folder), read_fixed_grid(folder), folder)
    if path.suffix == ".json":
        raise InputError(f"{path}: the transform of scenes is named {TRANSFORM_FILE}; name it or its folder")
    field = read_displacement(path)
    return LoadedTransform(path, field, field.grid, None)


def warp_raster_file(
    correction: LoadedTransform,
    source: WarpInput,
    output: str | Path,
    *,
    reference: str | Path,
    resampling: str,
    inverse: bool = False,
    threads: int | None = None,
) -> dict[str, float]:
    """Bring a raster onto the reference's grid by one interpolation and write it as a COG.

    Args:
        correction: the transform.
        source: a raster of the moving scene's space; of the fixed one's with ``inverse``.
        output: the COG to write, whole or not at all.
        reference: a raster of the other space, whose footprint the result takes.
        resampling: ``nearest``, ``bilinear``, ``cubic`` or ``lanczos``; classes take the nearest.
        inverse: go the other way, by the displacement's inverse.
        threads: workers, all cores when None; no byte depends on them.

    Returns:
        Figures: ``megapixels``, ``valid_percent``, and with ``inverse`` how far the inverse errs, in
        pixels of the reference: ``inverse_error_p95_px``, ``inverse_error_max_px``.

    Raises:
        InputError: a file is missing or damaged, or the files do not belong together.
        OSError: the disk is full.
    """
    from regflow.core.chunks import open_workers

    onto, header = read_raster_header(reference), read_raster_header(source.path)
    for note in header.notes:
        log.warning("%s", note)
    target = choose_target_grid(onto, correction.grid.crs, str(correction.path))
    _refuse_misplaced(onto, header)
    world = _in_the_corrections_world(correction, target, str(reference))
    view = describe_working_view(Scene(source.path), header, fixed=world)
    measured = {}
    transform = correction.transform
    if inverse:
        transform = sample_displacement(invert_transform(transform, measure_spacing(world)), world)
        measured = _measured(correction, transform, world)
    tags = {f"REGFLOW_{name.upper()}": f"{value:.4g}" for name, value in measured.items()}
    # Pixel sizes can be compared in one CRS only; elsewhere the reference's pixels are taken.
    same = is_same_crs(correction.grid.crs, target.crs)
    with _folder(correction, transform, target) as folder, open_workers(threads=threads) as workers:
        figures = warp_raster(
            source,
            output,
            fixed=target,
            moving=view,
            refined=folder,
            settings={"resampling": resampling, "resolution": "own" if same else "reference"},
            workers=workers,
            tags=tags,
        )
    return {**figures, **measured}


def choose_target_grid(onto: RasterHeader, crs: str | None, name: str) -> Grid:
    """Return the grid of what is carried onto a raster.

    Args:
        onto: header of the raster.
        crs: in which the transform works; None for pixels.
        name: of the transform, for messages.

    Raises:
        InputError: the raster's pixels do not lie in a world that the transform's can be reached from.
    """
    if onto.grid is None and onto.georeference != "none":
        raise InputError(f"{onto.path}: its pixels are not on a map; name a reference that is")
    target = onto.grid or onto.pixel_grid
    if (target.crs is None) != (crs is None):
        bare, other = (onto.path, name) if target.crs is None else (name, onto.path)
        raise InputError(f"{bare}: names no CRS, and {other} does; name a reference as it was registered")
    return target


def map_point_file(
    correction: LoadedTransform, source: str | Path, output: str | Path, *, inverse: bool = False
) -> None:
    """Bring points of the moving scene to their places in the fixed one, and write them with their columns.

    Coordinates are those of the fixed scene's CRS, in which the transform works; a GeoPackage in
    another CRS is brought to it. Without a CRS they are pixels: x is the column, y the row, and the
    first pixel's center is (0, 0).

    Args:
        correction: the transform.
        source: CSV, TSV or GeoPackage.
        output: the same.
        inverse: go the other way, from the fixed to the moving scene.

    Raises:
        InputError: a file is not as it should be, or a point has no partner.
    """
    table = read_point_table(source)
    crs = correction.grid.crs
    xy = table.xy
    if table.crs is not None:
        if crs is None:
            raise InputError(f"{source}: has a CRS, but {correction.path} works in pixels; give pixels")
        xy = _changed(_wkt(table.crs), crs, correction.grid).apply(xy)
    moved = move_points(correction, xy, str(source), inverse=inverse)
    write_point_table(output, replace(table, xy=moved, crs=crs))


def move_points(correction: LoadedTransform, xy: Points, name: str, *, inverse: bool = False) -> Points:
    """Return where points of the moving scene, ``(N, 2)``, lie in the fixed one; see :func:`map_point_file`.

    Raises:
        InputError: a point has no partner; the message begins with ``name``.
    """
    xy = xy + _turns(correction.grid.crs, xy[:, 0], correction.grid)
    forward = correction.transform
    push = forward if inverse else invert_transform(forward, measure_spacing(correction.grid))
    moved = push.apply(xy)
    lost = np.flatnonzero(~np.isfinite(moved).all(axis=1))
    if lost.size:
        raise InputError(
            f"{name}: point {lost[0] + 1} has no partner by {correction.path} ({lost.size} of {len(moved)} "
            "have none); leave such points out"
        )
    _warn_of_extrapolation(correction, xy if inverse else moved)
    return moved


def _warn_of_extrapolation(correction: LoadedTransform, points: Points) -> None:
    index = correction.grid.to_index(points)
    outside = ~((index >= -0.5) & (index <= np.array(correction.grid.size) - 0.5)).all(axis=1)
    if outside.any():
        log.warning(
            "%d of %d points lie outside the fixed scene, where nothing was measured",
            int(outside.sum()),
            len(points),
        )


def _refuse_misplaced(onto: RasterHeader, header: RasterHeader) -> None:
    problem, warning = check_footprints(onto, header)
    if problem:
        raise InputError(problem)
    if warning:
        log.warning("%s", warning)


def _in_the_corrections_world(correction: LoadedTransform, target: Grid, name: str) -> Grid:
    """Return a grid that covers the target in the coordinates in which the transform works."""
    from regflow.core.reprojection import build_north_up_grid, wrap_longitudes

    crs = correction.grid.crs
    if is_same_crs(crs, target.crs):
        return wrap_longitudes(replace(target, crs=crs), float(correction.grid.center[0]))
    change = Composite((_changed(crs, target.crs, target),))
    return build_north_up_grid(name, target, change, crs)


def _changed(source: str | None, target: str | None, grid: Grid, longitude: float | None = None) -> Transform:
    """Return the change of CRS to that of a grid; whole turns or the identity where both are the same.

    Args:
        source: CRS of the points.
        target: CRS of the grid.
        grid: about which the result lies.
        longitude: about which the points lie; None for that of the grid.
    """
    from regflow.core.reprojection import build_reprojection
    from regflow.core.transform import Affine

    if source is None or target is None or is_same_crs(source, target):
        places = grid.center[:1] if longitude is None else np.array([longitude])
        return Affine.from_parts(np.eye(2), _turns(target, places, grid)[0])
    return build_reprojection(source, target, grid)


def _turns(crs: str | None, longitudes: NDArray[np.float64], grid: Grid) -> Points:
    """Return what to add to points, ``(N, 2)``, so that their longitudes are counted as a grid's are."""
    from regflow.core.reprojection import turn_degrees

    turns = turn_degrees(crs, longitudes, float(grid.center[0]))
    return np.stack([turns, np.zeros_like(turns)], axis=1)


def _wkt(crs: str) -> str:
    from pyproj import CRS

    return CRS.from_user_input(crs).to_wkt()


def _measured(correction: LoadedTransform, inverse: Transform, target: Grid) -> dict[str, float]:
    """Return how far the inverse errs.

    Raises:
        InputError: nothing of the target lies where the transform is known.
    """
    errors = measure_inverse_error_px(correction.transform, inverse, target, correction.grid)
    if not errors.size:
        raise InputError(
            f"{correction.path}: nothing of the reference lies where this transform is known; name the "
            "moving scene as the reference"
        )
    p95 = float(np.percentile(errors, 95))
    return {"inverse_error_p95_px": p95, "inverse_error_max_px": float(errors.max())}


@contextmanager
def _folder(correction: LoadedTransform, transform: Transform, target: Grid) -> Iterator[Path]:
    """Give the folder from which the workers read the whole way from the target's world on."""
    crs, longitude = correction.grid.crs, float(target.center[0])
    turned = _turns(target.crs, target.center[:1], correction.grid).any()
    same = is_same_crs(crs, target.crs) and not turned
    if same and transform is correction.transform and correction.folder is not None:
        yield correction.folder
        return
    with TemporaryDirectory(prefix="regflow-") as name:
        change = _changed(target.crs, crs, correction.grid, longitude)
        write_parts(name, compose_transforms(change, transform), target)
        yield Path(name)
