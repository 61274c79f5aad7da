"""Start from the centers of mass and the principal axes of the masks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import RegistrationError
from regflow.core.image import Image
from regflow.core.transform import Affine, Transform, compose


def moments(fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any]) -> Transform:
    """Lay the centers of mass, and with ``axes`` the principal axes, on each other.

    An axis has no sign: of the proper rotations that match the axes the smallest is taken, so
    starts of more than a quarter turn need a multi-start method.

    Raises:
        RegistrationError: an image has no mass.
    """
    inverse = initial.inverse()
    fixed_center, fixed_axes = mass(fixed)
    moving_center, moving_axes = mass(moving)
    moving_center = inverse.apply(moving_center[None])[0]
    ndim = fixed.grid.ndim
    turn = _smallest_turn(fixed_axes, moving_axes) if options["axes"] else np.eye(ndim)
    return compose(Affine.from_parts(turn, moving_center - fixed_center, fixed_center), initial)


def mass(image: Image) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the center of mass and the principal axes of an image's mask, or of its intensities.

    Returns:
        World point ``(d,)``, and ``(d, d)`` unit vectors as columns, the longest axis last.

    Raises:
        RegistrationError: nothing is inside the mask, or the image is constant.
    """
    if image.mask is not None:
        weights = image.mask.astype(np.float64)
    else:
        data = np.asarray(image.channel, dtype=np.float64)
        weights = data - data.min()
    total = weights.sum()
    if not total > 0:
        raise RegistrationError("moments: the image has no mass (an empty mask or one constant value)")
    index = np.flatnonzero(weights)
    points = image.grid.to_world(np.stack(np.unravel_index(index, weights.shape)[::-1], axis=-1))
    share = weights.ravel()[index] / total
    center = share @ points
    spread = (points - center).T @ ((points - center) * share[:, None])
    return center, np.linalg.eigh(spread)[1]


def _smallest_turn(fixed: NDArray[np.float64], moving: NDArray[np.float64]) -> NDArray[np.float64]:
    ndim = fixed.shape[0]
    signs = np.array(np.meshgrid(*[[1.0, -1.0]] * ndim, indexing="ij")).reshape(ndim, -1).T
    turns = [moving @ np.diag(sign) @ fixed.T for sign in signs]
    proper = [turn for turn in turns if np.linalg.det(turn) > 0]
    return max(proper, key=np.trace)
