"""NIfTI files: nibabel reads the headers; RAS becomes LPS here and nowhere else.

Which orientation counts: the sform when its code is set, else the qform, as nibabel, FSL and SPM
do it; with neither, the axes are left, posterior, superior from an origin of 0, as ITK does it: a half
turn from NIfTI's method 1, so never mirrored, and transforms mean the same in ITK's tools. What ITK
would read otherwise is said in a warning; a handedness on which sform and qform disagree is
refused, since left and right cannot be told.
"""

import gzip
import io
import math
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, product
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError
from regflow.core.files import whole
from regflow.core.grid import Grid
from regflow.core.io.header import (
    Header,
    Timing,
    Volume,
    check_samples,
    check_spacing,
    check_volume,
    volume_grid,
)

FORM_TOLERANCE = 0.1
"""Largest distance, in voxels, between what sform and qform say before a warning is due."""

QUATERNION_TOLERANCE = 7e-4
"""Radians by which a float32 quaternion may miss an angle, near half turns; no conflict either."""

COMPRESSION_LEVEL = 1
"""Higher levels save under a percent of a warped volume and take longer."""

GZIP_WINDOW = 31
"""zlib's name for a gzip container with the largest window; it holds neither a time nor a name."""

SCANNER = 1
"""NIFTI_XFORM_SCANNER_ANAT, as ITK writes it: with this code ITK reads the sform, whose float32 is
exact to micrometers, where a qform's quaternion near a half turn is off by 7e-4 of the extent."""

DEFLATE_RATIO = 1032
"""How many bytes one compressed byte can stand for at most (zlib's documentation)."""

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_HEADER_BYTES = 352
_NIFTI_2 = ((540).to_bytes(4, "little"), (540).to_bytes(4, "big"))
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)


class _Layout(NamedTuple):
    shape: tuple[int, ...]  # (z, y, x), without the axis of volumes
    volumes: int
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float


def read_nifti_header(path: Path) -> Header:
    """Read the header of a ``.nii`` or ``.nii.gz`` file.

    Raises:
        InputError: the header is damaged or describes no usable volume.
    """
    return _read_header(path)[0]


def read_nifti(path: Path, volume: Volume) -> tuple[NDArray[Any], Grid]:
    """Read one volume, ``(z, y, x)`` and its grid, in the type of the file or scaled to float.

    Raises:
        InputError: as :func:`read_nifti_header`, or the data end early.
    """
    header, layout = _read_header(path)
    index = check_volume(path, volume, layout.volumes)
    size = int(np.prod(layout.shape)) * layout.dtype.itemsize
    with _stream(path) as stream:
        stream.seek(layout.offset + index * size)
        content = stream.read(size)
        if index + 1 == layout.volumes:
            # At the end of a compressed file gzip compares its checksum.
            stream.read(1)
    if len(content) < size:
        raise InputError(
            f"{path}: ends early, {len(content)} of {size} bytes of samples are there; copy it again"
        )
    raw = np.frombuffer(content, layout.dtype).reshape(layout.shape)
    return _scaled(raw, layout, header.dtype), header.grid


def read_nifti_series(path: Path) -> Iterator[NDArray[Any]]:
    """Yield a file's volumes one after another, each as :func:`read_nifti` gives it; one is in memory.

    Raises:
        InputError: as :func:`read_nifti`.
    """
    header, layout = _read_header(path)
    size = int(np.prod(layout.shape)) * layout.dtype.itemsize
    with _stream(path) as stream:
        stream.seek(layout.offset)
        for index in range(layout.volumes):
            content = stream.read(size)
            if len(content) < size:
                raise InputError(
                    f"{path}: ends early, {index} of {layout.volumes} volumes are there; copy it again"
                )
            raw = np.frombuffer(content, layout.dtype).reshape(layout.shape)
            yield _scaled(raw, layout, header.dtype)
        # At the end of a compressed file gzip compares its checksum.
        stream.read(1)


