"""How sharp an image is: what averaging blurs."""

import numpy as np
from numpy.typing import NDArray

from regflow.core.grid import Grid


def measure_gradient_energy(values: NDArray[np.float32], grid: Grid, mask: NDArray[np.bool_] | None) -> float:
    """Return the mean squared gradient inside a mask, in squared units of intensity per world unit.

    Args:
        values: ``grid.shape`` samples.
        grid: where they lie.
        mask: the samples that count; None for all.

    Returns:
        0 for a constant image, or where no sample counts.
    """
    energy = np.zeros(values.shape)
    for axis, spacing in enumerate(grid.spacing[::-1]):
        if values.shape[axis] > 1:
            energy += np.gradient(values.astype(np.float64), float(spacing), axis=axis) ** 2
    inside = energy if mask is None else energy[mask]
    return float(inside.mean()) if inside.size else 0.0
