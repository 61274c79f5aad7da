"""Real pairs of a user's cohort, of which nothing is known but that they show the same anatomy."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from regflow.core.errors import InputError, RegistrationError
from regflow.core.image import Image
from regflow.core.transform import Transform
from regflow.methods.refine.working import bring_together, scaled, working_grid
from regflow.training.painting import SAMPLED_RANGE
from regflow.training.pairs import Pair

log = logging.getLogger(__name__)

MOST_PAIRS = 64
"""Pairs of a cohort that are kept in memory; of more, some are picked by the seed."""
CENTERS = 2048
"""Samples of each image on which patches are centered."""
PERCENTILES = dict(zip(("low", "high"), SAMPLED_RANGE, strict=True))
"""As networks are fed (``Description.intensity``)."""

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Aligned:
    """A pair at the spacing of one pass, after its affine alignment.

    Attributes:
        fixed: ``(*shape)``, 0 to 1.
        moving: the same, brought onto the fixed image's grid.
        inside: indices ``(n, d)`` of some samples of the object.
    """

    fixed: Array
    moving: Array
    inside: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Cohort:
    """Draws patches of pairs.

    Attributes:
        pairs: each at every pass's spacing.
    """

    pairs: Sequence[Sequence[Aligned]]

    def __call__(self, shape: Sequence[int], rng: np.random.Generator) -> Pair:
        """Draw a patch of any pair at any pass's spacing, mirrored now and then."""
        levels = self.pairs[int(rng.integers(len(self.pairs)))]
        level = levels[int(rng.integers(len(levels)))]
        center = level.inside[int(rng.integers(len(level.inside)))]
        mirrored = tuple(axis for axis in range(len(shape)) if rng.random() < 0.5)
        images = []
        for image in (level.fixed, level.moving):
            patch = np.flip(_patch(image, center, shape), mirrored)
            images.append(torch.from_numpy(np.ascontiguousarray(patch)[None]))
        return Pair(images[0], images[1])


def cohort(settings: Mapping[str, Any], seed: int) -> Cohort:
    """Read, prepare and align the pairs of a cohort, once.

    Args:
        settings: of the training, with ``cohort`` as in :func:`regflow.training.settings.training_settings`.
        seed: picks pairs where there are more than ``MOST_PAIRS``.

    Raises:
        InputError: there is no cohort, or no pair of it can be used.
    """
    given = settings["cohort"]
    if given is None:
        raise InputError("train: shares: cohort: name a sample sheet in 'cohort'")
    if settings["ndim"] != 3:
        raise InputError("train: shares: cohort: pairs of volumes train 3-D networks only; set ndim to 3")
    rows = given["rows"]
    if len(rows) > MOST_PAIRS:
        picked = np.random.default_rng(seed).choice(len(rows), MOST_PAIRS, replace=False)
        log.warning("train: %d pairs picked of the cohort's %d", MOST_PAIRS, len(rows))
        rows = [rows[number] for number in sorted(picked)]
    spacings = [settings["spacing"] * shrink for shrink in settings["passes"]]
    pairs = []
    for number, row in enumerate(rows, start=1):
        try:
            pairs.append(_levels(row, given, spacings))
        except (InputError, RegistrationError) as error:
            log.warning("train: %s is left out: %s", row["sample"], error)
            continue
        log.info("train: pair %d of %d of the cohort is ready", number, len(rows))
    if not pairs:
        raise InputError("train: cohort: no pair can be aligned; the warnings say why")
    return Cohort(pairs)


def _levels(row: Mapping[str, Any], given: Mapping[str, Any], spacings: Sequence[float]) -> list[Aligned]:
    fixed, moving, start = _aligned(row, given)
    levels = []
    for spacing in spacings:
        grid = working_grid(fixed.grid, spacing)
        both = bring_together(fixed, moving, start, grid)
        seen = np.ones(grid.shape, dtype=bool) if both[0].mask is None else both[0].mask
        inside = np.argwhere(seen)
        picked = np.random.default_rng(0).choice(len(inside), min(CENTERS, len(inside)), replace=False)
        still, moved = (scaled(image, "percentile", PERCENTILES).channel for image in both)
        levels.append(Aligned(still.astype(np.float32), moved.astype(np.float32), inside[picked]))
    return levels


def _aligned(row: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[Image, Image, Transform]:
    """Prepare and initialize a pair as the stages of those names do.

    Raises:
        InputError: a file cannot be used.
        RegistrationError: no alignment holds.
    """
    from regflow.stages.initialize import align
    from regflow.stages.originals import read_parts
    from regflow.stages.preprocess import prepare

    threads = torch.get_num_threads()
    fixed, _ = prepare(read_parts(row["fixed"]), given["preprocess"], threads=threads)
    original = read_parts(row["moving"], row["volume"])
    moving, _ = prepare(original, given["preprocess"], reference=fixed, threads=threads)
    found = align(fixed, moving, given["initialize"], threads=threads)
    if found.verdict.status == "fail":
        raise RegistrationError(f"the affine alignment is not to be trusted: {found.verdict.reason}")
    return fixed, moving, found.transform


def _patch(image: Array, center: NDArray[np.intp], shape: Sequence[int]) -> Array:
    """Cut a patch out, around a center as far as the image reaches; its border goes on outside."""
    for axis, count in enumerate(shape):
        length = image.shape[axis]
        if length < count:
            before = (count - length) // 2
            widths = [(0, 0)] * image.ndim
            widths[axis] = (before, count - length - before)
            image = np.pad(image, widths, mode="edge")
        else:
            first = int(np.clip(center[axis] - count // 2, 0, length - count))
            image = image.take(range(first, first + count), axis=axis)
    return image
