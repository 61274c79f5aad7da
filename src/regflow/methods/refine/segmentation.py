"""Deformation by the greedy engine, guided by the borders of both label maps."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import RegistrationError
from regflow.core.image import Image
from regflow.core.resample import resample_array
from regflow.core.transform import Transform
from regflow.methods.context import RunContext
from regflow.methods.matching.label_channels import (
    encode_labels,
    list_shared_labels,
    measure_labeled_extent,
)
from regflow.methods.refine.greedy import deform_by_greedy_steps
from regflow.methods.result import MethodResult

log = logging.getLogger(__name__)

OWN = ("weight", "reach_percent")
"""Options that the greedy engine does not have."""


def segmentation(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> MethodResult:
    """Deform by greedy steps that climb the similarity of the images and bring structures' borders together.

    Of each structure the distance from its border, smoothed and clipped, is a channel beside the intensities.

    Args:
        fixed: with its label map.
        moving: likewise.
        initial: under which structures lie near their counterparts.
        options: ``segmentation_options.SEGMENTATION``.
        context: of the run.

    Raises:
        RegistrationError: an image has no label map, they have no structure in common, or none meets its
            counterpart; or as :func:`~regflow.methods.refine.greedy.greedy`.
        SettingError: options of the levels have unequal lengths.
    """
    values = list_shared_labels(fixed, moving)
    _refuse_disjoint(fixed, moving, initial, values)
    reach = options["reach_percent"] / 100 * measure_labeled_extent(fixed)
    pair = [_add_channels(image, values, reach, options["weight"]) for image in (fixed, moving)]
    greedy_options = {name: value for name, value in options.items() if name not in OWN}
    found = deform_by_greedy_steps(pair[0], pair[1], initial, greedy_options, context)
    return MethodResult(found, labels_used=True)


def _add_channels(image: Image, values: NDArray[np.int64], reach: float, weight: float) -> Image:
    """Return an image whose further channels are its structures', so large that squares have the weight."""
    channels = encode_labels(np.asarray(image.labels), image.grid, values, reach)
    channels *= np.float32(np.sqrt(weight))
    return image.with_data(np.concatenate([np.asarray(image.channel, np.float32)[None], channels]))


def _refuse_disjoint(fixed: Image, moving: Image, initial: Transform, values: NDArray[np.int64]) -> None:
    """Refuse label maps of which no structure meets its counterpart: there are no slopes between them."""
    labels = resample_array(np.asarray(moving.labels), moving.grid, fixed.grid, initial, "nearest")
    both = (labels == fixed.labels) & np.isin(labels, values)
    if not both.any():
        raise RegistrationError(
            "segmentation: no structure meets its counterpart where the refinement begins; initialize by "
            "segmentation first, or check which label map belongs to which image"
        )
