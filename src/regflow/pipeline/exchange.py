"""Images as people hold them, to files that the stages read, and products back to the same type.

A path or a raster that rasterio opened from a file is used as it is. Anything else is written without loss
of geometry: NRRD for a volume, GeoTIFF for a scene.
"""

import os
import re
import shutil
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np

from regflow.cohort.examples import resolve_example
from regflow.core.errors import InputError, RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.landmarks import Landmarks
from regflow.core.transform import Points
from regflow.pipeline.image_types import MEMORY_TYPES, ImageContent, MemoryType, Spacing, is_instance_of

ACCEPTED = (
    "a path, a nibabel or SimpleITK image, a rasterio dataset, an xarray DataArray, a numpy array or an Image"
)
_IMAGES = r"fixed|moving|reference|before|after|later_\d+"
"""Names of images; all other names are those of their parts."""
_NO_FILES = ("/vsimem/", "MEM:::", "WarpedVRT(")
"""How names of rasterio's datasets begin that other processes cannot open."""
_PLAIN_BANDS = {"photometric": "MINISBLACK", "alpha": "NO"}
"""Else GDAL takes the fourth band of bytes for transparency."""


@dataclass(frozen=True, eq=False)
class StoredImage:
    """An image as a file.

    Attributes:
        path: the file, as the stages open it.
        kind: ``volumes`` or ``rasters``.
        name: what to call the image in messages.
        written: whether the file was made here, for this one use.
        parts: ``mask`` and ``labels`` of an Image, as files; ``modality``, as a word.
    """

    path: str
    kind: str
    name: str
    written: bool = False
    parts: Mapping[str, str] = field(default_factory=dict)


