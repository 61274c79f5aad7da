"""What the deformation does to volumes: the determinant of its Jacobian."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from regflow.core.grid import Grid
from regflow.core.transform import (
    Affine,
    Composite,
    DisplacementField,
    Transform,
    flatten_transform,
    list_displacement_fields,
)

LEARN2REG_SHIFT = 3.0
LEARN2REG_BOUNDS = (1e-9, 1e9)


def split_affine(transform: Transform) -> tuple[Transform | None, Affine | None]:
    """Return the deformable part and the affine part that follows it, None for what is absent.

    A refined result is a displacement field on the fixed grid, then the initial affine. What the
    deformable part does is measured by itself, because the affine part scales every volume alike.
    """
    parts = list(flatten_transform([transform]))
    affine: Affine | None = None
    while parts and isinstance(parts[-1], Affine):
        last = parts.pop()
        assert isinstance(last, Affine)
        affine = last if affine is None else Affine(affine.matrix @ last.matrix)
    if not parts:
        return None, affine
    return (parts[0] if len(parts) == 1 else Composite(tuple(parts))), affine


def sample_displacement(transform: Transform | None, grid: Grid) -> NDArray[np.float32]:
    """Return the world displacement of a transform at each sample of a grid, ``(d, *grid.shape)``."""
    if transform is None:
        return np.zeros((grid.ndim, *grid.shape), dtype=np.float32)
    if isinstance(transform, DisplacementField) and transform.grid.matches(grid):
        return transform.vectors
    vectors = np.empty((grid.ndim, *grid.shape), dtype=np.float32)
    plane = np.indices(grid.shape[1:], dtype=np.float64).reshape(grid.ndim - 1, -1)[::-1].T
    for number in range(grid.shape[0]):
        index = np.column_stack([plane, np.full(len(plane), float(number))])
        points = grid.to_world(index)
        moved = transform.apply(points) - points
        vectors[:, number] = moved.T.reshape(grid.ndim, *grid.shape[1:])
    return vectors


def compute_determinant_map(displacement: NDArray[np.float32], grid: Grid) -> NDArray[np.float32]:
    """Return the Jacobian determinant of a displacement at each sample of its grid.

    Above 1 the fixed image's tissue grew to become the moving image's, below 1 it shrank; 0 or less
    means that the deformation folds there.

    Args:
        displacement: ``(d, *grid.shape)`` in world units.
        grid: where it stands.
    """
    from regflow.core import fields

    return np.asarray(
        fields.compute_jacobian_determinant(fields.to_voxels(displacement, grid)), dtype=np.float32
    )


def compute_jacobian_figures(
    determinant: NDArray[np.float32], mask: NDArray[np.bool_] | None
) -> Mapping[str, float]:
    """Return the figures of a determinant map inside a mask.

    Returns:
        ``folding_percent``: samples with a determinant of 0 or less; ``log_jacobian_std``: standard
        deviation of the natural logarithm over the other samples; ``jacobian_min``,
        ``jacobian_max``; ``sdlogj_learn2reg``: the standard deviation of ``log(J + 3)`` as the
        Learn2Reg challenge's evaluation computes it, about a quarter of the true one.
    """
    inside = determinant.ravel() if mask is None else determinant[mask]
    inside = inside.astype(np.float64)
    unfolded = inside[inside > 0]
    shifted = np.clip(inside + LEARN2REG_SHIFT, *LEARN2REG_BOUNDS)
    return {
        "folding_percent": 100.0 * (inside.size - unfolded.size) / inside.size,
        "log_jacobian_std": float(np.log(unfolded).std()) if unfolded.size else float("nan"),
        "jacobian_min": float(inside.min()),
        "jacobian_max": float(inside.max()),
        "sdlogj_learn2reg": float(np.log(shifted).std()),
    }


def compute_folding_figures(transform: Transform) -> dict[str, float]:
    """Return the worst figures of a transform's displacement fields, over all of their samples.

    Returns:
        ``folding_percent``, ``jacobian_min`` and ``jacobian_max``, as of :func:`compute_jacobian_figures`;
        empty for a transform without a field.
    """
    maps = [compute_determinant_map(part.vectors, part.grid) for part in list_displacement_fields(transform)]
    if not maps:
        return {}
    return {
        "folding_percent": max(100.0 * float((values <= 0).mean()) for values in maps),
        "jacobian_min": min(float(values.min()) for values in maps),
        "jacobian_max": max(float(values.max()) for values in maps),
    }
