"""A regular sampling grid: where the samples of an image lie in the world."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

SAME_GRID_TOLERANCE = 1e-3
"""Largest distance, in units of a voxel, at which two grids count as the same."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Shape, index-to-world affine and coordinate reference system of an image.

    Attributes:
        shape: samples along each axis in array order, ``(z, y, x)`` or ``(rows, columns)``.
        affine: ``(d + 1, d + 1)`` float64 matrix from an index in ``(x, y, z)`` order (the
            reverse of array order, as in ITK and GDAL) to world coordinates. Whole indices are
            the CENTERS of samples. World is LPS millimeters for volumes, CRS units for rasters.
        crs: the CRS as WKT for a georeferenced raster, else None.
    """

    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    crs: str | None = None

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        size = len(self.shape) + 1
        if affine.shape != (size, size):
            raise ValueError(f"a {size - 1}-D grid needs a {size}x{size} affine, got {affine.shape}")
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    @classmethod
    def from_geometry(
        cls,
        shape: Sequence[int],
        spacing: Sequence[float],
        origin: Sequence[float],
        direction: ArrayLike | None = None,
    ) -> "Grid":
        """Build a grid from ITK's spacing, origin and direction, each in ``(x, y, z)`` order."""
        ndim = len(shape)
        cosines = np.eye(ndim) if direction is None else np.reshape(direction, (ndim, ndim))
        affine = np.eye(ndim + 1)
        affine[:ndim, :ndim] = cosines @ np.diag(spacing)
        affine[:ndim, ndim] = origin
        return cls(tuple(shape), affine)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Grid)
            and self.shape == other.shape
            and self.crs == other.crs
            and bool(np.array_equal(self.affine, other.affine))
        )

    def __hash__(self) -> int:
        return hash((self.shape, self.affine.tobytes(), self.crs))

    @property
    def ndim(self) -> int:
        """Number of spatial axes, 2 or 3."""
        return len(self.shape)

    @property
    def spacing(self) -> NDArray[np.float64]:
        """Distance between neighboring samples along each index axis, ``(x, y, z)`` order."""
        return np.asarray(np.linalg.norm(self.affine[:-1, :-1], axis=0))

    @property
    def direction(self) -> NDArray[np.float64]:
        """Unit vectors of the index axes as columns, ``(d, d)``."""
        return np.asarray(self.affine[:-1, :-1] / self.spacing)

    @property
    def origin(self) -> NDArray[np.float64]:
        """World position of the first sample's center."""
        return np.asarray(self.affine[:-1, -1])

    @property
    def size(self) -> tuple[int, ...]:
        """Samples along each axis in ``(x, y, z)`` order, ITK's size."""
        return self.shape[::-1]

    @property
    def center(self) -> NDArray[np.float64]:
        """World position of the middle of the grid."""
        return self.to_world((np.array(self.size, dtype=np.float64) - 1) / 2)

    def to_world(self, indices: ArrayLike) -> NDArray[np.float64]:
        """Map indices ``(..., d)`` in ``(x, y, z)`` order to world points of the same shape."""
        return np.asarray(indices, dtype=np.float64) @ self.affine[:-1, :-1].T + self.affine[:-1, -1]

    def to_index(self, points: ArrayLike) -> NDArray[np.float64]:
        """Map world points ``(..., d)`` to continuous indices in ``(x, y, z)`` order."""
        inverse = np.linalg.inv(self.affine)
        return np.asarray(points, dtype=np.float64) @ inverse[:-1, :-1].T + inverse[:-1, -1]

    def to_index_vectors(self, vectors: ArrayLike) -> NDArray[np.float64]:
        """Convert world displacements ``(..., d)`` to samples along the index axes, ``(x, y, z)`` order.

        A whole field of them, float32 and its components in front, goes by
        :func:`regflow.core.fields.to_voxels`.
        """
        return np.asarray(vectors, dtype=np.float64) @ np.linalg.inv(self.affine[:-1, :-1]).T

    def matches(self, other: "Grid") -> bool:
        """Tell whether both grids sample the same points, to a thousandth of a voxel."""
        return self.measure_misalignment(other) < SAME_GRID_TOLERANCE

    def measure_misalignment(self, other: "Grid") -> float:
        """Return how far the samples of another grid lie from this one's, at most, in voxels along an axis.

        Infinite for another shape or CRS.
        """
        if self.shape != other.shape or self.crs != other.crs:
            return float("inf")
        corners = _corners(self.size)
        return float(np.abs(self.to_index(other.to_world(corners)) - corners).max())

    def with_spacing(self, spacing: float | Sequence[float]) -> "Grid":
        """Return the grid of the same extent with another spacing (``(x, y, z)`` order).

        The outer borders of the first and last samples stay where they are as nearly as a whole
        number of samples allows; the field of view is centered.
        """
        wanted = np.broadcast_to(np.asarray(spacing, dtype=np.float64), (self.ndim,))
        extent = np.array(self.size) * self.spacing
        # A hair below a half: 2.0000001 samples are 2, whatever the rounding of the header.
        size = np.maximum(1, np.ceil(extent / wanted - 1e-3)).astype(int)
        affine = np.array(self.affine)
        affine[:-1, :-1] = self.direction * wanted
        affine[:-1, -1] = self.center - affine[:-1, :-1] @ ((size - 1) / 2)
        return Grid(tuple(size[::-1]), affine, self.crs)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description."""
        return {"shape": list(self.shape), "affine": self.affine.tolist(), "crs": self.crs}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Grid":
        """Rebuild a grid from :meth:`to_dict`."""
        return cls(tuple(content["shape"]), np.array(content["affine"]), content.get("crs"))


def _corners(size: Sequence[int]) -> NDArray[np.float64]:
    axes = [(0.0, n - 1.0) for n in size]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(size))
