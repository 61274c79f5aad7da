"""Reading and writing volumes in the formats of the field: NIfTI, NRRD, MetaImage, MGH, AFNI and DICOM."""

import glob
import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError
from regflow.core.files import describe_absence
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.labels import Labels, round_labels
from regflow.io.dicom import read_dicom, read_dicom_header
from regflow.io.header import TimeAxis, Volume, VolumeHeader
from regflow.io.itk_files import read_itk, read_itk_header, write_itk
from regflow.io.nibabel_files import read_nibabel, read_nibabel_header
from regflow.io.nifti import (
    read_nifti,
    read_nifti_header,
    read_nifti_series,
    write_nifti,
    write_nifti_series,
)
from regflow.io.nifti_header import find_header_file
from regflow.io.object_store import find_copy

READ = {
    ".nii.gz": "compressed NIfTI",
    ".nii": "NIfTI",
    ".hdr": "NIfTI pair",
    ".img": "NIfTI pair",
    ".nrrd": "NRRD",
    ".nhdr": "NRRD",
    ".mha": "MetaImage",
    ".mhd": "MetaImage",
    ".mgz": "compressed MGH",
    ".mgh": "MGH",
    ".head": "AFNI",
    ".brik": "AFNI",
    ".brik.gz": "AFNI",
    ".dcm": "DICOM",
}
"""What the content of a file must be, by how its name ends; a folder is a DICOM series."""

WRITTEN = (".nii.gz", ".nii", ".nrrd", ".mha")

_FOREIGN = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"II*\0": "a TIFF picture",
    b"MM\0*": "a TIFF picture",
    b"PK\x03\x04": "a ZIP archive",
    b"\x89HDF": "an HDF5 or MINC file",
    b"\x1f\x8b": "a gzip file",
    b"%PDF": "a PDF",
}
PAIR = (".hdr", ".img")
ANALYZE = "an Analyze 7.5 file"
_ANALYZE_SIZES = ((348).to_bytes(4, "little"), (348).to_bytes(4, "big"))
_NIBABEL = ("MGH", "compressed MGH", "AFNI")
_SNIFFED = 352  # bytes: enough for NIfTI's and DICOM's marks


def read_header(path: str | Path, volume: Volume = None) -> VolumeHeader:
    """Read where a volume lies and what its samples are.

    Args:
        path: a file that ends as :data:`READ` lists, or the folder of a DICOM series.
        volume: the series in a DICOM folder, or the volume of a multi-frame file; of no effect on other
            headers.

    Raises:
        InputError: the file is missing, empty, not what its name says, or its header is damaged
            or describes no usable 3-D volume.
    """
    path = Path(find_copy(path))
    kind = _kind(path)
    if kind == "DICOM":
        return read_dicom_header(path, volume)
    if "NIfTI" in kind:
        return read_nifti_header(path)
    return read_nibabel_header(path, kind) if kind in _NIBABEL else read_itk_header(path, kind)


def read_volume(path: str | Path, volume: Volume = None) -> Image:
    """Read a volume: ``(1, z, y, x)`` in the file's own type (scaled values as float), LPS grid.

    Args:
        path: as for :func:`read_header`.
        volume: index from 0 in a file of several volumes; number or UID of the series in a
            DICOM folder of several.

    Raises:
        InputError: as for :func:`read_header`, or the samples are damaged or end early, or the
            volume has to be named.
    """
    return read_with_header(path, volume)[0]


def read_with_header(path: str | Path, volume: Volume = None) -> tuple[Image, VolumeHeader]:
    """Read a volume as :func:`read_volume` does, and its header as :func:`read_header`, which is read once.

    Raises:
        InputError: as for :func:`read_volume`.
    """
    path = Path(find_copy(path))
    kind = _kind(path)
    if kind == "DICOM":
        data, header = read_dicom(path, volume)
    elif "NIfTI" in kind:
        data, header = read_nifti(path, volume)
    elif kind in _NIBABEL:
        data, header = read_nibabel(path, kind, volume)
    else:
        data, header = read_itk(path, kind, volume)
    return Image(data[None], header.grid), header


