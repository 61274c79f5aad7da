"""NIfTI headers: nibabel parses them; RAS becomes LPS here and nowhere else.

Which orientation counts: the sform when its code is set, else the qform, as nibabel, FSL and SPM
do it; with neither, the axes are left, posterior, superior from an origin of 0, as ITK does it: a half
turn from NIfTI's method 1, so never mirrored, and transforms mean the same in ITK's tools. What ITK
would read otherwise is said in a warning; a handedness on which sform and qform disagree is
refused, since left and right cannot be told. Lengths in meters and micrometers become millimeters, as
in ITK.
"""

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError
from regflow.io.header import TimeAxis, VolumeHeader, check_samples, check_spacing, make_volume_grid

FORM_TOLERANCE = 0.1
"""Largest distance, in voxels, between what sform, qform and pixdim say before a warning is due."""

QUATERNION_TOLERANCE = 7e-4
"""Radians by which a float32 quaternion may miss an angle, near half turns; no conflict either."""

DENSEST = 1032
"""Most bytes that deflate packs into one."""

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

_MILLIMETERS = {
    0: ("unstated", 1.0),
    1: ("meters", 1000.0),
    2: ("millimeters", 1.0),
    3: ("micrometers", 1e-3),
}
"""By NIfTI's code of the unit of length: its name, and its millimeters."""
_LENGTH_BITS, _TIME_BITS = 7, 56
_NIFTI_2 = ((540).to_bytes(4, "little"), (540).to_bytes(4, "big"))
_LITTLE_ENDIAN = ((348).to_bytes(4, "little"), (540).to_bytes(4, "little"))
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)
_PAIR = (".hdr", ".img")


class SampleLayout(NamedTuple):
    """How a file's samples are stored.

    Attributes:
        path: the file that holds them.
        shape: ``(z, y, x)``, without the axis of volumes.
        volumes: how many.
        dtype: as stored.
        offset: bytes before the first sample.
        slope: of the scaling.
        intercept: of the scaling.
    """

    path: Path
    shape: tuple[int, ...]
    volumes: int
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float

    @property
    def size(self) -> int:
        """Bytes of one volume as stored."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def is_scaled(self) -> bool:
        """Whether the values are not the stored numbers."""
        return (self.slope, self.intercept) != (1.0, 0.0)

    def choose_value_type(self) -> np.dtype[Any]:
        """Return the type that holds the values."""
        native = self.dtype.newbyteorder("=")
        if not self.is_scaled or native.kind == "f":
            return native
        # float32 holds every 16-bit integer; wider ones need float64.
        return np.dtype(np.float32 if native.itemsize <= 2 else np.float64)


def read_layout(path: Path) -> tuple[VolumeHeader, SampleLayout]:
    """Read the header of a ``.nii``, ``.nii.gz``, or ``.hdr`` with ``.img`` file.

    Raises:
        InputError: the header is damaged, describes no usable volume, or more than the file can hold.
    """
    parsed = _parsed(find_header_file(path))
    length, millimeters = _MILLIMETERS.get(int(parsed["xyzt_units"]) & _LENGTH_BITS, ("", 1.0))
    layout = _layout(path, parsed)
    check_bytes(path, layout.path, layout.offset + layout.size * layout.volumes)
    if int(parsed["dim"][0]) >= 3:
        check_spacing(path, parsed["pixdim"][1:4])
    affine, warnings = _orientation(path, parsed, millimeters)
    grid = make_volume_grid(path, layout.shape, RAS_TO_LPS @ affine)
    warnings += _unit_told(path, length, millimeters, grid.spacing)
    timing = TimeAxis(layout.volumes, float(np.nan_to_num(parsed["pixdim"][4])), _time_unit(parsed))
    step = abs(layout.slope) if layout.is_scaled and layout.dtype.kind in "iu" else 0.0
    header = VolumeHeader(
        path, "NIfTI", grid, layout.choose_value_type(), layout.volumes, tuple(warnings), timing, step
    )
    return header, layout


def find_header_file(path: Path) -> Path:
    """Return the file that holds the header: of a pair the ``.hdr``."""
    return _half(path, ".hdr")


@contextmanager
def open_binary(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, through gzip where it is compressed.

    Raises:
        InputError: the compressed data are damaged.
    """
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


