"""Transforms of scenes on disk: ``transform.json`` with its parts, and ``displacement.tif``.

``transform.json`` keeps the transform exactly, part by part. ``displacement.tif`` is for other
tools: the whole transform as displacements, in CRS units, from a reference point to its place in
the moving scene, on nodes between which linear interpolation is accurate.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError, RegistrationError
from regflow.core.files import compute_sha256, write_json, write_whole
from regflow.core.grid import Grid
from regflow.core.memory import check_room
from regflow.core.reprojection import Reprojection
from regflow.core.transform import (
    Affine,
    Composite,
    DisplacementField,
    Homography,
    Transform,
    flatten_transform,
)
from regflow.core.warp import PixelMap
from regflow.io.open_rasters import import_gdal
from regflow.io.rasters import compute_geotransform, read_raster_header, read_window
from regflow.io.sensor_models import GroundModel, SensorModel
from regflow.io.text_files import parse_json, read_text

Built = TypeVar("Built")

TRANSFORM_FILE = "transform.json"
DISPLACEMENT_FILE = "displacement.tif"

SAMPLING_TOLERANCE = 0.003
"""Largest error of linear interpolation in ``displacement.tif``, in pixels of the reference."""

SAMPLING_STEPS = (256, 128, 64, 32, 16, 8, 4, 2, 1)
"""Pixels of the reference between nodes of ``displacement.tif``, the first that is accurate."""

_REMEDY = "register the scenes again, or copy the file again"
_STRIP_NODES = 1 << 18
_STRIP_ROWS = 256

_DIRECTION = "from a point of the reference scene to its place in the moving scene, in CRS units"


def write_raster_transform(folder: str | Path, transform: Transform, grid: Grid) -> None:
    """Write ``transform.json``, the fields it names, and ``displacement.tif`` into a folder.

    Args:
        folder: an existing directory.
        transform: from fixed to moving world points.
        grid: of the fixed scene, at any resolution; ``displacement.tif`` covers its footprint.
    """
    write_parts(folder, transform, grid)
    write_displacement(Path(folder) / DISPLACEMENT_FILE, sample_displacement(transform, grid), _DIRECTION)


def write_parts(folder: str | Path, transform: Transform, grid: Grid) -> None:
    """Write ``transform.json`` and the fields it names into a folder, without ``displacement.tif``."""
    folder = Path(folder)
    parts = list(flatten_transform([transform]))
    fields = sum(isinstance(part, DisplacementField) for part in parts)
    described: list[dict[str, Any]] = []
    for part in parts:
        file = "field.tif" if fields == 1 else f"field_{len(described) + 1}.tif"
        if isinstance(part, DisplacementField):
            write_displacement(folder / file, part, "one part of the transform, see transform.json")
        described.append(_described(part, folder / file))
    content = {
        "maps": "world points of the fixed scene to world points of the moving scene; the first part is "
        "applied first",
        "crs": grid.crs,
        "grid": grid.to_dict(),
        "parts": described,
    }
    write_json(folder / TRANSFORM_FILE, content)


def read_raster_transform(folder: str | Path) -> Transform:
    """Read the transform that :func:`write_raster_transform` wrote into a folder.

    Raises:
        InputError: it is not there, or damaged.
    """
    return _read(folder, lambda content: _joined(content, Path(folder)))


def read_fixed_grid(folder: str | Path) -> Grid:
    """Return the grid for which the transform of a folder was written.

    Raises:
        InputError: ``transform.json`` is not there, or damaged.
    """
    return _read(folder, lambda content: Grid.from_dict(content["grid"]))


def sample_displacement(transform: Transform, grid: Grid) -> DisplacementField:
    """Return a transform as one displacement field that covers a grid's footprint.

    Its nodes are those of the transform's own first field where linear interpolation between them
    is accurate (:data:`SAMPLING_TOLERANCE`); else nodes from the footprint's first corner on.
    """
    first = next(flatten_transform([transform]))
    if isinstance(first, DisplacementField) and _covers(first.grid, grid):
        nodes = first.grid
        spread = float(np.max(np.abs(np.linalg.inv(grid.affine[:2, :2]) @ nodes.affine[:2, :2])))
        if PixelMap(nodes, nodes, transform, 1).measure_interpolation_error() * spread <= SAMPLING_TOLERANCE:
            return _field(transform, nodes)
    for step in SAMPLING_STEPS:
        nodes = _nodes(grid, step)
        if PixelMap(nodes, nodes, transform, 1).measure_interpolation_error() * step <= SAMPLING_TOLERANCE:
            break
    return _field(transform, nodes)


def write_displacement(path: str | Path, field: DisplacementField, description: str = _DIRECTION) -> None:
    """Write a displacement field as a GeoTIFF with bands ``dx`` and ``dy`` (float32, CRS units)."""
    rasterio = import_gdal()
    from rasterio.windows import Window

    rows, cols = field.grid.shape
    layout = {"tiled": True, "blockxsize": 256, "blockysize": 256} if max(rows, cols) > 256 else {}
    profile = {
        "driver": "GTiff",
        "width": cols,
        "height": rows,
        "count": 2,
        "dtype": "float32",
        "crs": field.grid.crs,
        "transform": compute_geotransform(field.grid),
        "compress": "deflate",
        "predictor": 3,
        "zlevel": 4,
        **layout,
    }
    with write_whole(path) as part, rasterio.open(part, "w", **profile) as target:
        # Adding zero turns -0.0 into 0.0: one number, one pattern of bytes.
        for top in range(0, rows, _STRIP_ROWS):
            some = slice(top, min(top + _STRIP_ROWS, rows))
            window = Window.from_slices(some, slice(0, cols))
            target.write(field.vectors[:, some] + np.float32(0), window=window)
        target.update_tags(DESCRIPTION=f"Displacement (dx, dy) {description}; interpolate linearly")
        for number, name in enumerate(("dx", "dy"), start=1):
            target.set_band_description(number, name)


def read_displacement(path: str | Path) -> DisplacementField:
    """Read a displacement field as :func:`write_displacement` writes it, or any raster of dx and dy.

    Raises:
        InputError: it is no raster, has not two bands, or does not fit into memory.
    """
    header = read_raster_header(path)
    if len(header.bands) != 2:
        raise InputError(f"{path}: a displacement has two bands, dx and dy, not {len(header.bands)}")
    check_room(16.0 * math.prod(header.shape), f"{path}: the displacement")
    rows, cols = (slice(0, count) for count in header.shape)
    values, _ = read_window(path, [1, 2], rows, cols, nodata=None)
    return DisplacementField(values.astype(np.float32, copy=False), header.grid or header.pixel_grid)


def _read(folder: str | Path, build: Callable[[Any], Built]) -> Built:
    """Make something of the content of a folder's ``transform.json``."""
    path = Path(folder) / TRANSFORM_FILE
    if not path.is_file():
        raise InputError(f"{path}: this transform file does not exist")
    content = parse_json(path, read_text(path, _REMEDY), _REMEDY)
    try:
        return build(content)
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError, RegistrationError) as error:
        raise InputError(f"{path}: not a transform that regflow wrote ({error})") from error


