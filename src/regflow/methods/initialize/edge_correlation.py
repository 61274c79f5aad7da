"""Similarity, then what windows ask for, by correlating directions of edges over many poses."""

from collections.abc import Mapping
from typing import Any

from regflow.core.image import Image
from regflow.core.transform import Transform
from regflow.methods.context import RunContext
from regflow.methods.initialize.planar import find_matrix, make_transform, masked_image
from regflow.methods.initialize.pose_search import list_similarities, refine_best, search_similarities


def edge_correlation(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Try rotations and scales, compare edges at all shifts by FFT, and refine what windows confirm.

    Edges count by their direction alone, whichever side is brighter, so that other seasons,
    inverted contrast and other sensors do not matter.

    Args:
        fixed: 2-D; its first channel and mask are used.
        moving: likewise.
        initial: affine or homography; rotations and scales are sought around it.
        options: see the table in :mod:`regflow.methods.initialize`.
        context: of the run.

    Raises:
        RegistrationError: an image is constant or has no valid pixel, or windows agree at no pose.
    """
    first, second = masked_image(fixed, "fixed"), masked_image(moving, "moving")
    still = options["model"] == "translation"
    linears = (
        list_similarities(0, 1) if still else list_similarities(options["rotation_degrees"], options["scale"])
    )
    poses = search_similarities(first, second, find_matrix(initial), linears, options["edges"])
    found = refine_best(first, second, poses, options["model"], context.seed, "edge-correlation")
    return make_transform(found.matrix, fixed.grid.center)
