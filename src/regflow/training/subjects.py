"""Pairs of two anatomies that bear the same labels: no true displacement, but labels that must meet."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from numpy.typing import NDArray

from regflow.core.errors import InputError
from regflow.training.deformations import draw_shift, draw_velocity
from regflow.training.label_maps import LabelMap, Labels
from regflow.training.painted import PaintedPairs, PatchPose, draw_pose, draw_shown_numbers
from regflow.training.pairs import TrainingPair, split_labels

LEAST_COMMON = 8
"""Labels that two maps must share to be brought together by their centers."""
MISFIT = 2.0
"""Bound of the shift and of the velocity added to the affine fit, samples: no start is perfect."""


@dataclass(frozen=True, eq=False)
class SubjectPairs:
    """Draws pairs of two subjects.

    Attributes:
        painter: how images are painted; its maps are the subjects.
        fits: (fixed, moving) number to affine matrix ``(4, 4)``, index to index.
        numbers: for each map, its number to the number of the same code in all maps.
        codes: of all maps.
    """

    painter: PaintedPairs
    fits: dict[tuple[int, int], NDArray[np.float64]]
    numbers: list[Labels]
    codes: NDArray[np.int64]

    def __call__(self, shape: Sequence[int], rng: np.random.Generator) -> TrainingPair:
        """Draw two subjects, one brought near the other by an affine map."""
        pairs = sorted(self.fits)
        one, other = pairs[int(rng.integers(len(pairs)))]
        maps = self.painter.maps
        view = draw_pose(maps[one].labels.shape, maps[one].spacing_mm, maps[one].inside, rng)
        misfit = draw_velocity(shape, rng.uniform(0, MISFIT), rng)
        fixed = view.look(shape, torch.zeros(1, len(shape), *shape))
        there = _through(self.fits[one, other], view, maps[other].labels.shape)
        moving = there.look(shape, misfit + draw_shift(len(shape), MISFIT, rng))
        shown = draw_shown_numbers(self.codes, rng)
        labels = (
            shown[self.numbers[one]][fixed.sample_labels(maps[one].labels)],
            shown[self.numbers[other]][moving.sample_labels(maps[other].labels)],
        )
        images, alike = self.painter.paint_images(labels, (fixed.places, moving.places), rng)
        fixed_parts, moving_parts = split_labels(labels[0][0], labels[1][0], rng)
        return TrainingPair(*images, fixed_parts=fixed_parts, moving_parts=moving_parts, alike=alike)


def fit_subjects(maps: Sequence[LabelMap]) -> SubjectPairs:
    """Fit every map to every other that shares enough labels.

    Raises:
        InputError: no two maps do.
    """
    codes = np.unique(np.concatenate([each.codes for each in maps]))
    numbers = [np.searchsorted(codes, each.codes).astype(np.uint16) for each in maps]
    centers = [_centers(each) for each in maps]
    fits = {}
    for one, other in permutations(range(len(maps)), 2):
        common = sorted(centers[one].keys() & centers[other].keys())
        if len(common) >= LEAST_COMMON:
            fits[one, other] = _affine(
                *([part[code] for code in common] for part in (centers[one], centers[other]))
            )
    if not fits:
        raise InputError(
            f"train: shares: subjects: no two label maps share {LEAST_COMMON} labels; give maps of one "
            "labeling in 'label_maps', or set the share to 0"
        )
    return SubjectPairs(PaintedPairs(maps), fits, numbers, codes)


def _centers(one: LabelMap) -> dict[int, NDArray[np.float64]]:
    """Center of each label, as an index into the map."""
    flat = one.labels.ravel()
    volume = np.bincount(flat, minlength=len(one.codes))
    sums = []
    for axis, count in enumerate(one.labels.shape):
        view = [1] * one.labels.ndim
        view[axis] = count
        places = np.broadcast_to(np.arange(count, dtype=np.float64).reshape(view), one.labels.shape)
        sums.append(np.bincount(flat, places.ravel(), minlength=len(one.codes)))
    centers = np.stack(sums, axis=1) / np.maximum(volume, 1)[:, None]
    return {int(code): centers[number] for number, code in enumerate(one.codes) if number}


def _affine(source: list[NDArray[np.float64]], target: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Least-squares affine matrix from points to points."""
    ndim = len(source[0])
    known = np.hstack([np.array(source), np.ones((len(source), 1))])
    solved, *_ = np.linalg.lstsq(known, np.array(target), rcond=None)
    matrix = np.eye(ndim + 1)
    matrix[:ndim] = solved.T
    return matrix


def _through(fit: NDArray[np.float64], view: PatchPose, bounds: tuple[int, ...]) -> PatchPose:
    """Look through a fit: the same patch, in the other subject's map."""
    ndim = len(bounds)
    center = fit[:ndim, :ndim] @ view.center + fit[:ndim, ndim]
    return PatchPose(fit[:ndim, :ndim] @ view.matrix, center, bounds, view.spacing)
