"""The slow part of a motion: a smooth path through the poses of a series."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regflow.core.transform import Affine
from regflow.methods.groupwise.models import project_maps

Array = NDArray[np.float64]


def smooth_poses(
    poses: Mapping[str, Affine],
    order: Sequence[str],
    model: str,
    width: float,
    center: ArrayLike,
) -> dict[str, Affine]:
    """Return poses along a smooth path: at each image a straight line through those around it.

    A motion of constant speed is returned as it is, at the ends of the series, too.

    Args:
        poses: map of each image to the common world.
        order: names of the images in time.
        model: kind of the maps, of :data:`regflow.methods.groupwise.models.MODELS`.
        width: standard deviation of the images' weights, in images.
        center: ``(d,)`` point of the world about which linear parts are averaged.

    Source: Cleveland, Journal of the American Statistical Association 74(368):829-836, 1979.
    """
    middle = np.asarray(center, np.float64)
    shift = np.eye(len(middle) + 1)
    shift[:-1, -1] = middle
    back = np.linalg.inv(shift)
    maps = np.array([back @ poses[name].matrix @ shift for name in order])
    smooth = project_maps(model, fit_local_lines(maps, width))
    return {name: Affine(shift @ one @ back) for name, one in zip(order, smooth, strict=True)}


def remove_jitter(poses: Mapping[str, Affine], smooth: Mapping[str, Affine]) -> dict[str, Affine]:
    """Return poses under which images keep the motion of a smooth path and lose what deviates from it."""
    return {name: Affine(np.linalg.inv(smooth[name].matrix) @ poses[name].matrix) for name in poses}


def fit_local_lines(values: Array, width: float) -> Array:
    """Return ``(N, ...)`` values of the lines that fit best about each place, weighed by their distance.

    Args:
        values: ``(N, ...)`` at places that follow one another.
        width: standard deviation of the weights, in places.
    """
    places = np.arange(len(values), dtype=np.float64)
    flat = values.reshape(len(values), -1)
    result = np.empty_like(flat)
    for place in range(len(values)):
        away = places - place
        weights = np.exp(-((away / width) ** 2) / 2)
        mean = float((weights * away).sum() / weights.sum())
        spread = float((weights * (away - mean) ** 2).sum())
        level = (weights[:, None] * flat).sum(axis=0) / weights.sum()
        # The last digits of a single image's spread are no slope.
        slope = (weights * (away - mean)) @ flat / spread if spread > 1e-9 else np.zeros(flat.shape[1])
        result[place] = level - slope * mean
    return result.reshape(values.shape)
