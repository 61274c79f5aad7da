"""Formats that SimpleITK reads and writes whole: NRRD and MetaImage."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError
from regflow.core.files import write_whole
from regflow.core.grid import Grid
from regflow.core.memory import check_room
from regflow.io.header import Volume, VolumeHeader, check_volume, make_volume_grid

if TYPE_CHECKING:
    import SimpleITK as sitk

ITK_ERRORS = (RuntimeError, UnicodeDecodeError)
"""What SimpleITK raises; the second, where its message quotes bytes of the file that are no text."""

_SHOWN = 160  # characters of ITK's message worth showing


def read_itk_header(path: Path, kind: str) -> VolumeHeader:
    """Read the header of an NRRD or MetaImage file; several components count as volumes.

    Raises:
        InputError: the header is damaged or describes no usable volume.
    """
    reader = open_reader(path)
    size = reader.GetSize()
    affine = np.eye(4)
    if reader.GetDimension() >= 3:
        cosines = np.reshape(reader.GetDirection(), (len(size), len(size)))[:3, :3]
        affine[:3, :3] = cosines * np.array(reader.GetSpacing()[:3])
        affine[:3, 3] = reader.GetOrigin()[:3]
    grid = make_volume_grid(path, size[:3][::-1], affine)
    volumes = int(np.prod(size[3:], dtype=int)) * reader.GetNumberOfComponents()
    return VolumeHeader(path, kind, grid, find_sample_type(path, reader.GetPixelID()), volumes)


def read_itk(path: Path, kind: str, volume: Volume) -> tuple[NDArray[Any], VolumeHeader]:
    """Read one volume, ``(z, y, x)``, and the header, in the type of the file.

    Raises:
        InputError: as :func:`read_itk_header`, or the data are damaged or end early.
    """
    header = read_itk_header(path, kind)
    index = check_volume(path, volume, header.volumes)
    reader = open_reader(path)
    needed = math.prod(reader.GetSize()) * reader.GetNumberOfComponents() * header.dtype.itemsize
    check_room(2.0 * needed, f"{path}: this file")
    samples = execute_reader(reader, path)
    if header.volumes > 1:
        samples = samples[..., index] if reader.GetNumberOfComponents() > 1 else samples[index]
    return np.ascontiguousarray(samples.reshape(header.grid.shape)), header


def write_itk(path: Path, data: NDArray[Any], grid: Grid) -> None:
    """Write a ``(z, y, x)`` array in the format of the path's suffix, whole or not at all."""
    import SimpleITK as sitk

    from regflow.core.resample import to_sitk_image

    with write_whole(path) as part:
        sitk.WriteImage(to_sitk_image(data, grid), str(part), useCompression=True, compressionLevel=1)


def open_reader(path: Path) -> "sitk.ImageFileReader":
    """Return a reader that has read the header of ``path``.

    Raises:
        InputError: SimpleITK cannot make sense of the header; its reason is quoted.
    """
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except ITK_ERRORS as error:
        raise InputError(f"{path}: the header is damaged ({_reason(error)}); export it again") from error
    return reader


def execute_reader(reader: Any, path: Path) -> NDArray[Any]:
    """Read the samples of a SimpleITK reader as an array of its own.

    Raises:
        InputError: the data are damaged or end early; SimpleITK's reason is quoted.
    """
    import SimpleITK as sitk

    try:
        return np.asarray(sitk.GetArrayFromImage(reader.Execute()))
    except ITK_ERRORS as error:
        raise InputError(
            f"{path}: the data are damaged, missing or end early ({_reason(error)}); copy it again"
        ) from error


def find_sample_type(path: Path, pixel: int) -> np.dtype[Any]:
    """Return the numpy type of a SimpleITK pixel type.

    Raises:
        InputError: complex numbers or another type that is not one real number.
    """
    import SimpleITK as sitk

    names = ("UInt8", "Int8", "UInt16", "Int16", "UInt32", "Int32", "UInt64", "Int64", "Float32", "Float64")
    for prefix in ("sitk", "sitkVector"):
        for name in names:
            if getattr(sitk, prefix + name) == pixel:
                return np.dtype(name.lower())
    kind = sitk.GetPixelIDValueAsString(pixel)
    raise InputError(f"{path}: its samples are of type {kind}; convert them to one real number each")


def _reason(error: Exception) -> str:
    lines: Sequence[str] = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [
        line for line in lines if not line.startswith("Exception thrown") and "[nrrd] nrrd" not in line
    ]
    text = (telling or lines)[0].removeprefix("ITK ERROR:").strip()
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
