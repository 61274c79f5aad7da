"""NIfTI files: samples as they are read and written, one volume at a time."""

import io
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError
from regflow.core.files import write_whole
from regflow.core.grid import Grid
from regflow.core.memory import check_room
from regflow.io.header import TimeAxis, Volume, VolumeHeader, check_volume
from regflow.io.nifti_header import RAS_TO_LPS, SampleLayout, open_binary, read_layout

COMPRESSION_LEVEL = 1
"""Higher levels save under a percent of a warped volume and take longer."""

GZIP_WINDOW = 31
"""zlib's name for a gzip container with the largest window; it holds neither a time nor a name."""

SCANNER = 1
"""NIFTI_XFORM_SCANNER_ANAT, as ITK writes it: with this code ITK reads the sform, whose float32 is
exact to micrometers, where a qform's quaternion near a half turn is off by 7e-4 of the extent."""

_HEADER_BYTES = 352


def read_nifti_header(path: Path) -> VolumeHeader:
    """Read the header of a ``.nii`` or ``.nii.gz`` file, or of a ``.hdr`` and ``.img`` pair.

    Raises:
        InputError: the header is damaged or describes no usable volume.
    """
    return read_layout(path)[0]


def read_nifti(path: Path, volume: Volume) -> tuple[NDArray[Any], VolumeHeader]:
    """Read one volume, ``(z, y, x)``, and the header, in the type of the file or scaled to float.

    Raises:
        InputError: as :func:`read_nifti_header`, the data end early, or the memory does not suffice.
    """
    header, layout = read_layout(path)
    index = check_volume(path, volume, layout.volumes)
    _check_room(path, layout)
    with open_binary(layout.path) as stream:
        stream.seek(layout.offset + index * layout.size)
        content = stream.read(layout.size)
        if index + 1 == layout.volumes:
            # At the end of a compressed file gzip compares its checksum.
            stream.read(1)
    if len(content) < layout.size:
        raise InputError(
            f"{path}: ends early, {len(content)} of {layout.size} bytes of samples are there; copy it again"
        )
    return _values(content, layout), header


def read_nifti_series(path: Path) -> Iterator[NDArray[Any]]:
    """Yield a file's volumes one after another, each as :func:`read_nifti` gives it; one is in memory.

    Raises:
        InputError: as :func:`read_nifti`.
    """
    layout = read_layout(path)[1]
    _check_room(path, layout)
    with open_binary(layout.path) as stream:
        stream.seek(layout.offset)
        for index in range(layout.volumes):
            content = stream.read(layout.size)
            if len(content) < layout.size:
                raise InputError(
                    f"{path}: ends early, {index} of {layout.volumes} volumes are there; copy it again"
                )
            yield _values(content, layout)
        # At the end of a compressed file gzip compares its checksum.
        stream.read(1)


def write_nifti(path: Path, data: NDArray[Any], grid: Grid) -> None:
    """Write a ``(z, y, x)`` array as NIfTI-1 with equal sform and qform, whole or not at all.

    Equal arrays give equal bytes. Of floats only runs of one value (the background) are matched:
    the files are as small as with zlib's full search and take a third of the time.
    """
    _write(path, [data], data.dtype, grid)


def write_nifti_planes(path: Path, planes: Iterable[NDArray[Any]], dtype: np.dtype[Any], grid: Grid) -> None:
    """Write the planes ``(y, x)`` of a volume, as :func:`write_nifti`; one is in memory at a time."""
    _write(path, planes, dtype, grid)


def write_nifti_series(
    path: Path, volumes: Iterable[NDArray[Any]], dtype: np.dtype[Any], grid: Grid, timing: TimeAxis
) -> None:
    """Write volumes of one type as a 4-D file, as :func:`write_nifti`; one is in memory at a time."""
    _write(path, volumes, dtype, grid, timing)


def _write(
    path: Path,
    volumes: Iterable[NDArray[Any]],
    dtype: np.dtype[Any],
    grid: Grid,
    timing: TimeAxis | None = None,
) -> None:
    samples = (np.ascontiguousarray(volume).data.cast("B") for volume in volumes)
    with write_whole(path) as part, part.open("wb") as stream:
        pieces: Iterable[bytes | memoryview] = chain([_header_bytes(dtype, grid, timing)], samples)
        if path.suffix.lower() == ".gz":
            strategy = zlib.Z_RLE if dtype.kind == "f" else zlib.Z_DEFAULT_STRATEGY
            packer = zlib.compressobj(COMPRESSION_LEVEL, zlib.DEFLATED, GZIP_WINDOW, strategy=strategy)
            stream.writelines(packer.compress(piece) for piece in pieces)
            stream.write(packer.flush())
        else:
            stream.writelines(pieces)


def _header_bytes(dtype: np.dtype[Any], grid: Grid, timing: TimeAxis | None) -> bytes:
    import nibabel as nib

    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(grid.size if timing is None else (*grid.size, timing.volumes))
    header.set_data_offset(_HEADER_BYTES)
    header.set_xyzt_units("mm", None if timing is None else timing.unit)
    affine = RAS_TO_LPS @ grid.affine
    header.set_qform(affine, SCANNER)
    header.set_sform(affine, SCANNER)
    if timing is not None:
        header["pixdim"][4] = timing.step
    start = io.BytesIO()
    header.write_to(start)
    return start.getvalue()


def _check_room(path: Path, layout: SampleLayout) -> None:
    """Refuse a volume whose stored bytes and values do not fit into memory together."""
    check_room(
        layout.size * (1 + layout.choose_value_type().itemsize / layout.dtype.itemsize), f"{path}: a volume"
    )


def _values(content: bytes, layout: SampleLayout) -> NDArray[Any]:
    """Return the values of a volume's stored bytes, in native byte order."""
    dtype = layout.choose_value_type()
    values = np.frombuffer(content, layout.dtype).reshape(layout.shape).astype(dtype)
    if layout.is_scaled:
        values *= dtype.type(layout.slope)
        values += dtype.type(layout.intercept)
    return values
