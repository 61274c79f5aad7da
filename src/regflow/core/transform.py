"""Transforms from FIXED world points to MOVING world points, ITK's convention.

Each can be applied to points, composed, inverted, and written and read back as a standard ITK
file (:mod:`regflow.io.transforms`). One direction everywhere: a transform that aligns the
moving image with the fixed one says, for a point of the fixed image, where to look in the moving
image. Landmarks that are to be moved onto the fixed image need the inverse.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid

Points = NDArray[np.float64]


@runtime_checkable
class Transform(Protocol):
    """What every transform can do; world points are ``(N, d)`` in ``(x, y, z)`` order."""

    @property
    def ndim(self) -> int:
        """Number of coordinates of a point."""

    def apply(self, points: ArrayLike) -> Points:
        """Map fixed world points to moving world points."""

    def inverse(self) -> "Transform":
        """Return the transform from moving to fixed world points."""


@dataclass(frozen=True, eq=False)
class Affine:
    """A linear map and a translation.

    Attributes:
        matrix: homogeneous ``(d + 1, d + 1)`` float64 matrix, last row ``(0, .., 0, 1)``.
    """

    matrix: NDArray[Any]

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, dtype=np.float64)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"an affine needs a square homogeneous matrix, got {matrix.shape}")
        matrix.setflags(write=False)
        object.__setattr__(self, "matrix", matrix)

    @classmethod
    def identity(cls, ndim: int) -> "Affine":
        """Return the map that leaves every point of ``ndim`` coordinates where it is."""
        return cls(np.eye(ndim + 1))

    @classmethod
    def from_parts(
        cls, linear: ArrayLike, translation: ArrayLike, center: ArrayLike | None = None
    ) -> "Affine":
        """Build ``x -> linear (x - center) + center + translation``, as ITK parametrizes it."""
        linear = np.asarray(linear, dtype=np.float64)
        ndim = linear.shape[0]
        pivot = np.zeros(ndim) if center is None else np.asarray(center, dtype=np.float64)
        matrix = np.eye(ndim + 1)
        matrix[:-1, :-1] = linear
        matrix[:-1, -1] = pivot + np.asarray(translation, dtype=np.float64) - linear @ pivot
        return cls(matrix)

    @property
    def ndim(self) -> int:
        """Number of coordinates of a point."""
        return int(self.matrix.shape[0]) - 1

    @property
    def linear(self) -> NDArray[Any]:
        """The ``(d, d)`` linear part."""
        return self.matrix[:-1, :-1]

    @property
    def translation(self) -> NDArray[Any]:
        """The image of the world's origin, ``(d,)``."""
        return self.matrix[:-1, -1]

    def apply(self, points: ArrayLike) -> Points:
        """Map fixed world points ``(N, d)`` to moving world points."""
        return np.asarray(points, dtype=np.float64) @ self.linear.T + self.translation

    def inverse(self) -> "Affine":
        """Return the exact inverse.

        Raises:
            RegistrationError: the linear part is singular.
        """
        try:
            return Affine(np.linalg.inv(self.matrix))
        except np.linalg.LinAlgError as error:
            raise RegistrationError("the affine transform is singular and has no inverse") from error


@dataclass(frozen=True, eq=False)
class Homography:
    """A projective map of the plane: straight lines stay straight, parallels may meet.

    Attributes:
        matrix: homogeneous ``(3, 3)`` float64 matrix, scaled so that its last element is 1.
        center: a point, usually the fixed scene's middle, in which ``matrix`` has its origin:
            ``x -> h(x - center) + center``. World coordinates of millions of meters would leave a
            perspective part without digits.
    """

    matrix: NDArray[Any]
    center: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, dtype=np.float64)
        if matrix.shape != (3, 3):
            raise ValueError(f"a homography needs a 3x3 matrix, got {matrix.shape}")
        if matrix[2, 2] == 0:
            raise RegistrationError("the homography sends its center to infinity")
        matrix = matrix / matrix[2, 2]
        matrix.setflags(write=False)
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "center", (float(self.center[0]), float(self.center[1])))

    @property
    def ndim(self) -> int:
        """Number of coordinates of a point."""
        return 2

    def apply(self, points: ArrayLike) -> Points:
        """Map fixed world points ``(N, 2)`` to moving world points; NaN beyond the horizon."""
        local = np.asarray(points, dtype=np.float64) - self.center
        weight = local @ self.matrix[2, :2] + 1.0
        weight = np.where(weight > 0, weight, np.nan)
        moved = (local @ self.matrix[:2, :2].T + self.matrix[:2, 2]) / weight[..., None]
        return np.asarray(moved + self.center)

    def inverse(self) -> "Homography":
        """Return the exact inverse.

        Raises:
            RegistrationError: the matrix is singular, or the center's origin lies at infinity.
        """
        try:
            return Homography(np.linalg.inv(self.matrix), self.center)
        except np.linalg.LinAlgError as error:
            raise RegistrationError("the homography is singular and has no inverse") from error