def _half(path: Path, ending: str) -> Path:
    """Return a half of a pair of files, by either half's path; any other path as it is."""
    if path.suffix.lower() not in _PAIR:
        return path
    names = (ending, ending.upper())
    found = [half for half in (path.with_suffix(name) for name in names) if half.exists()]
    if not found:
        raise InputError(
            f"{path}: its other half, {path.with_suffix(ending).name}, is missing; copy both files"
        )
    return found[0]


def _parsed(path: Path) -> Any:
    """Return nibabel's header, unchecked: its check repairs in silence what the user should know."""
    import nibabel as nib

    ours = nib.spatialimages.HeaderDataError, nib.wrapstruct.WrapStructError
    damaged = (*ours, ValueError, LookupError, ArithmeticError)
    with open_binary(path) as stream:
        start = stream.read(4)
        kind = nib.Nifti2Header if start in _NIFTI_2 else nib.Nifti1Header
        stream.seek(0)
        try:
            # nibabel would tell the byte order by the number of dimensions, which may be damaged.
            header = kind.from_fileobj(stream, "<" if start in _LITTLE_ENDIAN else ">", check=False)
            header.get_slope_inter()
            header.get_data_dtype()
        except damaged as error:
            raise InputError(f"{path}: the NIfTI header is damaged ({error!r}); export it again") from error
    return header


def _layout(path: Path, header: Any) -> SampleLayout:
    """Return how the samples are stored, after checking what the header says of them."""
    dtype = header.get_data_dtype()
    check_samples(path, dtype)
    count = int(header["dim"][0])
    if not 1 <= count <= 7:
        raise InputError(f"{path}: the NIfTI header states {count} dimensions; export it again")
    sizes = tuple(int(n) for n in header["dim"][1 : count + 1])
    if min(sizes) < 1:
        raise InputError(f"{path}: the NIfTI header states the size {sizes}; export it again")
    if any(n > 1 for n in sizes[4:]):
        raise InputError(f"{path}: has {count} dimensions; give a file with one value per voxel and time")
    offset = float(header["vox_offset"])
    if not math.isfinite(offset):
        raise InputError(f"{path}: the NIfTI header states no place of the samples; export it again")
    slope, intercept = header.get_slope_inter()
    samples = _half(path, ".img")
    # Some writers leave the offset 0; the samples of a single file cannot begin inside the header.
    least = header.single_vox_offset if samples == find_header_file(path) else 0
    return SampleLayout(
        path=samples,
        shape=sizes[:3][::-1],
        volumes=math.prod(sizes[3:]),
        dtype=dtype,
        offset=max(int(offset), least),
        slope=1.0 if slope is None else float(slope),
        intercept=0.0 if intercept is None else float(intercept),
    )


def check_bytes(path: Path, samples: Path, needed: int) -> None:
    """Refuse a header that promises more than its file holds, or, compressed, can hold.

    Args:
        path: the file, for messages.
        samples: the file that holds the samples.
        needed: bytes that the header promises.
    """
    size = samples.stat().st_size
    with samples.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    if packed and size * DENSEST < needed:
        raise InputError(
            f"{path}: ends early, or its header is damaged: it promises {needed} bytes, more than {size} "
            "compressed ones can hold; copy it again"
        )
    if not packed and size < needed:
        raise InputError(f"{path}: ends early, {size} of {needed} bytes are there; copy it again")