def _joined(content: Mapping[str, Any], folder: Path) -> Transform:
    parts = tuple(_part(described, folder) for described in content["parts"])
    if not parts:
        raise ValueError("it has no parts, so it is not the whole transform")
    return parts[0] if len(parts) == 1 else Composite(parts)


def _described(part: Transform, file: Path) -> dict[str, Any]:
    if isinstance(part, Affine):
        return {"type": "affine", "matrix": part.matrix.tolist()}
    if isinstance(part, Homography):
        return {"type": "homography", "matrix": part.matrix.tolist(), "center": list(part.center)}
    if isinstance(part, DisplacementField):
        return {
            "type": "displacement",
            "file": file.name,
            "sha256": compute_sha256(file),
            "grid": part.grid.to_dict(),
        }
    if isinstance(part, Reprojection):
        return {"type": "reprojection", **vars(part)}
    if isinstance(part, SensorModel):
        return {"type": "sensor model", **vars(part)}
    if isinstance(part, GroundModel):
        return {"type": "ground model", **vars(part.sensor)}
    raise TypeError(f"{type(part).__name__} has no form on disk")


def _part(described: Mapping[str, Any], folder: Path) -> Transform:
    content = dict(described)
    kind = content.pop("type")
    if kind == "affine":
        return Affine(_finite(content["matrix"]).reshape(3, 3))
    if kind == "homography":
        return Homography(_finite(content["matrix"]), tuple(_finite(content["center"]).tolist()))
    if kind == "displacement":
        field = _unchanged(folder, content["file"], content["sha256"])
        return DisplacementField(read_displacement(field).vectors, Grid.from_dict(content["grid"]))
    if kind == "reprojection":
        return Reprojection(**content)
    if kind == "sensor model":
        return SensorModel(**content)
    if kind == "ground model":
        return GroundModel(SensorModel(**content))
    raise ValueError(f"its part '{kind}' is unknown")


def _finite(values: Any) -> NDArray[np.float64]:
    found = np.array(values, dtype=np.float64)
    if not np.isfinite(found).all():
        raise ValueError("a number is not finite")
    return found


def _unchanged(folder: Path, name: str, checksum: str) -> Path:
    """Return a field beside ``transform.json`` that is still what was written.

    Raises:
        InputError: its name leads elsewhere, it is missing, or it has changed.
    """
    path = folder / name
    if Path(name).name != name:
        raise InputError(f"{folder / TRANSFORM_FILE}: its field '{name}' is not a file beside it; {_REMEDY}")
    if not path.is_file():
        raise InputError(f"{path}: this field of a transform does not exist; {_REMEDY}")
    if compute_sha256(path) != checksum:
        raise InputError(f"{path}: has changed since it was written (its checksum differs); {_REMEDY}")
    return path


def _field(transform: Transform, nodes: Grid) -> DisplacementField:
    """Sample a transform at nodes, some rows at a time: a large scene has many."""
    rows, cols = nodes.shape
    vectors = np.empty((2, rows, cols), dtype=np.float32)
    strip = max(1, _STRIP_NODES // cols)
    for top in range(0, rows, strip):
        some = np.arange(top, min(top + strip, rows))
        index = np.stack(np.broadcast_arrays(np.arange(cols), some[:, None]), axis=-1).reshape(-1, 2)
        points = nodes.to_world(index)
        vectors[:, some] = (transform.apply(points) - points).T.reshape(2, len(some), cols)
    return DisplacementField(vectors, nodes)


def _nodes(grid: Grid, step: int) -> Grid:
    """Return nodes every ``step`` pixels from the outer corner of the first pixel to past the last."""
    rows, cols = (max(2, int(np.ceil(count / step)) + 1) for count in grid.shape)
    place = np.array([[step, 0, -0.5], [0, step, -0.5], [0, 0, 1.0]])
    return Grid((rows, cols), grid.affine @ place, grid.crs)


def _covers(nodes: Grid, grid: Grid) -> bool:
    """Tell whether every pixel center of ``grid`` lies between nodes."""
    cols, rows = grid.size
    corners: NDArray[np.float64] = np.array([[0, 0], [cols - 1, 0], [0, rows - 1], [cols - 1, rows - 1]])
    index = nodes.to_index(grid.to_world(corners))
    return bool((index >= -1e-6).all() and (index <= np.array(nodes.size) - 1 + 1e-6).all())