def read_series(path: str | Path) -> Iterator[NDArray[Any]]:
    """Yield every volume of a file, ``(z, y, x)`` each, as :func:`read_volume` would give it.

    Only one volume of a NIfTI file is in memory at a time.

    Raises:
        InputError: as for :func:`read_volume`.
    """
    path = Path(find_copy(path))
    if "NIfTI" in _kind(path):
        yield from read_nifti_series(path)
        return
    header = read_header(path)
    for index in range(header.volumes):
        image = read_volume(path, index if header.volumes > 1 else None)
        if not image.grid.matches(header.grid):
            raise InputError(
                f"{path}: its volumes lie on different grids; save the wanted one as a file of its own"
            )
        yield image.channel


def read_labels(path: str | Path, volume: Volume = None) -> tuple[Labels, Grid]:
    """Read a label map, ``(z, y, x)`` whole numbers, and its grid.

    Values that a file's integer scaling or float arithmetic left beside whole numbers are rounded.

    Args:
        path: as for :func:`read_header`.
        volume: as for :func:`read_volume`.

    Raises:
        InputError: as for :func:`read_volume`, or the values are no labels.
    """
    image, header = read_with_header(path, volume)
    try:
        return round_labels(image.channel, header.step), image.grid
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def is_volume(path: str | Path) -> bool:
    """Tell a volume's file or folder from a raster's by its name; an ``.img`` or ``.hdr`` by its content."""
    path = Path(path)
    if _ending(path) in PAIR:
        return path.exists() and describe_absence(path) is None and _content(path) in ("NIfTI pair", ANALYZE)
    return path.is_dir() or _ending(path) in READ


def refuse_diffusion_series(path: str | Path) -> None:
    """Refuse a volume that has a table of gradient directions (``.bvec``, or ``.bvecs``) beside it.

    Resampled, its directions would have to turn with the anatomy, in each voxel by another angle.

    Raises:
        InputError: it has one.
    """
    path = Path(find_copy(path))
    stem = path.name.removesuffix(_ending(path))
    for ending in (".bvec", ".bvecs"):
        if path.with_name(stem + ending).is_file():
            raise InputError(
                f"{path}: a diffusion series, whose gradient directions ({stem}{ending}) would no longer fit "
                "once it is resampled; align what is computed of it instead (FA, MD, the volume without "
                "diffusion weighting)"
            )


def write_series(
    path: str | Path, volumes: Iterable[NDArray[Any]], dtype: np.dtype[Any], grid: Grid, timing: TimeAxis
) -> None:
    """Write ``grid.shape`` volumes of one type as a 4-D NIfTI, whole or not at all.

    Only one is in memory at a time. 64-bit integers become float64, because few tools read them.

    Raises:
        InputError: the suffix is not NIfTI's.
    """
    path = Path(path)
    if not _ending(path).startswith(".nii"):
        raise InputError(f"{path}: several volumes are written as NIfTI; name a file that ends in .nii.gz")
    kept = np.dtype(np.float64) if dtype.kind in "iu" and dtype.itemsize == 8 else choose_portable_type(dtype)
    write_nifti_series(path, (volume.astype(kept, copy=False) for volume in volumes), kept, grid, timing)


def write_volume(path: str | Path, data: NDArray[Any], grid: Grid) -> None:
    """Write a ``grid.shape`` array, whole or not at all; equal arrays give equal bytes.

    Args:
        path: ends in ``.nii`` (fast, for what is read again), ``.nii.gz``, ``.nrrd`` or ``.mha``.
        data: booleans become uint8; 64-bit integers the smallest type that holds them, because
            few tools read them; half floats become float32.
        grid: where the samples lie.

    Raises:
        InputError: the suffix is none of these.
    """
    path = Path(path)
    if data.shape != grid.shape:
        raise ValueError(f"data of shape {data.shape} do not lie on a grid of {grid.shape}")
    ending = _ending(path)
    if ending not in WRITTEN:
        raise InputError(f"{path}: cannot write this format; name a file that ends in {', '.join(WRITTEN)}")
    write = write_nifti if ending.startswith(".nii") else write_itk
    write(path, make_portable(data), grid)


