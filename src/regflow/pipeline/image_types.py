"""The types in which people hold images in memory, each made from samples with their grid and back.

None of their packages is imported here before an image of that type is met: xarray need not be installed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError
from regflow.core.grid import SAME_GRID_TOLERANCE, Grid
from regflow.core.image import Image
from regflow.core.reprojection import is_same_crs
from regflow.io.nifti_header import RAS_TO_LPS
from regflow.io.rasters import compute_geotransform

Spacing = float | Sequence[float] | None
"""Of an array without a geometry: ``(x, y, z)`` in mm, or one number for all axes."""

_MILLIMETERS = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
_CRS_NAMES = ("crs_wkt", "spatial_ref")
_CRS_COORDINATE = "spatial_ref"
"""The coordinate in which CF and rioxarray keep a CRS, unless an array names another."""


@dataclass(frozen=True, eq=False)
class ImageContent:
    """What an object in memory holds.

    Attributes:
        image: samples ``(C, *grid.shape)``, where they lie, and which of them are valid.
        nodata: the value of a scene that means "no measurement"; None without one.
        names: of a scene's bands; empty without any.
    """

    image: Image
    nodata: float | None = None
    names: tuple[str, ...] = ()


class MemoryType(NamedTuple):
    """A type of images in memory.

    Attributes:
        recognizes: tells whether an object is of the type.
        read: returns the content of an object; the second argument is a spacing, for those that have none.
            It raises an InputError that goes on after the image's name.
        make: returns an object like the second argument with another content.
        dtype: returns numpy's type of an object's samples.
    """

    recognizes: Callable[[Any], bool]
    read: Callable[[Any, Spacing], ImageContent]
    make: Callable[[ImageContent, Any], Any]
    dtype: Callable[[Any], np.dtype[Any]]


def is_instance_of(package: str) -> Callable[[Any], bool]:
    """Return a function that tells whether a class of an object comes from a package."""

    def recognizes(given: Any) -> bool:
        return any(kind.__module__.partition(".")[0] == package for kind in type(given).__mro__)

    return recognizes


def _read_image(given: Image, _: Spacing) -> ImageContent:
    return ImageContent(replace(given, data=np.asarray(given.data)))


def _make_image(content: ImageContent, given: Image) -> Image:
    return replace(content.image, modality=given.modality)


def _read_array(given: NDArray[Any], spacing: Spacing) -> ImageContent:
    """Read a 3-D array as a volume from the world's origin on, a 2-D one as a scene in pixel space."""
    if given.ndim not in (2, 3):
        raise InputError(f"is a {given.ndim}-D array; give a 3-D one (a volume) or a 2-D one (a scene)")
    if given.ndim == 2:
        if spacing is not None:
            raise InputError("is a 2-D array, a scene in pixel space; leave 'spacing' out")
        grid = Grid(given.shape, np.eye(3))
    elif spacing is None:
        raise InputError(
            "is a 3-D array without a spacing; give 'spacing' in mm (x, y, z), or a scene of several bands "
            "as an Image with its Grid"
        )
    else:
        grid = Grid.from_geometry(given.shape, _checked_spacing(spacing), np.zeros(3).tolist())
    mask = ~np.ma.getmaskarray(given) if isinstance(given, np.ma.MaskedArray) else None
    return ImageContent(Image(np.ma.getdata(given)[None], grid, mask))


def _checked_spacing(spacing: float | Sequence[float]) -> list[float]:
    values: NDArray[np.float64] = np.ravel(np.asarray(spacing, dtype=np.float64))
    if values.size not in (1, 3) or not (np.isfinite(values) & (values > 0)).all():
        raise InputError(f"has the spacing {spacing}; give one or three positive numbers, in mm (x, y, z)")
    return np.broadcast_to(values, (3,)).tolist()


def _make_array(content: ImageContent, given: NDArray[Any]) -> NDArray[Any]:
    values = content.image.channel
    if not isinstance(given, np.ma.MaskedArray):
        return np.asarray(values)
    valid = content.image.mask
    return np.ma.masked_array(values, mask=False if valid is None else ~valid)


