"""The strength of edges: equal on both sides of a contrast that turned."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.methods.representation.smoothing import find_reach, smooth_valid


def gradient(
    values: NDArray[np.float32], valid: NDArray[np.bool_], options: Mapping[str, Any]
) -> NDArray[np.float32]:
    """Return the length of the gradient of the smoothed samples, per channel.

    Args:
        values: ``(C, h, w)``.
        valid: ``(h, w)``; invalid samples are left out of the smoothing.
        options: ``sigma`` in samples.
    """
    edges = np.empty_like(values)
    for channel, samples in enumerate(values):
        even = smooth_valid(samples, valid, options["sigma"])
        down, across = np.gradient(even)
        edges[channel] = np.hypot(down, across)
    return edges


def find_margin(options: Mapping[str, Any]) -> int:
    """Return how far around a sample its result looks."""
    return find_reach(options["sigma"]) + 1