def write_nifti(path: Path, data: NDArray[Any], grid: Grid) -> None:
    """Write a ``(z, y, x)`` array as NIfTI-1 with equal sform and qform, whole or not at all.

    Equal arrays give equal bytes. Of floats only runs of one value (the background) are matched:
    the files are as small as with zlib's full search and take a third of the time.
    """
    _write(path, [data], data.dtype, grid)


def write_nifti_series(
    path: Path, volumes: Iterable[NDArray[Any]], dtype: np.dtype[Any], grid: Grid, timing: Timing
) -> None:
    """Write volumes of one type as a 4-D file, as :func:`write_nifti`; one is in memory at a time."""
    _write(path, volumes, dtype, grid, timing)


def _write(
    path: Path,
    volumes: Iterable[NDArray[Any]],
    dtype: np.dtype[Any],
    grid: Grid,
    timing: Timing | None = None,
) -> None:
    samples = (np.ascontiguousarray(volume).data.cast("B") for volume in volumes)
    with whole(path) as part, part.open("wb") as stream:
        pieces: Iterable[bytes | memoryview] = chain([_header_bytes(dtype, grid, timing)], samples)
        if path.suffix.lower() == ".gz":
            strategy = zlib.Z_RLE if dtype.kind == "f" else zlib.Z_DEFAULT_STRATEGY
            packer = zlib.compressobj(COMPRESSION_LEVEL, zlib.DEFLATED, GZIP_WINDOW, strategy=strategy)
            stream.writelines(packer.compress(piece) for piece in pieces)
            stream.write(packer.flush())
        else:
            stream.writelines(pieces)


def _header_bytes(dtype: np.dtype[Any], grid: Grid, timing: Timing | None) -> bytes:
    import nibabel as nib

    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(grid.size if timing is None else (*grid.size, timing.volumes))
    header.set_data_offset(_HEADER_BYTES)
    header.set_xyzt_units("mm", None if timing is None else timing.unit)
    affine = _RAS_TO_LPS @ grid.affine
    header.set_qform(affine, SCANNER)
    header.set_sform(affine, SCANNER)
    if timing is not None:
        header["pixdim"][4] = timing.step
    start = io.BytesIO()
    header.write_to(start)
    return start.getvalue()


