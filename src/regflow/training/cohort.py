"""Real pairs of a user's cohort, of which nothing is known but that they show the same anatomy.

They teach in two ways. The study's own stages register each pair once, at leisure, and the network
learns to see at a glance what they found; of a simulated pair that is true exactly. Or the similarity of
the images teaches, without any truth. A network that is trained on meets every pair as its passes do: after
what those before have found.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from regflow.core.boxes import sample_indices_inside
from regflow.core.devices import count_session_threads
from regflow.core.errors import InputError, RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Transform, compose_transforms
from regflow.methods.refine.network import Network
from regflow.methods.refine.weights import NetworkDescription, choose_passes, load_network
from regflow.methods.refine.weights_files import find_weights
from regflow.methods.refine.working import make_working_grid, normalize_pair, resample_both
from regflow.metrics.jacobian import sample_displacement
from regflow.training.painted import BACKGROUND_WEIGHT
from regflow.training.painting import SAMPLED_RANGE
from regflow.training.pairs import TrainingPair
from regflow.training.passes import AlignedPair, predict_displacements_before
from regflow.training.simulated_pairs import simulated_pair

log = logging.getLogger(__name__)

MOST_PAIRS = 64
"""Pairs of a cohort that are kept in memory; of more, some are picked by the seed."""
MOST_SIMULATED = 16
"""Pairs of a cohort that are simulated as well: each takes half as much memory again."""
CENTERS = 2048
"""Samples of each image on which patches are centered."""
PERCENTILES = dict(zip(("low", "high"), SAMPLED_RANGE, strict=True))
"""As networks are fed (``Description.intensity``)."""
BARE = 0.5
"""How often a pair is drawn without what was found, where its similarity is to teach as well."""
UNSURE = 12
"""Samples from where a patch is cut off in which nothing is learned, or a quarter of a smaller patch:
what belongs there may lie outside, and a network that learns to guess it guesses in whole images too."""

Index = NDArray[np.intp]
Start = tuple[Network, NetworkDescription]


@dataclass(frozen=True, eq=False)
class RegisteredPair:
    """What the study's stages make of a pair.

    Attributes:
        fixed: working fixed image.
        moving: working moving image.
        affine: fixed to moving world points, without the deformation.
        forward: with it.
        inverse: back.
    """

    fixed: Image
    moving: Image
    affine: Transform
    forward: Transform
    inverse: Transform


@dataclass(frozen=True, eq=False)
class CohortPairs:
    """Draws patches of pairs.

    Attributes:
        pairs: each level by level.
        bare: how often a pair is drawn without truth.
        simulated: of some of them (:mod:`regflow.training.simulated_pairs`), in the same way.
    """

    pairs: Sequence[Sequence[AlignedPair]]
    bare: float
    simulated: Sequence[Sequence[AlignedPair]] = ()

    @property
    def validation_pairs(self) -> Sequence[Sequence[AlignedPair]]:
        """Pairs on which networks are compared: those of exact truth, if there are any."""
        return self.simulated or self.pairs

    def __call__(self, shape: Sequence[int], rng: np.random.Generator) -> TrainingPair:
        """Draw a patch of any pair, simulated or not, as any pass meets it, mirrored now and then."""
        pairs = [*self.pairs, *self.simulated]
        levels = pairs[int(rng.integers(len(pairs)))]
        passes = [(level, count + 1) for level in levels for count in range(len(level.relaxation))]
        level, count = passes[int(rng.integers(len(passes)))]
        center = level.inside[int(rng.integers(len(level.inside)))]
        mirrored = tuple(axis for axis in range(len(shape)) if rng.random() < 0.5)
        axes = _axes(center, shape, level.fixed.shape)
        pair = _met(level, count, axes, mirrored)
        return pair if rng.random() < self.bare else _add_found(pair, level, axes, mirrored)


def read_cohort_pairs(settings: Mapping[str, Any], seed: int) -> CohortPairs:
    """Read, prepare and align the pairs of a cohort, once.

    Args:
        settings: of the training, with ``cohort`` as in
            :func:`regflow.training.settings.make_training_settings`.
        seed: picks pairs where there are more than ``MOST_PAIRS``.

    Returns:
        What draws from them: bare pairs where ``weights.similarity`` alone is to teach, pairs with
        what was found for a truth where ``weights.truth`` is, and both in turn.

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
    start = None
    if settings["start_from"]:
        start = load_network(find_weights(settings["start_from"]), torch.device("cpu"))
    pairs: list[list[AlignedPair]] = []
    simulated: list[list[AlignedPair]] = []
    for number, row in enumerate(rows, start=1):
        try:
            pair = _registered(row, given)
            levels = _levels(pair, settings, start)
            if len(simulated) < MOST_SIMULATED:
                rng = np.random.default_rng([seed, number])
                made = simulated_pair(pair.fixed, pair.moving, pair.forward, pair.inverse, rng)
                if made is not None:
                    simulated.append(_sharing(_levels(replace(pair, moving=made), settings, start), levels))
        except (InputError, RegistrationError) as error:
            log.warning("train: %s is left out: %s", row["sample"], error)
            continue
        pairs.append(levels)
        log.info("train: pair %d of %d of the cohort is ready", number, len(rows))
    if not pairs:
        raise InputError("train: cohort: no pair can be aligned; the warnings say why")
    weights = settings["weights"]
    return CohortPairs(
        pairs, (BARE if weights["truth"] else 1.0) if weights["similarity"] else 0.0, simulated
    )