def _read_nibabel(given: Any, _: Spacing) -> ImageContent:
    samples = np.asanyarray(given.dataobj)
    while samples.ndim > 3 and samples.shape[-1] == 1:
        samples = samples[..., 0]
    if samples.ndim != 3:
        raise InputError(f"is a {samples.ndim}-D nibabel image; give one 3-D volume (image.slicer[..., 0])")
    unit = given.header.get_xyzt_units()[0] if hasattr(given.header, "get_xyzt_units") else "mm"
    if unit not in _MILLIMETERS:
        raise InputError(f"has the unit '{unit}' in its header; set it to mm")
    to_mm = np.diag([_MILLIMETERS[unit]] * 3 + [1.0])
    grid = Grid(samples.shape[::-1], RAS_TO_LPS @ to_mm @ np.asarray(given.affine, dtype=np.float64))
    return ImageContent(Image(samples.T[None], grid))


def _make_nibabel(content: ImageContent, given: Any) -> Any:
    """Return a NIfTI image in mm, or one of the given type where that holds any geometry."""
    import nibabel as nib

    image = content.image
    made = nib.Nifti1Image(np.ascontiguousarray(image.channel.T), RAS_TO_LPS @ image.grid.affine)
    made.header.set_xyzt_units("mm")
    return type(given).from_image(made) if isinstance(given, (nib.Nifti1Pair, nib.MGHImage)) else made


def _read_simpleitk(given: Any, _: Spacing) -> ImageContent:
    import SimpleITK as sitk

    from regflow.core.resample import read_sitk_grid

    if given.GetDimension() != 3:
        raise InputError(
            f"is a {given.GetDimension()}-D SimpleITK image; give a 3-D volume, or the array of a 2-D scene"
        )
    if given.GetNumberOfComponentsPerPixel() != 1:
        raise InputError("has several components in each voxel; give one of them")
    return ImageContent(Image(sitk.GetArrayFromImage(given)[None], read_sitk_grid(given)))


def _make_simpleitk(content: ImageContent, _: Any) -> Any:
    from regflow.core.resample import to_sitk_image

    return to_sitk_image(content.image.channel, content.image.grid)


def _simpleitk_dtype(given: Any) -> np.dtype[Any]:
    import SimpleITK as sitk

    return np.asarray(sitk.GetArrayViewFromImage(given)).dtype


def _read_xarray(given: Any, _: Spacing) -> ImageContent:
    """Read a DataArray ``([band,] y, x)``: its coordinates, or else its ``rio`` transform, place it."""
    if given.ndim not in (2, 3):
        raise InputError(f"is a {given.ndim}-D DataArray; give ([band,] y, x), one date of it")
    values = np.asarray(given.values)
    attributes = _crs_attributes(given)
    crs = next((str(attributes[name]) for name in _CRS_NAMES if name in attributes), None)
    if hasattr(given, "rio") and given.rio.crs is not None:
        crs = given.rio.crs.to_wkt()
    shape = values.shape[-2:]
    grid = Grid(shape, _xarray_affine(given, attributes.get("GeoTransform")), crs)
    nodata = given.attrs.get("_FillValue", given.encoding.get("_FillValue"))
    if hasattr(given, "rio"):
        nodata = given.rio.encoded_nodata if given.rio.nodata is None else given.rio.nodata
    names = given.attrs.get("long_name", ())
    bands = values.reshape(-1, *shape)
    names = tuple(names) if isinstance(names, (tuple, list)) and len(names) == len(bands) else ()
    return ImageContent(Image(bands, grid), None if nodata is None else float(nodata), names)


def _crs_attributes(given: Any) -> dict[str, Any]:
    name = given.encoding.get("grid_mapping") or given.attrs.get("grid_mapping") or _CRS_COORDINATE
    return dict(given.coords[name].attrs) if name in given.coords else {}


