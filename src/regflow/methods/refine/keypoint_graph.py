"""Sparse keypoints matched as a graph, for repetitive scenes and large motion."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from regflow.core.image import Image
from regflow.core.transform import Transform
from regflow.methods.context import RunContext
from regflow.methods.matching.graph_matching import (
    SOLVERS,
    find_candidates,
    find_edges,
    measure_disagreement,
)
from regflow.methods.refine.further import refine_further
from regflow.methods.refine.greedy import smooth_folds
from regflow.methods.refine.loaded_pair import load_search_pair
from regflow.methods.refine.point_clouds import find_point_clouds, fit_matches
from regflow.methods.result import MethodResult

log = logging.getLogger(__name__)


def keypoint_graph(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform | MethodResult:
    """Deform along keypoints whose neighbors move alike; options are ``search_options.GRAPH`` and more.

    First channels are compared, at working resolution.

    Raises:
        RegistrationError: the images have too few keypoints, or too few agree on a smooth field.
        SettingError: ``refinement_options`` are none of that method's.
    """
    pair, search = load_search_pair(fixed, moving, initial, options)
    clouds = find_point_clouds(pair, options["count"])
    one, other = clouds.fixed, clouds.moving
    candidates = find_candidates(
        one.places, one.descriptors, other.places, other.descriptors, search, options["candidates"]
    )
    edges = find_edges(one.places, options["neighbors"])
    disagreement = measure_disagreement(one.places, candidates, edges, options["strain"])
    chosen = SOLVERS[options["solver"]](candidates, edges, disagreement)
    numbers = np.flatnonzero(chosen >= 0)
    shifts = candidates.shifts[numbers, chosen[numbers]]
    field, used = fit_matches(clouds, numbers, shifts, np.ones(len(numbers)), options)
    log.info(
        "keypoint-graph: %d and %d keypoints, %d matched, %d agree",
        len(one.places),
        len(other.places),
        len(numbers),
        used,
    )
    start = pair.compose_field(smooth_folds(field), initial)
    return refine_further("keypoint-graph", fixed, moving, start, options, context)