def _orientation(path: Path, header: Any, millimeters: float) -> tuple[NDArray[np.float64], list[str]]:
    """Return the affine to RAS millimeters that counts, and warnings."""
    unit = np.diag([millimeters] * 3 + [1.0])
    has_sform, has_qform = (int(header[code]) > 0 for code in ("sform_code", "qform_code"))
    size = tuple(int(n) for n in header["dim"][1:4])
    if has_sform:
        sform = unit @ np.asarray(header.get_sform(), dtype=np.float64)
        told = _conflict(path, sform, unit @ _qform(path, header), size) if has_qform else []
        return sform, told or _spacing_conflict(path, sform, millimeters * header["pixdim"][1:4], size)
    if has_qform:
        return unit @ _qform(path, header), []
    warning = (
        f"{path}: states no orientation (sform_code and qform_code are 0); the axes are taken as left, "
        "posterior, superior, as ITK does; set the codes if they are not"
    )
    in_lps = np.diag([*header["pixdim"][1:4].astype(np.float64), 1.0])
    return RAS_TO_LPS @ unit @ in_lps, [warning]


def _qform(path: Path, header: Any) -> NDArray[np.float64]:
    from nibabel.spatialimages import HeaderDataError

    try:
        return np.asarray(header.get_qform(), dtype=np.float64)
    except (ValueError, HeaderDataError) as error:  # a quaternion longer than 1, a handedness that is neither
        raise InputError(f"{path}: the qform of the header is damaged ({error}); export it again") from error


def _conflict(
    path: Path, sform: NDArray[np.float64], qform: NDArray[np.float64], size: tuple[int, ...]
) -> list[str]:
    corners = np.array(list(product(*[(0, n - 1) for n in size], (1,))))
    distance = float(np.linalg.norm(corners @ (sform - qform).T, axis=1).max())
    spacing = np.linalg.norm(sform[:3, :3], axis=0)
    extent = float(np.linalg.norm(spacing * (np.array(size) - 1)))
    if distance <= FORM_TOLERANCE * spacing.min() + QUATERNION_TOLERANCE * extent:
        return []
    if np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0:
        raise InputError(
            f"{path}: sform and qform disagree on left and right; find out which holds and write both alike"
        )
    return [
        f"{path}: sform and qform disagree by up to {distance:.3g} mm; the sform is used, as in nibabel, FSL "
        "and SPM, but ITK and ANTs may read the qform: write both alike before using transforms there"
    ]


def _spacing_conflict(
    path: Path, sform: NDArray[np.float64], pixdim: NDArray[Any], size: tuple[int, ...]
) -> list[str]:
    spacing = np.linalg.norm(sform[:3, :3], axis=0)
    if np.all(np.abs(spacing - pixdim) * (np.array(size) - 1) <= FORM_TOLERANCE * spacing):
        return []
    stated, other = (" x ".join(f"{value:.4g}" for value in values) for values in (spacing, pixdim))
    return [
        f"{path}: the sform states a spacing of {stated} mm, pixdim one of {other} mm; the sform is used, as "
        "in nibabel and SPM, but ITK, ANTs and FSL read pixdim: find out which holds and write both alike "
        "before using transforms there"
    ]


def _unit_told(path: Path, length: str, millimeters: float, spacing: NDArray[np.float64]) -> list[str]:
    if not length:
        return [f"{path}: its unit of length has no known code; millimeters are taken"]
    if millimeters == 1.0:
        return []
    voxel = " x ".join(f"{value:.4g}" for value in spacing)
    return [
        f"{path}: its lengths are in {length}, so a voxel measures {voxel} mm, as in ITK; tools that pass "
        "over the unit, as nibabel and FSL do, see other sizes"
    ]


def _time_unit(header: Any) -> str:
    """Return nibabel's name of the fourth axis' unit; ``unknown`` for a code that is none of NIfTI's."""
    from nibabel.nifti1 import unit_codes

    code = int(header["xyzt_units"]) & _TIME_BITS
    return str(unit_codes.label[code]) if code in unit_codes.label else "unknown"
