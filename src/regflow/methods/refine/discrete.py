"""Motion far beyond what a gradient sees: a dense search of displacements, then a method that goes on."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from regflow.core.image import Image
from regflow.core.transform import Transform
from regflow.methods.context import RunContext
from regflow.methods.refine.discrete_search import CoupledSmoothing, plan_levels, search_displacements
from regflow.methods.refine.further import refine_further
from regflow.methods.refine.greedy import smooth_folds
from regflow.methods.refine.loaded_pair import load_search_pair
from regflow.methods.result import MethodResult


def discrete(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform | MethodResult:
    """Deform by the best of many displacements; options are those of ``discrete_options``.

    First channels are compared: of volumes around the fixed mask, of whole scenes at a bounded number of
    pixels.

    Raises:
        RegistrationError: the images have no sample in common.
        SettingError: ``refinement_options`` are none of that method's.
    """
    from regflow.core.devices import limit_numba_threads

    pair, search = load_search_pair(fixed, moving, initial, options)
    levels = plan_levels(pair.fixed.grid.shape, search, options["shrink"], options["reach"])
    smoothing = CoupledSmoothing(options["couplings"], options["field_sigma"], options["consistency"])
    weights = pair.mask.astype(np.float32)
    with limit_numba_threads(context.threads):
        found = search_displacements(pair.fixed.channel, pair.moving.channel, weights, levels, smoothing)
        field = pair.compose_field(smooth_folds(found), initial)
    return refine_further("discrete", fixed, moving, field, options, context)
