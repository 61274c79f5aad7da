"""How each section is bent: towards the mean of its neighbors, round by round, the block's slow shape kept.

Every other section is refined at a time, so that a section never chases one that chases it. What the fields
have in common along the block, over some sections, is taken out of them after each round: neighbors tell how
sections are bent against one another, not how the block is. A field is smooth, as what tissue does on its way
to a slide is: folds that neighbors do not share are anatomy, not a bend.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core import fields
from regflow.core.errors import RegistrationError
from regflow.methods.context import RunContext
from regflow.methods.stack.section_picture import Mask, Plane

Field = NDArray[np.float32]

SLOW_WIDTH = 4.0
"""Sections over which fields are averaged along the block: what they have in common there is taken out."""
NEIGHBORS = {1: 1.0, 2: 0.4}
"""Weights of the sections in a target, by how many places apart."""
FEWEST_SAMPLES = 64


@dataclass(frozen=True, eq=False)
class PlacedSection:
    """A section on the block's plane.

    Attributes:
        values: ``(h, w)`` float32, background about 0.
        tissue: ``(h, w)``.
        holds: whether others may be brought onto it.
        stained: whether it has another contrast than most.
    """

    values: Plane
    tissue: Mask
    holds: bool
    stained: bool


def deform_sections(
    sections: Sequence[PlacedSection],
    options: Mapping[str, Any],
    *,
    rounds: int,
    smoothness: float,
    threads: int = 1,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Return the fields under which sections continue one another.

    Args:
        sections: in order, those that can be compared; all of one shape.
        options: of the method ``greedy``, complete.
        rounds: how often all sections are refined.
        smoothness: standard deviation in pixels of the Gaussian that smooths each field over the tissue.
        threads: most threads to use; no result depends on it.
        seed: of the engine.

    Returns:
        ``(N, 2, h, w)`` voxel fields ``(row, column)``: where each pixel of the block looks a section up.
    """
    context = RunContext(threads=threads, seed=seed)
    found = np.zeros((len(sections), 2, *sections[0].values.shape), np.float32)
    for _ in range(rounds):
        for parity in (0, 1):
            warped = [_warp_section(each, field) for each, field in zip(sections, found, strict=True)]
            for number in range(parity, len(sections), 2):
                target = _average_neighbors(sections, warped, number)
                if target is not None:
                    start = found[number]
                    field = _bend_section(sections[number], target, start, options, context)
                    found[number] = smooth_over_tissue(field, sections[number].tissue, smoothness)
        found -= smooth_along(found, SLOW_WIDTH)
    return found


def smooth_along(values: NDArray[np.float32], width: float) -> NDArray[np.float32]:
    """Return values ``(N, ...)`` smoothed along the first axis by a Gaussian.

    Nearer to an end than the width fewer are averaged, none twice.
    """
    places = np.arange(len(values), dtype=np.float64)
    away = (places[:, None] - places) / width
    weights = np.exp(-(away**2) / 2)
    weights /= weights.sum(axis=1, keepdims=True)
    flat = values.reshape(len(values), -1)
    # Row by row: a product of matrices adds up in an order that depends on the threads.
    smooth = [sum(w * row for w, row in zip(line.astype(np.float32), flat, strict=True)) for line in weights]
    return np.asarray(smooth, np.float32).reshape(values.shape)


def smooth_over_tissue(field: Field, tissue: Mask, sigma: float) -> Field:
    """Return a field ``(2, h, w)`` smoothed by a Gaussian, what lies off the tissue counting nothing."""
    from scipy.ndimage import gaussian_filter

    inside = tissue.astype(np.float32)
    weights = gaussian_filter(inside, sigma, mode="nearest") + np.float32(1e-3)
    return np.stack([gaussian_filter(part * inside, sigma, mode="nearest") / weights for part in field])


def _warp_section(section: PlacedSection, field: Field) -> tuple[Plane, Plane]:
    values = fields.warp_channels(section.values, field)
    tissue = fields.warp_channels(section.tissue.astype(np.float32), field)
    return values, tissue


def _average_neighbors(
    sections: Sequence[PlacedSection], warped: Sequence[tuple[Plane, Plane]], number: int
) -> tuple[Plane, Mask] | None:
    """Return the mean of a section's neighbors and where they have tissue; None where none holds it."""
    total = np.zeros(sections[number].values.shape, np.float32)
    tissue = np.zeros_like(total)
    weight = 0.0
    for side in (-1, 1):
        held = [n for n in _walk(number, side, len(sections)) if sections[n].holds][: max(NEIGHBORS)]
        for step, neighbor in enumerate(held, start=1):
            share = NEIGHBORS[step]
            total += np.float32(share) * warped[neighbor][0]
            tissue += np.float32(share) * warped[neighbor][1]
            weight += share
    if weight == 0:
        return None
    return total / np.float32(weight), tissue / np.float32(weight) > 0.5


def _walk(number: int, side: int, count: int) -> range:
    return range(number + side, count if side > 0 else -1, side)


def _bend_section(
    section: PlacedSection,
    target: tuple[Plane, Mask],
    start: Field,
    options: Mapping[str, Any],
    context: RunContext,
) -> Field:
    from regflow.methods.refine.greedy import refine_field

    mask = target[1] | section.tissue
    if mask.sum() < FEWEST_SAMPLES:
        return start
    own = {**options, "metric": "mapped" if section.stained else options["metric"]}
    try:
        return refine_field(target[0], section.values, mask=mask, start=start, options=own, context=context)
    except RegistrationError:
        # What is constant where it counts has nothing to be bent by.
        return start
