"""Formats that nibabel reads whole: FreeSurfer's MGH and AFNI's BRIK; RAS becomes LPS here."""

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError
from regflow.core.memory import check_room
from regflow.io.header import TimeAxis, Volume, VolumeHeader, check_samples, check_volume, make_volume_grid
from regflow.io.nifti_header import RAS_TO_LPS, check_bytes

_DAMAGED = (
    AttributeError,
    TypeError,
    ValueError,
    LookupError,
    ArithmeticError,
    EOFError,
    OSError,
    zlib.error,
)
"""What nibabel raises, beside its own errors, for files that make no sense."""


def read_nibabel_header(path: Path, kind: str) -> VolumeHeader:
    """Read the header of a file that nibabel knows.

    Raises:
        InputError: the header is damaged or describes no usable volume.
    """
    return _opened(path, kind)[0]


def read_nibabel(path: Path, kind: str, volume: Volume) -> tuple[NDArray[Any], VolumeHeader]:
    """Read one volume, ``(z, y, x)``, and the header, scaled values as float.

    Raises:
        InputError: as :func:`read_nibabel_header`, or the samples are damaged or end early.
    """
    header, image = _opened(path, kind)
    index = check_volume(path, volume, header.volumes)
    check_room(2.0 * np.prod(header.grid.shape) * header.dtype.itemsize, f"{path}: a volume")
    try:
        samples = np.asanyarray(image.dataobj[(..., index) if len(image.shape) > 3 else ...])
    except _DAMAGED as error:
        raise InputError(
            f"{path}: the data are damaged, missing or end early ({_reason(error)}); copy it again"
        ) from error
    values = samples.reshape(header.grid.size).T
    return np.ascontiguousarray(values, dtype=header.dtype), header


def _opened(path: Path, kind: str) -> tuple[VolumeHeader, Any]:
    import nibabel as nib
    from nibabel.brikhead import AFNIHeaderError, AFNIImageError
    from nibabel.filebasedimages import ImageFileError

    foreign = (ImageFileError, nib.spatialimages.HeaderDataError, AFNIHeaderError, AFNIImageError)
    try:
        image: Any = nib.load(path)
        sizes = tuple(int(n) for n in image.shape)
        affine = np.asarray(image.affine, dtype=np.float64)
        kept = int(np.dtype(image.get_data_dtype()).itemsize) * math.prod(sizes)
        check_bytes(path, Path(image.file_map["image"].filename), kept)
        # One value tells the type after scaling.
        dtype = np.asanyarray(image.dataobj[(0,) * len(sizes)]).dtype.newbyteorder("=")
        zooms = [float(value) for value in image.header.get_zooms()]
    except InputError:
        raise
    except (*foreign, *_DAMAGED) as error:
        raise InputError(f"{path}: the {kind} file is damaged ({_reason(error)}); export it again") from error
    check_samples(path, dtype)
    if len(sizes) > 4 or min(sizes) < 1:
        raise InputError(f"{path}: states the size {sizes}; give a file with one value per voxel and time")
    grid = make_volume_grid(path, sizes[:3][::-1], RAS_TO_LPS @ affine)
    volumes = sizes[3] if len(sizes) > 3 else 1
    timing = TimeAxis(volumes, zooms[3] if len(zooms) > 3 else 0.0)
    return VolumeHeader(path, kind, grid, dtype, volumes, timing=timing), image


def _reason(error: Exception) -> str:
    """Return the first line of an error, or its kind where it has no words."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
