"""Methods that match Harris corners by what trained networks say of the patches around them."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from regflow.core.image import Image
from regflow.core.transform import Transform
from regflow.methods.context import RunContext
from regflow.methods.initialize.features.learned_patches import describe_corners
from regflow.methods.initialize.features.matching import Attempt, match_attempts
from regflow.methods.learned_models import load_model

VISIBLE, INFRARED = "visible", "infrared"
BRANCHES = {
    "moving": [(VISIBLE, INFRARED)],
    "fixed": [(INFRARED, VISIBLE)],
    "neither": [(VISIBLE, VISIBLE)],
    "both": [(INFRARED, INFRARED)],
    "unknown": [(VISIBLE, INFRARED), (INFRARED, VISIBLE), (VISIBLE, VISIBLE)],
}
"""By which image is of near infrared, what describes the fixed and the moving one, one try after another."""


def spectral_descriptor(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Match corners of visible bands to corners of near infrared by two networks that answer alike.

    Args:
        fixed: 2-D; its first channel and mask are used.
        moving: likewise.
        initial: affine or homography; where the georeference says the moving image is.
        options: see the table in :mod:`regflow.methods.initialize`.
        context: of the run.

    Raises:
        RegistrationError: an image is constant or has no valid pixel, too few matches agree, or the network
            is missing or another one.
    """
    network, _ = load_model(options["weights"] or "spectral-descriptor", "patch-descriptor")
    attempts: list[Attempt] = [
        (partial(describe_corners, network, one), partial(describe_corners, network, other))
        for one, other in BRANCHES[options["near_infrared"]]
    ]
    return match_attempts(attempts, fixed, moving, initial, options, context)