@contextmanager
def _stream(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as plain:
        packed = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        if not packed:
            yield plain
            return
        try:
            with gzip.GzipFile(fileobj=plain) as stream:
                yield stream  # type: ignore[misc]
        except _DAMAGED as error:
            raise InputError(
                f"{path}: the compressed data are damaged or end early; copy it again"
            ) from error


def _read_header(path: Path) -> tuple[Header, _Layout]:
    import nibabel as nib

    with _stream(path) as stream:
        kind = nib.Nifti2Header if stream.read(4) in _NIFTI_2 else nib.Nifti1Header
        stream.seek(0)
        try:
            # Unchecked: nibabel's check repairs in silence what the user should know.
            header = kind.from_fileobj(stream, check=False)
            slope, intercept = header.get_slope_inter()
            dtype = header.get_data_dtype()
            unit_of_time = header.get_xyzt_units()[1]
            offset = int(header.get_data_offset())
        except KeyError as error:
            raise InputError(
                f"{path}: the NIfTI header holds an unknown code ({error}); export it again"
            ) from error
        except (
            nib.spatialimages.HeaderDataError,
            nib.wrapstruct.WrapStructError,
            ValueError,
            OverflowError,
        ) as error:
            raise InputError(f"{path}: the NIfTI header is damaged ({error}); export it again") from error
    check_samples(path, dtype)
    sizes = tuple(int(n) for n in header.get_data_shape())
    if not sizes or min(sizes) < 1:
        raise InputError(f"{path}: the NIfTI header states the size {sizes}; export it again")
    if len(sizes) > 4 and any(n > 1 for n in sizes[4:]):
        raise InputError(
            f"{path}: has {len(sizes)} dimensions; give a file with one value per voxel and time"
        )
    layout = _Layout(
        shape=sizes[:3][::-1],
        volumes=math.prod(sizes[3:]),
        dtype=dtype,
        # Some writers leave the offset 0; the samples cannot begin inside the header.
        offset=max(offset, header.single_vox_offset),
        slope=1.0 if slope is None else float(slope),
        intercept=0.0 if intercept is None else float(intercept),
    )
    _check_size(path, layout)
    if len(sizes) >= 3:
        check_spacing(path, header["pixdim"][1:4])
    affine, warnings = _orientation(path, header)
    grid = volume_grid(path, layout.shape, _RAS_TO_LPS @ affine)
    timing = Timing(layout.volumes, float(header["pixdim"][4]), unit_of_time)
    return Header(path, "NIfTI", grid, _scaled_type(layout), layout.volumes, warnings, timing), layout


def _check_size(path: Path, layout: _Layout) -> None:
    needed = layout.offset + math.prod(layout.shape) * layout.volumes * layout.dtype.itemsize
    size = path.stat().st_size
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    # Also a compressed file cannot hold any number of bytes: memory is taken only for what may be there.
    if size * (DEFLATE_RATIO if packed else 1) < needed:
        there = f"{size} compressed" if packed else f"{size}"
        raise InputError(f"{path}: ends early, {there} of {needed} bytes are there; copy it again")


def _orientation(path: Path, header: Any) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the affine to RAS that counts, and warnings."""
    sform = np.asarray(header.get_sform(), dtype=np.float64)
    has_sform, has_qform = (int(header[code]) > 0 for code in ("sform_code", "qform_code"))
    if has_sform and has_qform:
        return sform, _conflict(path, sform, _qform(path, header), header.get_data_shape()[:3])
    if has_sform:
        return sform, ()
    if has_qform:
        return _qform(path, header), ()
    warning = (
        f"{path}: states no orientation (sform_code and qform_code are 0); the axes are taken as left, "
        "posterior, superior, as ITK does; set the codes if they are not"
    )
    in_lps = np.diag([*header["pixdim"][1:4].astype(np.float64), 1.0])
    return _RAS_TO_LPS @ in_lps, (warning,)


def _qform(path: Path, header: Any) -> NDArray[np.float64]:
    import nibabel as nib

    try:
        return np.asarray(header.get_qform(), dtype=np.float64)
    except (nib.spatialimages.HeaderDataError, ValueError) as error:  # a handedness of 0, a long quaternion
        raise InputError(f"{path}: the qform of the header is damaged ({error}); export it again") from error


def _conflict(
    path: Path, sform: NDArray[np.float64], qform: NDArray[np.float64], size: tuple[int, ...]
) -> tuple[str, ...]:
    if len(size) < 3:
        return ()
    corners = np.array(list(product(*[(0, n - 1) for n in size], (1,))))
    distance = float(np.linalg.norm(corners @ (sform - qform).T, axis=1).max())
    spacing = np.linalg.norm(sform[:3, :3], axis=0)
    extent = float(np.linalg.norm(spacing * (np.array(size) - 1)))
    if distance <= FORM_TOLERANCE * spacing.min() + QUATERNION_TOLERANCE * extent:
        return ()
    if np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0:
        raise InputError(
            f"{path}: sform and qform disagree on left and right; find out which holds and write both alike"
        )
    return (
        f"{path}: sform and qform disagree by up to {distance:.3g} mm; the sform is used, as in nibabel, FSL "
        "and SPM, but ITK and ANTs may read the qform: write both alike before using transforms there",
    )


def _scaled_type(layout: _Layout) -> np.dtype[Any]:
    native = layout.dtype.newbyteorder("=")
    if (layout.slope, layout.intercept) == (1.0, 0.0) or native.kind == "f":
        return native
    # float32 holds every 16-bit integer; wider ones need float64.
    return np.dtype(np.float32 if native.itemsize <= 2 else np.float64)


def _scaled(raw: NDArray[Any], layout: _Layout, dtype: np.dtype[Any]) -> NDArray[Any]:
    values = raw.astype(dtype)
    if (layout.slope, layout.intercept) != (1.0, 0.0):
        values *= dtype.type(layout.slope)
        values += dtype.type(layout.intercept)
    return values
