"""Whether a moving image is a mirror image: a volume's left and right exchanged, a section turned over.

The header is believed. But the mirror image of the moving image is aligned as well, and where it clearly
fits better than what was found, the verdict says so.

Source: the idea of aligning the mirror image, too, is AFNI's ``-check_flip``: Glen et al., Frontiers in
Neuroinformatics 14:18, 2020.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from regflow.core.errors import RegistrationError
from regflow.core.gate import Verdict, find_worst_verdict, judge_figures
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.local_fit import SURE_SIGMAS, WindowEvidence
from regflow.core.transform import Affine
from regflow.methods.context import RunContext
from regflow.metrics.structures import mirror_labels

FIGURE = "mirror_gain_sigmas"
LIMITS: dict[str, dict[str, float]] = {FIGURE: {"warn_above": SURE_SIGMAS}}
MEANINGS = {
    FIGURE: "how much better the moving image fits when it is mirrored left for right, in standard errors; "
    "empty limits skip the check"
}
SENTENCE = {
    FIGURE: "the moving image fits clearly better when it is mirrored left for right: check left and right "
    "in its file (a header or converter that exchanged them, a section turned over)"
}

SAMPLES_ACROSS = [24, 48]
"""Samples along the fixed object at which the mirror image is aligned."""
COMPARED_ACROSS = 72
"""Samples along the fixed image at which it is held against what was found: at 48 the small differences
between a brain's sides are lost."""


def judge_mirroring(
    verdict: Verdict, fixed: Image, moving: Image, found: Affine, limits: Mapping[str, Mapping[str, float]]
) -> Verdict:
    """Return a verdict that also says whether the mirror image fits better.

    Args:
        verdict: on what was found.
        fixed: working fixed image.
        moving: working moving image.
        found: from fixed to moving world points.
        limits: of :data:`FIGURE`; where they are empty nothing is looked at.
    """
    if not any(bound is not None for bound in limits.get(FIGURE, {}).values()):
        return verdict
    figures = mirror_gain(fixed, moving, found)
    decided = find_worst_verdict([judge_figures(figures, limits, SENTENCE), verdict])
    return replace(decided, figures={**verdict.figures, **figures})


def mirror_gain(fixed: Image, moving: Image, found: Affine) -> dict[str, float]:
    """Return how much better the mirror image fits, in standard errors; nothing where nothing can be said.

    A brain is nearly its own mirror image, and an atlas may be so exactly. Whatever the mirror image
    gains counts only as far as no alignment without a mirror has the same: neither what was found, nor
    that of the mirror image with either object taken for symmetric.

    Args:
        fixed: working fixed image.
        moving: working moving image.
        found: from fixed to moving world points.
    """
    about_fixed, about_moving = (mirror_labels(image.grid, image.mask) for image in (fixed, moving))
    try:
        mirrored = _align_mirrored(fixed, moving, Affine(found.matrix @ about_fixed.matrix))
    except RegistrationError:
        # The mirror image cannot be aligned: it does not fit better.
        return {}
    rivals = (
        found,
        Affine(mirrored.matrix @ about_fixed.matrix),
        Affine(about_moving.matrix @ mirrored.matrix),
    )
    evidence = WindowEvidence(fixed, moving, mirrored, COMPARED_ACROSS)
    losses = [loss for rival in rivals for loss in evidence.measure_gain(rival).values()]
    return {FIGURE: -max(losses)} if losses else {}


def _align_mirrored(fixed: Image, moving: Image, start: Affine) -> Affine:
    """Align the mirror image; the map holds the mirror."""
    from regflow.methods.initialize import METHODS

    flip = _flip_columns(moving.grid)
    mask = None if moving.mask is None else np.ascontiguousarray(moving.mask[..., ::-1])
    flipped = Image(np.ascontiguousarray(moving.data[..., ::-1]), moving.grid, mask)
    # A section may lie in any orientation on its slide; a patient lies as the header says.
    orientations = "header" if fixed.grid.ndim == 3 else "all"
    given = {"orientations": orientations, "samples_across": SAMPLES_ACROSS}
    method = next(method for method in METHODS.values() if method.aligns_mirror)
    near = Affine(flip.matrix @ start.matrix)
    found = method.load()(fixed, flipped, near, method.complete(given), RunContext())
    assert isinstance(found, Affine)
    return Affine(flip.matrix @ found.matrix)


def _flip_columns(grid: Grid) -> Affine:
    """Return the map of world points that turns the first index around on a grid."""
    turned = np.eye(grid.ndim + 1)
    turned[0, 0], turned[0, -1] = -1, grid.size[0] - 1
    return Affine(grid.affine @ turned @ np.linalg.inv(grid.affine))