class ResultFolder:
    """A folder of results that is removed with the last object that refers to it, if it is our own.

    Attributes:
        path: the folder; not there yet.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        if path is not None:
            self.path = Path(path)
            return
        home = Path(mkdtemp(prefix="regflow-"))
        self.path = home / "result"
        weakref.finalize(self, shutil.rmtree, home, ignore_errors=True)


def is_path(given: Any) -> bool:
    """Tell whether something is the path of a file."""
    return isinstance(given, (str, os.PathLike))


def store_image(given: Any, folder: str | Path, name: str, spacing: Spacing = None) -> StoredImage:
    """Return an image as a file.

    Args:
        given: of any type of :data:`ACCEPTED`.
        folder: where files of images in memory are written.
        name: of the image: ``fixed``, ``moving`` ...; names its files.
        spacing: of an array that is a volume, ``(x, y, z)`` in mm.

    Raises:
        InputError: the type is none of these, or the object is no volume and no scene.
    """
    if is_path(given):
        path = resolve_example(os.fspath(given))
        return StoredImage(path, find_kind_of_file(path), path)
    if is_instance_of("rasterio")(given):
        return _store_dataset(given, Path(folder) / f"{name}.tif", name)
    called = _called(name)
    found = _type_of(given, called)
    try:
        content = found.read(given, spacing)
    except InputError as error:
        raise InputError(f"{called} {error}") from error
    return _write(content, Path(folder), name, called)


def store_part(given: Any, folder: str | Path, name: str, image: StoredImage) -> str:
    """Return a mask or a label map as a file.

    Args:
        given: as for :func:`store_image`; an array lies on the samples of its image.
        folder: where files are written.
        name: of the part: ``fixed_mask`` ...
        image: to which it belongs.

    Raises:
        InputError: the type is unknown, or it is no volume where its image is one, or the other way round.
    """
    if isinstance(given, np.ndarray):
        grid = read_stored_grid(image)
        if given.shape != grid.shape:
            raise InputError(
                f"{name} is an array of shape {given.shape}, but {image.name} is one of {grid.shape}; give "
                "one value for each sample"
            )
        given = Image(given[None], grid)
    stored = store_image(given, folder, name)
    if not stored.written:
        return stored.path
    find_common_kind((name, image.name), (stored.kind, image.kind))
    return stored.path


def store_landmarks(given: Any, folder: str | Path, name: str) -> str:
    """Return landmarks as a file.

    Args:
        given: a path, or ``(N, 3)`` LPS millimeters; points are partners in their order.
        folder: where the file is written.
        name: of the file.

    Raises:
        InputError: an array of another shape, or a point that is not finite.
    """
    from regflow.io.landmarks import write_landmarks

    if is_path(given):
        return resolve_example(os.fspath(given))
    points = parse_points(given, name, 3)
    path = Path(folder) / f"{name}.csv"
    write_landmarks(path, Landmarks(tuple(str(n) for n in range(1, len(points) + 1)), points))
    return str(path)


def parse_points(given: Any, name: str, ndim: int) -> Points:
    """Return ``(N, ndim)`` finite coordinates.

    Raises:
        InputError: something else.
    """
    try:
        points: Points = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be a path or an array of points, (N, {ndim})") from error
    if points.ndim != 2 or points.shape[1] != ndim or not np.isfinite(points).all():
        raise InputError(f"{name} has the shape {points.shape}; give finite points, (N, {ndim})")
    return points


def load_product(path: str | Path, like: Any, grid: Grid | None = None, *, as_stored: bool = False) -> Any:
    """Return a product in the type of what it was made from.

    Args:
        path: the product.
        like: an object of the type; for a path the product's own path is returned.
        grid: of a volume, more exact than what its file holds.
        as_stored: keep the file's type of samples, instead of that of ``like``.
    """
    path = Path(path)
    if is_path(like):
        return path
    if is_instance_of("rasterio")(like):
        from regflow.io.open_rasters import import_gdal

        return import_gdal().open(path)
    known, content = _type_of(like, "the image"), read_content(path, grid)
    if not as_stored:
        data = content.image.data.astype(known.dtype(like), copy=False)
        content = replace(content, image=replace(content.image, data=data))
    return known.make(content, like)


def read_content(path: str | Path, grid: Grid | None = None) -> ImageContent:
    """Read all samples of a volume (on ``grid``, if given) or of a scene, with what is valid of it."""
    from regflow.io.rasters import read_raster_header, read_window
    from regflow.io.volumes import read_volume

    if find_kind_of_file(path) == "volumes":
        image = read_volume(path)
        return ImageContent(replace(image, grid=grid or image.grid))
    header = read_raster_header(path)
    bands = [band for band in header.bands if band.color != "alpha"]
    rows, columns = (slice(0, count) for count in header.shape)
    values, valid = read_window(path, [band.number for band in bands], rows, columns)
    image = Image(values, header.grid or header.pixel_grid, np.asarray(valid.all(axis=0)))
    names = tuple(band.name or "" for band in bands)
    return ImageContent(image, bands[0].nodata, names if all(names) else ())


def store_reference(given: Any, folder: str | Path, spacing: Spacing = None) -> StoredImage | Grid:
    """Return what tells where a result is to lie: a grid of a volume, or the file of a scene.

    Args:
        given: a :class:`~regflow.core.grid.Grid`, or of any type of :data:`ACCEPTED`.
        folder: where files of images in memory are written.
        spacing: as for :func:`store_image`.

    Raises:
        InputError: as for :func:`store_image`.
    """
    if not isinstance(given, Grid):
        stored = store_image(given, folder, "reference", spacing)
        return read_stored_grid(stored) if stored.kind == "volumes" else stored
    if given.ndim == 3:
        return given
    from regflow.io.raster_files import write_blank_raster

    path = Path(folder) / "reference.tif"
    write_blank_raster(path, given)
    return StoredImage(str(path), "rasters", "the reference", True)


def read_stored_grid(image: StoredImage) -> Grid:
    """Return where the samples of a stored image lie; in pixel space for a scene off the map."""
    from regflow.io.rasters import read_raster_header
    from regflow.io.volumes import read_header

    if image.kind == "volumes":
        return read_header(image.path).grid
    header = read_raster_header(image.path)
    return header.grid or header.pixel_grid


def find_kind_of_file(path: str | Path) -> str:
    """Return ``volumes`` or ``rasters``."""
    from regflow.io.volumes import is_volume

    return "volumes" if is_volume(path) else "rasters"


def find_kind_of_pair(first: str, second: str) -> str:
    """Return the kind of two files.

    Raises:
        InputError: they are of different kinds.
    """
    kinds = [find_kind_of_file(resolve_example(path)) for path in (first, second)]
    return find_common_kind((first, second), kinds)


def find_common_kind(names: Sequence[str], kinds: Sequence[str]) -> str:
    """Return the kind of two images.

    Raises:
        InputError: they are of different kinds; the message names the images.
    """
    if kinds[0] != kinds[1]:
        raise InputError(f"{names[0]} and {names[1]}: one is a volume and one a scene; give two of a kind")
    return kinds[0]


@contextmanager
def name_images(folder: Path) -> Iterator[None]:
    """Let messages speak of images and their parts instead of the files that a folder holds for them."""
    written = re.compile(rf"{re.escape(str(folder))}{re.escape(os.sep)}(\w+)\.\w+")
    try:
        yield
    except (InputError, RegistrationError) as error:
        message = written.sub(lambda found: _called(found[1]), str(error))
        if message == str(error):
            raise
        raise type(error)(message) from error


def _called(name: str) -> str:
    """Return what to call an image, or a part of one, by the name of its file."""
    return f"the {name} image" if re.fullmatch(_IMAGES, name) else name


def _type_of(given: Any, called: str) -> MemoryType:
    found = next((known for known in MEMORY_TYPES if known.recognizes(given)), None)
    if found is None:
        raise InputError(f"{called} is of type {type(given).__name__}; give {ACCEPTED}")
    return found


def _write(content: ImageContent, folder: Path, name: str, called: str) -> StoredImage:
    """Write what an object holds, with its mask and its labels."""
    from regflow.io.header import check_samples, make_volume_grid
    from regflow.io.raster_files import write_raster
    from regflow.io.sample_values import represent_nodata
    from regflow.io.volumes import choose_portable_type, write_volume

    image = content.image
    check_samples(Path(called), image.data.dtype)
    parts = {"modality": image.modality} if image.modality else {}
    extra = {part: getattr(image, part) for part in ("mask", "labels") if getattr(image, part) is not None}
    if image.grid.ndim == 3:
        if len(image.data) != 1:
            raise InputError(f"{called} has {len(image.data)} channels; give one of them")
        path = folder / f"{name}.nrrd"
        grid = make_volume_grid(Path(called), image.grid.shape, image.grid.affine)
        write_volume(path, image.channel, grid)
        for part, values in extra.items():
            parts[part] = str(folder / f"{name}_{part}.nrrd")
            write_volume(parts[part], values, grid)
        return StoredImage(str(path), "volumes", called, True, parts)
    path = folder / f"{name}.tif"
    values = image.data.astype(choose_portable_type(image.data.dtype), copy=False)
    floating = values.dtype.kind == "f"
    nodata = float("nan") if content.nodata is None and floating else content.nodata
    nodata = represent_nodata(nodata, str(values.dtype))
    layout = _PLAIN_BANDS if values.dtype == np.uint8 else {}
    write_raster(path, values, image.grid, names=content.names, nodata=nodata, **layout)
    if "mask" in extra:
        parts["mask"] = str(folder / f"{name}_mask.tif")
        write_raster(parts["mask"], extra["mask"].astype(np.uint8)[None], image.grid)
    return StoredImage(str(path), "rasters", called, True, parts)


def _store_dataset(given: Any, path: Path, name: str) -> StoredImage:
    """Return a rasterio dataset's own file, or a copy of one that is no file."""
    called = _called(name)
    if given.closed:
        raise InputError(f"{called} is a rasterio dataset that is closed; open it again")
    if given.mode != "r":
        raise InputError(f"{called} is a rasterio dataset open for writing; close it and open it to read")
    own = str(given.name)
    if own and not own.startswith(_NO_FILES):
        return StoredImage(own, "rasters", own)
    from rasterio.shutil import copy

    copy(given, str(path), driver="GTiff")
    return StoredImage(str(path), "rasters", called, True)
