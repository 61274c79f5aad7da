"""DICOM series: a folder of slices, or one multi-frame file, read by SimpleITK's GDCM."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError
from regflow.core.memory import check_room
from regflow.io.dicom_frames import count_frames, read_frames, read_frames_header, read_frames_volume
from regflow.io.dicom_geometry import stack_grid
from regflow.io.header import Volume, VolumeHeader
from regflow.io.itk_files import execute_reader, find_sample_type, open_reader, read_itk, read_itk_header

if TYPE_CHECKING:
    import SimpleITK as sitk

KIND = "DICOM"
_NUMBER, _DESCRIPTION = "0020|0011", "0008|103e"


class DicomSeries(NamedTuple):
    """One series of a folder: its UID, number, description and files in order of position."""

    uid: str
    number: str
    description: str
    files: tuple[str, ...]


def list_series(folder: Path) -> list[DicomSeries]:
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
        found.append(DicomSeries(uid, number, description, tuple(files)))
    if not found:
        raise InputError(f"{folder}: this folder holds no DICOM images; give an image file or a DICOM folder")
    return sorted(found, key=lambda series: (series.number.zfill(12), series.uid))


def read_dicom_header(path: Path, volume: Volume = None) -> VolumeHeader:
    """Read the headers of a series.

    Args:
        path: the folder, or one multi-frame file.
        volume: the series' number or UID, needed where the folder holds several; of one multi-frame file
            the index or name of the volume.

    Raises:
        InputError: several series and none named, a missing slice, a tilted gantry, or a header
            that describes no usable volume.
    """
    files = _files(path, volume)
    if len(files) == 1:
        return _single_header(path, files[0], volume)
    return _series_header(path, [open_reader(Path(name)) for name in files])


def read_dicom(path: Path, volume: Volume = None) -> tuple[NDArray[Any], VolumeHeader]:
    """Read a series, ``(z, y, x)``, and its header; see :func:`read_dicom_header`.

    Each slice is scaled by its own slope and intercept, and the volume's type holds them all.
    """
    files = _files(path, volume)
    if len(files) == 1:
        found = read_frames(Path(files[0]))
        if found is None:
            values, header = read_itk(Path(files[0]), KIND, None)
            return values, replace(header, path=path)
        return read_frames_volume(path, Path(files[0]), found, _within(path, volume))
    readers = [open_reader(Path(name)) for name in files]
    header = _series_header(path, readers)
    check_room(math.prod(header.grid.shape) * header.dtype.itemsize, f"{path}: the series")
    values = np.empty(header.grid.shape, header.dtype)
    for plane, reader in zip(values, readers, strict=True):
        plane[:] = execute_reader(reader, path).reshape(plane.shape)
    return values, header


def _single_header(path: Path, name: str, volume: Volume) -> VolumeHeader:
    found = read_frames(Path(name))
    if found is not None:
        return read_frames_header(path, found, _within(path, volume))
    return replace(read_itk_header(Path(name), KIND), path=path)


def _within(path: Path, volume: Volume) -> Volume:
    """Return which volume of a multi-frame file is meant: none where a folder's series is named."""
    if path.is_dir() and any(str(volume) in (item.number, item.uid) for item in list_series(path)):
        return None
    return volume


def _series_header(path: Path, readers: Sequence["sitk.ImageFileReader"]) -> VolumeHeader:
    first = readers[0]
    if any(reader.GetSize()[2:] not in ((), (1,)) for reader in readers):
        raise InputError(f"{path}: the series is several multi-frame files; name one of the files")
    if len({reader.GetSize()[:2] for reader in readers}) > 1:
        raise InputError(f"{path}: the slices differ in size; keep the files of one scan in a folder")
    cosines = np.reshape(first.GetDirection(), (3, 3))
    positions = np.array([reader.GetOrigin() for reader in readers])
    shape = (len(readers), first.GetSize()[1], first.GetSize()[0])
    plane = cosines[:, :2] * first.GetSpacing()[:2]
    grid = stack_grid(path, shape, positions, plane, cosines[:, 2])
    types = [find_sample_type(path, reader.GetPixelID()) for reader in readers]
    return VolumeHeader(path, KIND, grid, np.result_type(*types))


def _files(path: Path, volume: Volume) -> tuple[str, ...]:
    if path.is_file():
        if count_frames(path) < 2:
            raise InputError(f"{path}: a single DICOM slice; give the folder that holds the whole series")
        return (str(path),)
    series = list_series(path)
    chosen = [item for item in series if str(volume) in (item.number, item.uid)]
    if volume is None or (not chosen and len(series) == 1 and len(series[0].files) == 1):
        chosen = series
    if len(chosen) == 1:
        return chosen[0].files
    names = "; ".join(
        f"{item.number or '-'} '{item.description}' ({len(item.files)} files, {item.uid})" for item in series
    )
    asked = f"no single series '{volume}'" if volume is not None else f"{len(series)} series"
    raise InputError(
        f"{path}: holds {asked}; name one by its number or UID in the column 'volume' or by --volume, of "
        f"these: {names}"
    )
