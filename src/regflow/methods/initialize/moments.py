"""Start from the centers of mass and the principal axes of the masks."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import RegistrationError
from regflow.core.image import Image
from regflow.core.transform import Affine, Transform, compose_transforms
from regflow.methods.context import RunContext


def moments(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Lay the centers of mass, and with ``axes`` the principal axes, on each other.

    An axis has no sign: of the proper rotations that match the axes the smallest is taken, so
    starts of more than a quarter turn need a multi-start method.

    Raises:
        RegistrationError: an image has no mass.
    """
    inverse = initial.inverse()
    fixed_center, fixed_axes = measure_mass(fixed)
    moving_center, moving_axes = measure_mass(moving)
    moving_center = inverse.apply(moving_center[None])[0]
    ndim = fixed.grid.ndim
    turn = _smallest_turn(fixed_axes, moving_axes) if options["axes"] else np.eye(ndim)
    return compose_transforms(Affine.from_parts(turn, moving_center - fixed_center, fixed_center), initial)


def measure_mass(image: Image) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the center of mass and the principal axes of an image's mask, or of its intensities.

    Returns:
        World point ``(d,)``, and ``(d, d)`` unit vectors as columns, the longest axis last.

    Raises:
        RegistrationError: nothing is inside the mask, or the image is constant.
    """
    weights = image.channel - image.channel.min() if image.mask is None else image.mask
    ndim = weights.ndim
    total = float(weights.sum(dtype=np.float64))
    if not total > 0:
        raise RegistrationError("moments: the image has no mass (an empty mask or one constant value)")
    # Sums over whole axes, because a product of long arrays depends on the number of threads.
    ticks = [np.arange(length, dtype=np.float64) for length in weights.shape]
    mean = np.array([float((_marginal(weights, i) * ticks[i]).sum()) / total for i in range(ndim)])
    spread = np.empty((ndim, ndim))
    for i, j in itertools.combinations_with_replacement(range(ndim), 2):
        across = ticks[i] - mean[i] if i == j else np.outer(ticks[i] - mean[i], ticks[j] - mean[j])
        product = across**2 if i == j else across
        spread[i, j] = spread[j, i] = float((_marginal(weights, i, j) * product).sum()) / total
    matrix = image.grid.affine[:-1, :-1]
    axes: NDArray[np.float64] = np.linalg.eigh(matrix @ spread[::-1, ::-1] @ matrix.T)[1]
    return image.grid.to_world(mean[::-1]), axes


def _marginal(weights: NDArray[Any], *kept: int) -> NDArray[np.float64]:
    others = tuple(axis for axis in range(weights.ndim) if axis not in kept)
    return np.asarray(weights.sum(axis=others, dtype=np.float64))


def _smallest_turn(fixed: NDArray[np.float64], moving: NDArray[np.float64]) -> NDArray[np.float64]:
    ndim = fixed.shape[0]
    signs = np.array(np.meshgrid(*[[1.0, -1.0]] * ndim, indexing="ij")).reshape(ndim, -1).T
    turns = [moving @ np.diag(sign) @ fixed.T for sign in signs]
    proper = [turn for turn in turns if np.linalg.det(turn) > 0]
    return max(proper, key=np.trace)