def _xarray_affine(given: Any, written: str | None) -> NDArray[np.float64]:
    """Return the index-to-world affine of a DataArray: pixel space where nothing places it."""
    affine = np.eye(3)
    rows, columns = given.dims[-2:]
    if rows in given.coords and columns in given.coords:
        for axis, name in enumerate((columns, rows)):
            affine[axis, axis], affine[axis, 2] = _step_and_start(np.asarray(given.coords[name]), name)
    elif written is not None:
        c, a, b, f, d, e = (float(number) for number in written.split())
        affine[:2] = [[a, b, c + (a + b) / 2], [d, e, f + (d + e) / 2]]
    return affine


def _step_and_start(places: NDArray[Any], name: str) -> tuple[float, float]:
    """Return the distance between evenly spaced coordinates, and the first.

    Raises:
        InputError: they are not evenly spaced.
    """
    numbers = places.astype(np.float64)
    if numbers.ndim != 1 or numbers.size < 2:
        raise InputError(f"has the coordinate '{name}' at {numbers.size} places; give a scene of more pixels")
    step = (numbers[-1] - numbers[0]) / (numbers.size - 1)
    even = numbers[0] + step * np.arange(numbers.size)
    # Coordinates are often stored in single precision.
    rounding = 4 * np.finfo(np.float32).eps * np.abs(numbers).max()
    if step == 0 or not np.abs(numbers - even).max() <= 10 * SAME_GRID_TOLERANCE * abs(step) + rounding:
        raise InputError(f"has the coordinate '{name}' at uneven steps; resample it onto a regular grid")
    return float(step), float(numbers[0])


def _make_xarray(content: ImageContent, given: Any) -> Any:
    image = content.image
    before = _read_xarray(given, None).image.grid
    names = given.dims[-2:] if is_same_crs(before.crs, image.grid.crs) else ("y", "x")
    bands = given.dims[:-2]
    values = image.data if bands else image.channel
    coordinates = {name: given.coords[name] for name in bands if name in given.coords}
    plain = np.array_equal(image.grid.affine, np.eye(3)) and not set(names) <= set(given.coords)
    if not plain and image.grid.affine[0, 1] == image.grid.affine[1, 0] == 0:
        for axis, name in enumerate(reversed(names)):
            index = np.zeros((image.grid.size[axis], 2))
            index[:, axis] = np.arange(len(index))
            coordinates[name] = (name, image.grid.to_world(index)[:, axis])
    attributes = {key: value for key, value in given.attrs.items() if key != "grid_mapping"}
    made = type(given)(values, coordinates, (*bands, *names), name=given.name, attrs=attributes)
    if image.grid.crs is None and plain:
        return made
    return made.assign_coords({_CRS_COORDINATE: ((), 0, _placed(image.grid))})


def _placed(grid: Grid) -> dict[str, str]:
    """Return a grid as the attributes in which CF and rioxarray keep a CRS and a geotransform."""
    numbers = compute_geotransform(grid).to_gdal()
    crs = {} if grid.crs is None else dict.fromkeys(_CRS_NAMES, grid.crs)
    return {**crs, "GeoTransform": " ".join(repr(float(number)) for number in numbers)}


def _own_dtype(given: Any) -> np.dtype[Any]:
    return np.dtype(given.dtype)


MEMORY_TYPES = (
    MemoryType(
        lambda given: isinstance(given, Image), _read_image, _make_image, lambda given: _own_dtype(given.data)
    ),
    MemoryType(lambda given: isinstance(given, np.ndarray), _read_array, _make_array, _own_dtype),
    MemoryType(
        is_instance_of("nibabel"),
        _read_nibabel,
        _make_nibabel,
        lambda given: np.asanyarray(given.dataobj).dtype,
    ),
    MemoryType(is_instance_of("SimpleITK"), _read_simpleitk, _make_simpleitk, _simpleitk_dtype),
    MemoryType(is_instance_of("xarray"), _read_xarray, _make_xarray, _own_dtype),
)