def _met(level: AlignedPair, count: int, axes: Sequence[Index], mirrored: Sequence[int]) -> TrainingPair:
    """Cut a patch out.

    Args:
        level: the pair.
        count: the pass that meets it, counted at this level.
        axes: indices of the patch along each axis.
        mirrored: axes to turn around.
    """
    fixed, moving = (_tensor(_patch(image, axes)[None], mirrored) for image in (level.fixed, level.moving))
    return TrainingPair(
        fixed, moving, begun=_vectors(level.begun, axes, mirrored), relaxation=level.relaxation[:count]
    )


def _add_found(
    pair: TrainingPair, level: AlignedPair, axes: Sequence[Index], mirrored: Sequence[int]
) -> TrainingPair:
    """Add what was found to a patch, for a truth."""
    known = np.where(_patch(level.seen, axes), np.float32(1), np.float32(BACKGROUND_WEIGHT))
    for axis, index in enumerate(axes):
        np.moveaxis(known, axis, 0)[_unsure(index, level.seen.shape[axis])] = 0
    truth = _vectors(level.found, axes, mirrored)
    return replace(pair, truth=truth, known=_tensor(known[None], mirrored))


def _unsure(index: Index, length: int) -> NDArray[np.bool_]:
    """Return which indices along an axis lie outside an image, or near where a patch of it is cut off."""
    margin = min(UNSURE, len(index) // 4)
    low = index[0] + margin if index[0] > 0 else 0
    high = index[-1] - margin if index[-1] < length - 1 else length - 1
    return np.asarray((index < low) | (index > high))


def _vectors(field: NDArray[Any], axes: Sequence[Index], mirrored: Sequence[int]) -> torch.Tensor:
    """Cut a patch out of displacements ``(d, *shape)``; where axes are turned around, they are too."""
    patch = _tensor(_patch(field, axes), mirrored)
    patch[list(mirrored)] *= -1
    return patch


def _axes(center: NDArray[np.int32], shape: Sequence[int], bounds: Sequence[int]) -> list[Index]:
    """Return the indices of a patch around a center, as far inside an image as it fits."""
    axes = []
    for middle, count, length in zip(center, shape, bounds, strict=True):
        first = (
            int(np.clip(middle - count // 2, 0, length - count)) if count <= length else (length - count) // 2
        )
        axes.append(np.arange(first, first + count))
    return axes


def _patch(image: NDArray[Any], axes: Sequence[Index]) -> NDArray[Any]:
    """Cut a patch out of the last axes of an image, whose border goes on outside."""
    bounds = image.shape[-len(axes) :]
    inside = [np.clip(index, 0, length - 1) for index, length in zip(axes, bounds, strict=True)]
    leading = (slice(None),) * (image.ndim - len(axes))
    return np.asarray(image[leading + np.ix_(*inside)])


def _tensor(channels: NDArray[Any], mirrored: Sequence[int]) -> torch.Tensor:
    """Return channels first ``(c, *shape)`` as float32, with some axes turned around."""
    turned = np.flip(channels, tuple(axis + 1 for axis in mirrored))
    return torch.from_numpy(np.array(turned, np.float32))


def _sharing(simulated: Sequence[AlignedPair], levels: Sequence[AlignedPair]) -> list[AlignedPair]:
    """Return a simulated pair's levels, which keep but once what they have in common with the pair's."""
    return [
        replace(other, fixed=level.fixed, found=level.found, seen=level.seen, inside=level.inside)
        for other, level in zip(simulated, levels, strict=True)
    ]


def _levels(pair: RegisteredPair, settings: Mapping[str, Any], start: Start | None) -> list[AlignedPair]:
    """Return a pair as each pass meets it that its images are fine enough for."""
    fixed, moving, affine = pair.fixed, pair.moving, pair.affine
    passes = choose_passes(settings["passes"], settings["spacing"], float(fixed.grid.spacing.min()))
    unit = settings["fold"] if start is None else start[1].shrink
    factors = iter(settings["relaxation"] or [1.0] * len(passes))
    levels = []
    for shrink, run in groupby(passes):
        grid = make_working_grid(fixed.grid, shrink * settings["spacing"], unit)
        both = resample_both(fixed, moving, affine, grid)
        seen = np.ones(grid.shape, dtype=bool) if both[0].mask is None else both[0].mask
        still, moved = (
            normalize_pair(image, "percentile", PERCENTILES).channel.astype(np.float32) for image in both
        )
        found = _displacement(grid, affine, pair.forward).astype(np.float16)
        levels.append(
            AlignedPair(
                *(still, moved, found, seen, sample_indices_inside(seen, CENTERS)),
                spacing=shrink * settings["spacing"],
                relaxation=tuple(next(factors) for _ in run),
                begun=np.zeros_like(found),
            )
        )
    if start is None:
        return levels
    before = predict_displacements_before(*start, levels)
    return [replace(level, begun=begun) for level, begun in zip(levels, before, strict=True)]


def _displacement(grid: Grid, start: Transform, end: Transform) -> NDArray[np.float32]:
    """Return where ``end`` leads, seen through ``start``: ``(d, *shape)`` in samples, array order."""
    vectors = sample_displacement(compose_transforms(end, start.inverse()), grid)
    samples = grid.to_index_vectors(np.moveaxis(vectors, 0, -1))
    return np.asarray(np.moveaxis(samples, -1, 0)[::-1], np.float32)


def _registered(row: Mapping[str, Any], given: Mapping[str, Any]) -> RegisteredPair:
    """Prepare, initialize and refine a pair as the stages of those names do.

    Raises:
        InputError: a file cannot be used.
        RegistrationError: no alignment holds.
    """
    from regflow.stages.volumes.initialize import align_volumes
    from regflow.stages.volumes.originals import read_parts
    from regflow.stages.volumes.preprocess import prepare_pair
    from regflow.stages.volumes.refine import INITIAL, deform_volumes

    threads = count_session_threads()
    originals = read_parts(row["fixed"]), read_parts(row["moving"], row["volume"])
    both = prepare_pair(*originals, given["preprocess"], threads=threads)
    fixed, moving = (made.image for made in both)
    found = align_volumes(fixed, moving, given["initialize"], threads=threads)
    if found.verdict.status == "fail":
        raise RegistrationError(f"the affine alignment is not to be trusted: {found.verdict.reason}")
    doubted = found.verdict.status != "pass"
    refined = deform_volumes(
        fixed, moving, found.transform, given["refine"], doubted=doubted, threads=threads
    )
    if refined.ladder.verdict.status == "fail" or refined.ladder.method == INITIAL:
        raise RegistrationError(f"the deformation is not to be trusted: {refined.ladder.verdict.reason}")
    return RegisteredPair(fixed, moving, found.transform, refined.forward, refined.inverse)