def make_portable(data: NDArray[Any]) -> NDArray[Any]:
    """Return samples in a type that every tool reads; see :func:`write_volume`."""
    if data.dtype.kind in "iu" and data.dtype.itemsize == 8:
        low, high = (int(data.min()), int(data.max())) if data.size else (0, 0)
        for name in ("uint8", "int16", "int32"):
            limits = np.iinfo(name)
            if limits.min <= low and high <= limits.max:
                return data.astype(name)
    return data.astype(choose_portable_type(data.dtype), copy=False)


def choose_portable_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return uint8 for booleans, float32 for half floats, any other type in this machine's order of bytes."""
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    return np.dtype(np.float32) if dtype.kind == "f" and dtype.itemsize == 2 else dtype.newbyteorder("=")


def _ending(path: Path) -> str:
    name = path.name.lower()
    return next((ending for ending in READ if name.endswith(ending)), path.suffix.lower())


def _kind(path: Path) -> str:
    """Return what a path holds, after comparing its name with its content."""
    missing = describe_absence(path)
    if missing is not None:
        raise InputError(f"{path}: {missing}")
    if path.is_dir():
        return "DICOM"
    if path.stat().st_size == 0:
        raise InputError(f"{path}: this file is empty; copy it again")
    ending, content = _ending(path), _content(path)
    expected = READ.get(ending)
    if content == expected and expected is not None:
        return expected
    if content in READ.values():
        proper = next(name for name, kind in READ.items() if kind == content)
        raise InputError(
            f"{path}: the name ends in '{ending}' but the content is {content}; rename it to '{proper}'"
        )
    if expected is None:
        raise InputError(f"{path}: not an image format that is read; convert it to one of {', '.join(READ)}")
    if content == ANALYZE:
        raise InputError(f"{path}: {ANALYZE}, which does not tell left from right; convert it to NIfTI")
    what = f"{content}" if content else "something else"
    raise InputError(f"{path}: not {expected} as its name says but {what}; export it again")


def _content(path: Path) -> str | None:
    ending = _ending(path)
    if ending in PAIR:
        path = find_header_file(path)
    elif READ.get(ending) == "AFNI":
        return "AFNI" if _is_afni(path, ending) else None
    with path.open("rb") as stream:
        start = stream.read(_SNIFFED)
    if start[:2] == b"\x1f\x8b":
        try:
            with gzip.open(path) as stream:
                inner = stream.read(_SNIFFED)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(
                f"{path}: the compressed data are damaged or end early; copy it again"
            ) from error
        if _is_nifti(inner):
            return "compressed NIfTI"
        if _is_mgh(inner):
            return "compressed MGH"
    if _is_nifti(start):
        return "NIfTI"
    if ending in PAIR:
        return _content_of_pair(start)
    if start.startswith(b"NRRD"):
        return "NRRD"
    if start[128:132] == b"DICM":
        return "DICOM"
    if b"ObjectType" in start or b"NDims" in start:
        return "MetaImage"
    foreign = next((name for mark, name in _FOREIGN.items() if start.startswith(mark)), None)
    return foreign or ("MGH" if _is_mgh(start) else None)


def _is_nifti(start: bytes) -> bool:
    return start[344:348] == b"n+1\0" or start[4:8] == b"n+2\0"


def _content_of_pair(start: bytes) -> str | None:
    if start[344:348] == b"ni1\0" or start[4:8] == b"ni2\0":
        return "NIfTI pair"
    return ANALYZE if start[:4] in _ANALYZE_SIZES else None


def _is_mgh(start: bytes) -> bool:
    """Tell an MGH header: version 1, then four sizes of at least 1, all big-endian."""
    if len(start) < 20 or start[:4] != b"\0\0\0\1":
        return False
    return all(int.from_bytes(start[k : k + 4], "big", signed=True) > 0 for k in range(4, 20, 4))


def _is_afni(path: Path, ending: str) -> bool:
    """Tell AFNI's text header, which lies beside the samples."""
    if ending != ".head":
        stem = path.name[: -len(ending)]
        path = next(
            (one for one in path.parent.glob(f"{glob.escape(stem)}.*") if one.suffix.lower() == ".head"), path
        )
    with path.open("rb") as stream:
        return b"type" in stream.read(_SNIFFED)
