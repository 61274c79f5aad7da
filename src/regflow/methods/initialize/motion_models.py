"""Linear motions as matrix groups: each is the exponential of a weighted sum of its generators.

One form for translations to homographies in two and three dimensions: parameters of zero move nothing, and
what two motions of one kind come to is of that kind again.

Source: Murray, Li and Sastry, A Mathematical Introduction to Robotic Manipulation, 1994, appendix A.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MOTIONS = ("translation", "rigid", "similarity", "affine", "homography")
"""Each but the last in two and three dimensions; a homography in two."""


TERMS = 14
"""Of the series, for exponents of size 1/8: the next is below the precision of float64."""


def list_generators(model: str, ndim: int) -> Array:
    """Return the generators of a motion, the translations first.

    Args:
        model: one of :data:`MOTIONS`.
        ndim: 2 or 3.

    Returns:
        ``(parameters, ndim + 1, ndim + 1)`` homogeneous matrices.

    Raises:
        ValueError: a homography of more than two dimensions.
    """
    if model == "homography" and ndim != 2:
        raise ValueError("a homography maps planes")
    axes = range(ndim)
    entries = [[(axis, ndim, 1.0)] for axis in axes]
    if model in ("rigid", "similarity"):
        entries += [[(j, i, 1.0), (i, j, -1.0)] for i in axes for j in axes if i < j]
    if model == "similarity":
        entries += [[(axis, axis, 1.0) for axis in axes]]
    if model in ("affine", "homography"):
        entries += [[(i, j, 1.0)] for i in axes for j in axes]
    if model == "homography":
        entries += [[(ndim, axis, 1.0)] for axis in axes]
    return np.stack([_filled(places, ndim + 1) for places in entries])


def _filled(places: Sequence[tuple[int, int, float]], size: int) -> Array:
    matrix = np.zeros((size, size))
    for row, column, value in places:
        matrix[row, column] = value
    return matrix


def compute_motion(generators: Array, parameters: Array) -> Array:
    """Return the homogeneous matrix ``(d + 1, d + 1)`` of some parameters ``(P,)``."""
    return _exponentiate(np.tensordot(parameters, generators, axes=1))


def linearize_motion(generators: Array, parameters: Array) -> Array:
    """Return the derivative of a motion's matrix by each parameter, ``(P, d + 1, d + 1)``.

    It is the upper right block of the exponential of the exponent with the generator beside it.
    Source: Najfeld and Havel, Advances in Applied Mathematics 16(3):321-375, 1995.
    """
    count, size, _ = generators.shape
    blocks = np.zeros((count, 2 * size, 2 * size))
    blocks[:, :size, :size] = blocks[:, size:, size:] = np.tensordot(parameters, generators, axes=1)
    blocks[:, :size, size:] = generators
    return _exponentiate(blocks)[:, :size, size:]


def _exponentiate(matrices: Array) -> Array:
    """Return the exponentials of small matrices ``(..., n, n)``, by Taylor's series and squaring.

    In numpy, as scipy's takes milliseconds for each matrix, however small.
    """
    norm = float(np.abs(matrices).sum(axis=-1).max())
    squarings = max(0, int(np.ceil(np.log2(max(norm, 1e-300)))) + 3)
    scaled = matrices / 2**squarings
    total = np.broadcast_to(np.eye(matrices.shape[-1]), matrices.shape)
    term = total
    for order in range(1, TERMS):
        term = term @ scaled / order
        total = total + term
    for _ in range(squarings):
        total = total @ total
    return np.asarray(total)