@dataclass(frozen=True, eq=False)
class DisplacementField:
    """A displacement sampled on a grid and interpolated linearly: ``x -> x + u(x)``.

    Outside the grid the displacement is zero, as in ITK's DisplacementFieldTransform; within half
    a sample of the border it is the border's.

    Attributes:
        vectors: ``(d, *grid.shape)`` float32 displacements in world units, components in
            ``(x, y, z)`` order.
        grid: where the vectors stand, normally the fixed image's grid.
    """

    vectors: NDArray[np.float32]
    grid: Grid

    def __post_init__(self) -> None:
        vectors = np.asarray(self.vectors, dtype=np.float32)
        if vectors.shape != (self.grid.ndim, *self.grid.shape):
            raise ValueError(f"vectors of shape {vectors.shape} do not lie on a grid of {self.grid.shape}")
        object.__setattr__(self, "vectors", vectors)

    @property
    def ndim(self) -> int:
        """Number of coordinates of a point."""
        return self.grid.ndim

    def apply(self, points: ArrayLike) -> Points:
        """Map fixed world points ``(N, d)`` to moving world points."""
        points = np.asarray(points, dtype=np.float64)
        index = self.grid.to_index(points)
        inside = np.all((index >= -0.5) & (index <= np.array(self.grid.size) - 0.5), axis=-1)
        return np.asarray(points + np.where(inside[..., None], self._sampled(index), 0.0))

    def extrapolate(self, points: ArrayLike) -> Points:
        """Map points as :meth:`apply` does, those outside the grid by the border's displacement."""
        points = np.asarray(points, dtype=np.float64)
        return np.asarray(points + self._sampled(self.grid.to_index(points)))

    def _sampled(self, index: Points) -> Points:
        from scipy.ndimage import map_coordinates

        coordinates = index[..., ::-1].T
        return np.stack(
            [map_coordinates(v, coordinates, np.float64, order=1, mode="nearest") for v in self.vectors],
            axis=-1,
        )

    def inverse(self) -> "DisplacementField":
        """Return the field on the same grid that undoes this one, by fixed-point iteration.

        How well it does so is measured by :func:`measure_inverse_error`.
        """
        from regflow.core import fields

        voxels = fields.to_voxels(self.vectors, self.grid)
        return DisplacementField(fields.to_world(fields.invert_displacement(voxels), self.grid), self.grid)


@dataclass(frozen=True, eq=False)
class Composite:
    """Transforms applied one after another, the first of ``parts`` first.

    Attributes:
        parts: at least one, all with the same number of coordinates; nested composites are opened.
    """

    parts: tuple[Transform, ...]

    def __post_init__(self) -> None:
        parts = tuple(flatten_transform(self.parts))
        if len({part.ndim for part in parts}) != 1:
            counts = ", ".join(str(part.ndim) for part in parts) or "none"
            raise ValueError(f"a composite needs parts with one number of coordinates; theirs are: {counts}")
        object.__setattr__(self, "parts", parts)

    @property
    def ndim(self) -> int:
        """Number of coordinates of a point."""
        return self.parts[0].ndim

    def apply(self, points: ArrayLike) -> Points:
        """Map fixed world points ``(N, d)`` to moving world points."""
        points = np.asarray(points, dtype=np.float64)
        for part in self.parts:
            points = part.apply(points)
        return points

    def inverse(self) -> "Composite":
        """Return the inverses in reverse order."""
        return Composite(tuple(part.inverse() for part in reversed(self.parts)))


def is_reflecting(transform: Transform) -> bool:
    """Tell whether the linear parts of a transform mirror, or flatten, what they map; fields do not count."""
    signs = [
        float(np.linalg.slogdet(part.matrix if isinstance(part, Homography) else part.linear)[0])
        for part in flatten_transform([transform])
        if isinstance(part, Affine | Homography)
    ]
    return bool(np.prod(signs) <= 0)


def flatten_transform(transforms: Sequence[Transform]) -> Iterator[Transform]:
    """Yield the transforms in order of application, nested composites opened."""
    for transform in transforms:
        if isinstance(transform, Composite):
            yield from flatten_transform(transform.parts)
        else:
            yield transform


def list_displacement_fields(transform: Transform) -> list[DisplacementField]:
    """Return the parts of a transform that deform, in order of application."""
    return [part for part in flatten_transform([transform]) if isinstance(part, DisplacementField)]


def compose_transforms(*transforms: Transform) -> Transform:
    """Chain transforms, the first applied first; neighboring affines become one."""
    parts: list[Transform] = []
    for part in flatten_transform(transforms):
        if parts and isinstance(part, Affine) and isinstance(parts[-1], Affine):
            parts[-1] = Affine(part.matrix @ parts[-1].matrix)
        else:
            parts.append(part)
    return parts[0] if len(parts) == 1 else Composite(tuple(parts))


def measure_inverse_error(forward: Transform, backward: Transform, points: ArrayLike) -> NDArray[np.float64]:
    """Return how far ``backward(forward(x))`` ends from ``x``, in world units, for ``(N, d)`` points."""
    points = np.asarray(points, dtype=np.float64)
    return np.asarray(np.linalg.norm(backward.apply(forward.apply(points)) - points, axis=-1))
