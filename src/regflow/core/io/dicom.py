"""DICOM series: a folder of slices, or one multi-frame file, read by SimpleITK's GDCM."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.core.io.header import Header, Volume, volume_grid
from regflow.core.io.itk_files import execute, open_reader, read_itk, read_itk_header, sample_type

STEP_TOLERANCE = 0.1
"""Largest departure of one step between slices from the usual one, as a part of it."""

TILT_TOLERANCE = 0.01
"""Largest sideways drift of the slices per millimeter along their normal."""

KIND = "DICOM"
_NUMBER, _DESCRIPTION = "0020|0011", "0008|103e"


class Series(NamedTuple):
    """One series of a folder: its UID, number, description and files in order of position."""

    uid: str
    number: str
    description: str
    files: tuple[str, ...]


def list_series(folder: Path) -> list[Series]:
    """Return the series in a folder, by number.

    Raises:
        InputError: there is none.
    """
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader
    found = []
    for uid in reader.GetGDCMSeriesIDs(str(folder)):
        files = reader.GetGDCMSeriesFileNames(str(folder), uid)
        first = open_reader(Path(files[0]))
        number, description = (
            first.GetMetaData(key).strip() if first.HasMetaDataKey(key) else ""
            for key in (_NUMBER, _DESCRIPTION)
        )
        found.append(Series(uid, number, description, tuple(files)))
    if not found:
        raise InputError(f"{folder}: this folder holds no DICOM images; give an image file or a DICOM folder")
    return sorted(found, key=lambda series: (series.number.zfill(12), series.uid))


def read_dicom_header(path: Path, volume: Volume = None) -> Header:
    """Read the headers of a series.

    Args:
        path: the folder, or one multi-frame file.
        volume: the series' number or UID; needed where the folder holds several.

    Raises:
        InputError: several series and none named, a missing slice, a tilted gantry, or a header
            that describes no usable volume.
    """
    files = _files(path, volume)
    if len(files) == 1:
        return _single(path, files[0])
    readers = [open_reader(Path(name)) for name in files]
    first = readers[0]
    cosines = np.reshape(first.GetDirection(), (3, 3))
    positions = np.array([reader.GetOrigin() for reader in readers])
    if len({reader.GetSize()[:2] for reader in readers}) > 1:
        raise InputError(f"{path}: the slices differ in size; keep the files of one scan in a folder")
    step = _step(path, positions, cosines[:, 2])
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([cosines[:, :2] * first.GetSpacing()[:2], step])
    affine[:3, 3] = positions[0]
    shape = (len(files), *first.GetSize()[1::-1])
    return Header(path, KIND, volume_grid(path, shape, affine), sample_type(path, first.GetPixelID()))


def read_dicom(path: Path, volume: Volume = None) -> tuple[NDArray[Any], Grid]:
    """Read a series, ``(z, y, x)`` and its grid; see :func:`read_dicom_header`."""
    import SimpleITK as sitk

    files = _files(path, volume)
    if len(files) == 1:
        return read_itk(Path(files[0]), KIND, None)
    grid = read_dicom_header(path, volume).grid
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(files)
    return execute(reader, path), grid


def _single(path: Path, name: str) -> Header:
    header = read_itk_header(Path(name), KIND)
    return Header(path, KIND, header.grid, header.dtype, header.volumes)


def _files(path: Path, volume: Volume) -> tuple[str, ...]:
    if path.is_file():
        if open_reader(path).GetSize()[2:] in ((), (1,)):
            raise InputError(f"{path}: a single DICOM slice; give the folder that holds the whole series")
        return (str(path),)
    series = list_series(path)
    chosen = [item for item in series if str(volume) in (item.number, item.uid)]
    if volume is None:
        chosen = series
    if len(chosen) == 1:
        return chosen[0].files
    names = "; ".join(
        f"{item.number or '-'} '{item.description}' ({len(item.files)} files, {item.uid})" for item in series
    )
    asked = f"no single series '{volume}'" if volume is not None else f"{len(series)} series"
    raise InputError(
        f"{path}: holds {asked}; name one by its number or UID in the column 'volume', of these: {names}"
    )


def _step(path: Path, positions: NDArray[np.float64], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the vector from slice to slice, along the normal."""
    steps = np.diff(positions, axis=0)
    heights = steps @ normal
    usual = float(np.median(heights))
    if abs(usual) < 1e-6 or np.any(np.abs(heights) < 1e-6):
        raise InputError(
            f"{path}: several slices lie at one position (echoes, times); keep one volume's files in a folder"
        )
    if np.abs(heights - usual).max() > STEP_TOLERANCE * abs(usual):
        low, high = np.abs(heights).min(), np.abs(heights).max()
        raise InputError(
            f"{path}: the steps between slices go from {low:.3g} to {high:.3g} mm; a slice is missing or two "
            "scans are mixed: copy the series again"
        )
    span = positions[-1] - positions[0]
    height = float(span @ normal)
    if np.linalg.norm(span - height * normal) > TILT_TOLERANCE * abs(height):
        raise InputError(
            f"{path}: the slices are stacked at a slant (tilted gantry); resample the series onto an "
            "orthogonal grid, e.g. with dcm2niix"
        )
    return np.asarray(normal * height / (len(positions) - 1))
