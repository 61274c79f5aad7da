"""Soft matches between clouds of keypoints by optimal transport, and a smooth field through them."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from regflow.core.image import Image
from regflow.core.transform import Transform
from regflow.methods.context import RunContext
from regflow.methods.matching.graph_matching import measure_differences
from regflow.methods.matching.scattered_field import fit_scattered_field
from regflow.methods.matching.transport import solve_transport
from regflow.methods.refine.further import refine_further
from regflow.methods.refine.greedy import smooth_folds
from regflow.methods.refine.loaded_pair import load_search_pair
from regflow.methods.refine.point_clouds import PointClouds, find_point_clouds, fit_matches
from regflow.methods.result import MethodResult

log = logging.getLogger(__name__)

Array = NDArray[Any]

SINKHORN_ROUNDS = 30
WIDEST, NARROWEST = 2.0, 0.5
"""Of the search, what distances cost as much as an ordinary descriptor's difference, first round and last."""
LEAST_MOVED = 0.05
"""Share of a point's mass that must be moved for the point to count."""
STIFFER = 2.0
"""How much stiffer the field is in all rounds but the last."""


def optimal_transport(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform | MethodResult:
    """Deform along transported keypoints; options are ``search_options.TRANSPORT`` and more.

    What it costs to move one keypoint to another is the difference of their descriptors and their distance,
    which counts more from round to round, from where the last round's field brings the points.

    Raises:
        RegistrationError: the images have too few keypoints, or too few agree on a smooth field.
        SettingError: ``refinement_options`` are none of that method's.
    """
    pair, search = load_search_pair(fixed, moving, initial, options)
    clouds = find_point_clouds(pair, options["count"])
    differences = measure_differences(clouds.fixed.descriptors, clouds.moving.descriptors)
    differences /= np.median(differences)
    shifts, trust = np.zeros_like(clouds.fixed.places), np.ones(len(clouds.fixed.places))
    for reach in np.geomspace(WIDEST, NARROWEST, options["rounds"]):
        shifts, trust = _transport(clouds, differences, shifts, reach * search, options)
        numbers = np.flatnonzero(trust > LEAST_MOVED)
        fit = fit_scattered_field(
            clouds.fixed.places[numbers],
            shifts[numbers],
            trust[numbers],
            clouds.shape,
            STIFFER * options["smoothing"],
        )
        soft, shifts = shifts, _read_field(fit.field, clouds.fixed.places)
    field, used = fit_matches(clouds, numbers, soft[numbers], trust[numbers], options)
    log.info("optimal-transport: %d of %d points agree", used, len(clouds.fixed.places))
    start = pair.compose_field(smooth_folds(field), initial)
    return refine_further("optimal-transport", fixed, moving, start, options, context)


def _transport(
    clouds: PointClouds, differences: Array, shifts: Array, reach: float, options: Mapping[str, Any]
) -> tuple[Array, Array]:
    """Return each fixed point's mean displacement under the plan, and how much of its mass is moved."""
    places, others = clouds.fixed.places, clouds.moving.places
    squared = np.square(places[:, None] + shifts[:, None] - others[None]).sum(axis=2)
    plan = solve_transport(
        differences + squared / reach**2, options["blur"], options["reach"], SINKHORN_ROUNDS
    )
    mass = plan.sum(axis=1)
    target = np.einsum("nm,md->nd", plan, others, optimize=False) / np.maximum(mass, 1e-300)[:, None]
    return target - places, np.minimum(mass * len(places), 1.0)


def _read_field(field: Array, places: Array) -> Array:
    return np.stack([map_coordinates(part, places.T, order=1, mode="nearest") for part in field], axis=1)
