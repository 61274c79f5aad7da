"""What a volume's header says, and the checks every format shares."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regflow.core.errors import InputError
from regflow.core.grid import Grid

Volume = int | str | None
"""Which volume of a file: an index from 0, or the series number or UID in a DICOM folder."""

ROUNDING = 1e-6
"""Departure from orthonormal axes that float32 headers cause; left as it is."""

SHEAR_TOLERANCE = 1e-3
"""Largest cosine between two axes that is taken as a rounding error and repaired."""

AXES = "xyz"


@dataclass(frozen=True)
class TimeAxis:
    """The fourth axis of a file.

    Attributes:
        volumes: how many.
        step: distance between them, 0 when the file does not say.
        unit: of the step, as nibabel names it: ``sec``, ``msec``, ``hz``, ``unknown`` ...
    """

    volumes: int
    step: float = 0.0
    unit: str = "unknown"


@dataclass(frozen=True)
class VolumeHeader:
    """Where a volume lies and what its samples are, known without reading them.

    Attributes:
        path: the file, or the folder of a DICOM series.
        format: ``NIfTI``, ``NRRD``, ``MetaImage`` or ``DICOM``.
        grid: the volume's grid, LPS millimeters.
        dtype: type of the samples after scaling.
        volumes: how many volumes the file holds.
        warnings: sentences on what was decided for the user, empty for a sound header.
        timing: the fourth axis, where the format has one.
        step: between neighboring values of samples stored as scaled integers; 0 where values are stored.
        names: of the volumes, where the format names them; each may be asked for by its name.
    """

    path: Path
    format: str
    grid: Grid
    dtype: np.dtype[Any]
    volumes: int = 1
    warnings: tuple[str, ...] = ()
    timing: TimeAxis | None = None
    step: float = 0.0
    names: tuple[str, ...] = ()


def make_volume_grid(path: Path, shape: Sequence[int], affine: ArrayLike) -> Grid:
    """Return a volume's grid after checking that its header makes sense.

    Args:
        path: the file, for messages.
        shape: ``(z, y, x)``.
        affine: ``(4, 4)`` from ``(x, y, z)`` indices to LPS millimeters.

    Raises:
        InputError: a single slice, a spacing that is not a positive number, a singular affine,
            or axes that are not at right angles.
    """
    if len(shape) != 3 or min(shape) < 2:
        size = " x ".join(str(n) for n in reversed(shape))
        raise InputError(f"{path}: holds {size} samples, but a 3-D volume is needed; give the whole volume")
    matrix = np.array(affine, dtype=np.float64)
    if not np.isfinite(matrix).all():
        raise InputError(f"{path}: the affine of the header is not finite; write the header again")
    check_spacing(path, np.linalg.norm(matrix[:3, :3], axis=0))
    matrix[:3, :3] = _orthogonal(path, matrix[:3, :3], shape)
    center = (np.array(shape[::-1]) - 1) / 2
    # The repair turns about the middle, so that no corner moves more than it must.
    matrix[:3, 3] += (np.asarray(affine, dtype=np.float64)[:3, :3] - matrix[:3, :3]) @ center
    return Grid(tuple(shape), matrix)


def check_spacing(path: Path, spacing: ArrayLike) -> None:
    """Refuse a spacing that is zero, negative or not finite.

    Raises:
        InputError: naming the file, the axis and the value.
    """
    for axis, value in zip(AXES, np.asarray(spacing, dtype=np.float64), strict=False):
        if not (np.isfinite(value) and value > 0):
            raise InputError(
                f"{path}: the spacing along {axis} is {value:g} mm, which is not positive; correct the header"
            )


def check_volume(path: Path, volume: Volume, volumes: int, names: Sequence[str] = ()) -> int:
    """Return the index of the wanted volume of a file with ``volumes`` of them.

    Args:
        path: the file, for messages.
        volume: index, or one of ``names``.
        volumes: how many there are.
        names: of the volumes, where they have any.

    Raises:
        InputError: none is named where there are several, or there is no such volume.
    """
    listed = (
        ": " + ", ".join(f"{k} '{name}'" for k, name in enumerate(names)) if volumes > 1 and names else ""
    )
    if volume is None:
        if volumes == 1:
            return 0
        raise InputError(
            f"{path}: holds {volumes} volumes{listed}; name one of a moving file (0 to {volumes - 1}) in the "
            "column 'volume' or by --volume, or save it as a file of its own"
        )
    if str(volume) in names:
        return names.index(str(volume))
    if str(volume).isdigit() and int(volume) < volumes:
        return int(volume)
    raise InputError(f"{path}: has no volume '{volume}'; name one from 0 to {volumes - 1}{listed}")


def check_samples(path: Path, dtype: np.dtype[Any]) -> None:
    """Refuse complex numbers, colors and other samples that are not one real number each.

    Raises:
        InputError: naming the file and the type.
    """
    if dtype.kind not in "iufb" or dtype.itemsize > 8:
        raise InputError(f"{path}: its samples are of type {dtype}; convert them to one real number each")


def _orthogonal(path: Path, linear: NDArray[np.float64], shape: Sequence[int]) -> NDArray[np.float64]:
    spacing = np.linalg.norm(linear, axis=0)
    cosines = linear / spacing
    gram = cosines.T @ cosines
    worst = float(np.abs(gram - np.diag(np.diag(gram))).max())
    if abs(float(np.linalg.det(cosines))) < SHEAR_TOLERANCE:
        raise InputError(f"{path}: the affine is singular (its axes lie in one plane); correct the header")
    if worst > SHEAR_TOLERANCE:
        degrees = abs(90 - np.degrees(np.arccos(np.clip(worst, -1, 1))))
        raise InputError(
            f"{path}: the affine is sheared (axes {degrees:.2g} degrees off a right angle), which ITK cannot "
            "store; resample the volume onto an orthogonal grid"
        )
    if worst <= ROUNDING:
        return linear
    left, _, right = np.linalg.svd(cosines)
    return np.asarray((left @ right) * spacing)
