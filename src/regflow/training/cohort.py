"""Real pairs of a user's cohort, of which nothing is known but that they show the same anatomy.

They teach in two ways. Registered by the study's own stages, a pair shows one anatomy in two real
looks; deformed in two known ways it has a truth, as bands of one scene have. As it stands, aligned by
its affine transform alone, it has none, and the likeness of its images teaches.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from regflow.core.errors import InputError, RegistrationError
from regflow.core.image import Image
from regflow.core.transform import Transform
from regflow.methods.refine.working import bring_together, scaled, working_grid
from regflow.training.deformations import places_seen, related
from regflow.training.painted import BACKGROUND_WEIGHT, LONGEST
from regflow.training.painting import SAMPLED_RANGE
from regflow.training.pairs import Pair

log = logging.getLogger(__name__)

MOST_PAIRS = 64
"""Pairs of a cohort that are kept in memory; of more, some are picked by the seed."""
CENTERS = 2048
"""Samples of each image on which patches are centered."""
PERCENTILES = dict(zip(("low", "high"), SAMPLED_RANGE, strict=True))
"""As networks are fed (``Description.intensity``)."""
BARE = 0.5
"""How often a pair is drawn as it stands, where its likeness is to teach as well."""

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Aligned:
    """A pair at the spacing of one pass.

    Attributes:
        fixed: ``(*shape)``, 0 to 1.
        moving: the same, brought onto the fixed image's grid by the affine transform.
        registered: the same, brought there by the deformation that the study's stages find.
        seen: ``(*shape)``, the object.
        inside: indices ``(n, d)`` of some samples of the object.
    """

    fixed: Array
    moving: Array
    registered: Array
    seen: NDArray[np.bool_]
    inside: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Cohort:
    """Draws patches of pairs.

    Attributes:
        pairs: each at every pass's spacing.
        bare: how often a pair is drawn as it stands, without truth.
    """

    pairs: Sequence[Sequence[Aligned]]
    bare: float

    def __call__(self, shape: Sequence[int], rng: np.random.Generator) -> Pair:
        """Draw a patch of any pair at any pass's spacing, mirrored now and then."""
        levels = self.pairs[int(rng.integers(len(self.pairs)))]
        level = levels[int(rng.integers(len(levels)))]
        center = level.inside[int(rng.integers(len(level.inside)))]
        mirrored = tuple(axis for axis in range(len(shape)) if rng.random() < 0.5)
        if rng.random() < self.bare:
            return _as_it_stands(level, center, mirrored, shape)
        return _deformed(level, center, mirrored, shape, rng)


def cohort(settings: Mapping[str, Any], seed: int) -> Cohort:
    """Read, prepare and align the pairs of a cohort, once.

    Args:
        settings: of the training, with ``cohort`` as in :func:`regflow.training.settings.training_settings`.
        seed: picks pairs where there are more than ``MOST_PAIRS``.

    Returns:
        What draws from them: pairs as they stand where ``weights.similarity`` alone is to teach, pairs
        deformed in known ways where ``weights.truth`` is, and both in turn.

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
    weights = settings["weights"]
    return Cohort(pairs, (BARE if weights["truth"] else 1.0) if weights["similarity"] else 0.0)


def _as_it_stands(
    level: Aligned, center: NDArray[np.intp], mirrored: tuple[int, ...], shape: Sequence[int]
) -> Pair:
    images = []
    for image in (level.fixed, level.moving):
        patch = np.flip(_patch(image, center, shape), mirrored)
        images.append(torch.from_numpy(np.ascontiguousarray(patch)[None]))
    return Pair(images[0], images[1])


def _deformed(
    level: Aligned,
    center: NDArray[np.intp],
    mirrored: tuple[int, ...],
    shape: Sequence[int],
    rng: np.random.Generator,
) -> Pair:
    """Look at a registered pair through two deformations: both images are resampled alike."""
    deformed = related(shape, LONGEST * rng.uniform(0.2, 1.0), rng)
    mirror = np.diag([-1.0 if axis in mirrored else 1.0 for axis in range(len(shape))])
    middle = _middle(center, shape, level.fixed.shape)
    where = [places_seen(field, mirror, middle) for field in (deformed.fixed, deformed.moving)]
    images = [
        torch.from_numpy(map_coordinates(image, places, np.float32, order=1, mode="nearest")[None])
        for image, places in zip((level.fixed, level.registered), where, strict=True)
    ]
    known = torch.from_numpy(_weights(level.seen, where[0])[None])
    return Pair(images[0], images[1], deformed.truth[0], known)


def _weights(seen: NDArray[np.bool_], places: Array) -> Array:
    limits = np.array(seen.shape).reshape(-1, *[1] * seen.ndim) - 1
    nearest = np.clip(np.rint(places).astype(np.intp), 0, limits)
    inside = (nearest == np.rint(places)).all(axis=0)
    return np.where(inside, np.where(seen[tuple(nearest)], 1.0, BACKGROUND_WEIGHT), 0.0).astype(np.float32)


def _middle(center: NDArray[np.intp], shape: Sequence[int], bounds: Sequence[int]) -> NDArray[np.float64]:
    """Return the middle of a patch near a center that stays inside the image, as far as it fits."""
    half = np.minimum((np.array(shape) - 1) / 2, (np.array(bounds) - 1) / 2)
    return np.clip(center, half, np.array(bounds) - 1 - half)


def _levels(row: Mapping[str, Any], given: Mapping[str, Any], spacings: Sequence[float]) -> list[Aligned]:
    fixed, moving, start, end = _registered(row, given)
    levels = []
    for spacing in spacings:
        grid = working_grid(fixed.grid, spacing)
        both = bring_together(fixed, moving, start, grid)
        images = [*both, bring_together(fixed, moving, end, grid)[1]]
        seen = np.ones(grid.shape, dtype=bool) if both[0].mask is None else both[0].mask
        inside = np.argwhere(seen)
        picked = np.random.default_rng(0).choice(len(inside), min(CENTERS, len(inside)), replace=False)
        still, moved, registered = (
            scaled(image, "percentile", PERCENTILES).channel.astype(np.float32) for image in images
        )
        levels.append(Aligned(still, moved, registered, seen, inside[picked]))
    return levels


def _registered(
    row: Mapping[str, Any], given: Mapping[str, Any]
) -> tuple[Image, Image, Transform, Transform]:
    """Prepare, initialize and refine a pair as the stages of those names do.

    Returns:
        The fixed and the moving image, the affine transform, and the one with the deformation.

    Raises:
        InputError: a file cannot be used.
        RegistrationError: no alignment holds.
    """
    from regflow.stages.initialize import align
    from regflow.stages.originals import read_parts
    from regflow.stages.preprocess import prepare
    from regflow.stages.refine import deform

    threads = torch.get_num_threads()
    fixed, _ = prepare(read_parts(row["fixed"]), given["preprocess"], threads=threads)
    original = read_parts(row["moving"], row["volume"])
    moving, _ = prepare(original, given["preprocess"], reference=fixed, threads=threads)
    found = align(fixed, moving, given["initialize"], threads=threads)
    if found.verdict.status == "fail":
        raise RegistrationError(f"the affine alignment is not to be trusted: {found.verdict.reason}")
    refined = deform(fixed, moving, found.transform, given["refine"], threads=threads)
    if refined.climb.verdict.status == "fail":
        raise RegistrationError(f"the deformation is not to be trusted: {refined.climb.verdict.reason}")
    return fixed, moving, found.transform, refined.forward


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
