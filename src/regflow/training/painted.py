"""Pairs painted from label maps: one anatomy deformed in two ways, or two anatomies."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from regflow.training.deformations import DrawDeformations, draw_related_deformations, find_places_seen
from regflow.training.label_maps import LabelMap, Labels
from regflow.training.painting import (
    Array,
    degrade_image,
    draw_contrast,
    draw_remapped_contrast,
    draw_similar_contrast,
    draw_texture,
    paint_labels,
)
from regflow.training.pairs import TrainingPair, split_labels

BACKGROUND_WEIGHT = 0.05
"""Weight of the truth where there is nothing to see."""
LONGEST = 5.0
"""Bound of a deformation's velocity, samples of the patch."""
SPACING_RANGE = {2: (0.8, 3.0), 3: (1.0, 7.0)}
"""Of a patch, in samples of the label map: from a part of the object to all of it."""
STRIPPED = 0.4
"""How often the tissue around the brain is taken away, where a label map names it."""
OUTSIDE_BRAIN = (500, 599)
"""First and last code of that tissue in SynthSeg's label maps (Billot et al., Med. Image Analysis, 2023)."""
SAME_CONTRAST = 0.4
REMAPPED = 0.6
"""How often two contrasts that differ are related, so that they show most of the same borders."""


@dataclass(frozen=True, eq=False)
class PaintedPairs:
    """Draws pairs from label maps.

    Attributes:
        maps: the anatomies.
        same_contrast: how often both images have one contrast.
        deform: draws how an anatomy is deformed for both images.
        least_spacing: of a patch, as a part of the widest: 1 shows whole objects only.
    """

    maps: Sequence[LabelMap]
    same_contrast: float = SAME_CONTRAST
    deform: DrawDeformations = draw_related_deformations
    least_spacing: float = 0.0

    def __call__(self, shape: Sequence[int], rng: np.random.Generator) -> TrainingPair:
        """Draw a pair of one anatomy, deformed in two ways: its truth is known."""
        one = self.maps[int(rng.integers(len(self.maps)))]
        view = draw_pose(one.labels.shape, one.spacing_mm, one.inside, rng, self.least_spacing)
        deformed = self.deform(shape, LONGEST * rng.uniform(0.2, 1.0), rng)
        fixed, moving = (view.look(shape, field) for field in (deformed.fixed, deformed.moving))
        shown = draw_shown_numbers(one.codes, rng)
        labels = shown[fixed.sample_labels(one.labels)], shown[moving.sample_labels(one.labels)]
        images, alike = self.paint_images(labels, (fixed.places, moving.places), rng)
        parts = split_labels(labels[0][0], labels[1][0], rng)
        known = deformed.truth.new_tensor(_weights(labels[0][0], fixed.inside))
        return TrainingPair(*images, deformed.truth[0], known, *parts, alike)

    def paint_images(
        self, labels: tuple[Labels, Labels], places: tuple[Array, Array], rng: np.random.Generator
    ) -> tuple[tuple[Tensor, Tensor], bool]:
        """Paint two patches of labels, as :meth:`PatchContent.sample_labels` returns them.

        Returns:
            The images, and whether their contrasts agree.
        """
        count = int(max(part.max() for part in labels)) + 1
        first = draw_contrast(count, rng)
        alike = bool(rng.random() < self.same_contrast)
        if alike:
            second = draw_similar_contrast(first, rng)
        elif rng.random() < REMAPPED:
            second = draw_remapped_contrast(first, rng)
        else:
            second = draw_contrast(count, rng)
        texture = draw_texture(places[0].ndim - 1, rng)
        strength = rng.uniform(0.1, 1.0)
        painted = []
        for part, where, contrast in zip(labels, places, (first, second), strict=True):
            image = degrade_image(paint_labels(part, texture, where, contrast), rng, strength)
            painted.append(torch.from_numpy(image[None]))
        return (painted[0], painted[1]), alike


@dataclass(frozen=True, eq=False)
class PatchContent:
    """What a patch sees.

    Attributes:
        indices: nearest samples of the label map, kept inside it, ``(d, *shape)`` each: those of the
            samples' centers, then those of places around the centers.
        inside: whether the place is inside the label map.
        places: continuous position in samples of the patch, for the texture.
    """

    indices: Sequence[NDArray[np.intp]]
    inside: NDArray[np.bool_]
    places: Array

    def sample_labels(self, labels: Labels) -> Labels:
        """Look labels up: ``(places, *shape)``, the centers' first."""
        return np.stack([labels[tuple(index)] for index in self.indices])


@dataclass(frozen=True, eq=False)
class PatchPose:
    """A patch's pose in a label map: ``index = matrix (sample - middle) + center``.

    ``spacing`` is that of the patch, in samples of the label map.
    """

    matrix: NDArray[np.float64]
    center: NDArray[np.float64]
    bounds: tuple[int, ...]
    spacing: float

    def look(self, shape: Sequence[int], displacement: Tensor) -> PatchContent:
        """Return what samples see that a displacement ``(1, d, *shape)`` moves first."""
        places = find_places_seen(displacement, self.matrix, self.center)
        indices = [self._nearest(places + self._step(offset, places.ndim)) for offset in _around(len(shape))]
        inside = (indices[0] == np.rint(places)).all(axis=0)
        return PatchContent(indices, inside, np.float32(1 / self.spacing) * places)

    def _step(self, offset: Sequence[float], ndim: int) -> Array:
        """Return what an offset in samples of the patch is in the label map."""
        return (self.matrix @ np.array(offset)).astype(np.float32).reshape(-1, *[1] * (ndim - 1))

    def _nearest(self, places: Array) -> NDArray[np.intp]:
        limits = np.array(self.bounds).reshape(-1, *[1] * (places.ndim - 1)) - 1
        return np.clip(np.rint(places).astype(np.intp), 0, limits)


def _around(ndim: int) -> list[tuple[float, ...]]:
    """Return the center and the corners of a tetrahedron or square around it, samples.

    Painted means of these have borders as smooth as partial volumes make them. Borders cut to the
    nearest sample look alike in both images in a way that real ones do not, and a network learns it.
    """
    corners = [c for c in product((-0.25, 0.25), repeat=ndim) if ndim == 2 or np.prod(c) > 0]
    return [(0.0,) * ndim, *corners]


def draw_pose(
    bounds: tuple[int, ...],
    spacing_mm: NDArray[np.float64],
    inside: NDArray[np.integer],
    rng: np.random.Generator,
    least_spacing: float = 0.0,
) -> PatchPose:
    """Place a patch on an object: scaled, turned, mirrored now and then.

    Args:
        bounds: shape of the image that shows the object.
        spacing_mm: of the image's samples, along the array axes.
        inside: indices ``(n, d)`` of samples of the object.
        rng: source of randomness.
        least_spacing: of the patch, as a part of the widest.
    """
    ndim = len(bounds)
    angle = np.deg2rad(rng.normal(0, 12))
    if ndim == 3:
        rotation = Rotation.from_rotvec(angle * _unit(rng.normal(size=3))).as_matrix()
    else:
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    low, high = SPACING_RANGE[ndim]
    spacing = np.exp(rng.uniform(np.log(max(low, least_spacing * high)), np.log(high)))
    stretch = np.exp(rng.normal(0, 0.08, ndim)) * spacing * np.where(rng.random(ndim) < 0.5, -1, 1)
    center = inside[int(rng.integers(len(inside)))].astype(np.float64)
    middle = (np.array(bounds) - 1) / 2
    # A coarse patch sees most of the object: then its center is near the object's.
    pull = np.clip((spacing - 1) / (SPACING_RANGE[ndim][1] - 1), 0, 1) ** 0.5
    # Anisotropic images are seen in their true proportions.
    proportions = spacing_mm.min() / spacing_mm
    matrix = np.diag(proportions) @ rotation @ np.diag(stretch)
    return PatchPose(matrix, center + pull * (middle - center), bounds, float(spacing))


def draw_shown_numbers(codes: NDArray[np.int64], rng: np.random.Generator) -> Labels:
    """Draw what is seen of each code: its number, or background in a brain without its surroundings."""
    numbers = np.arange(len(codes), dtype=np.uint16)
    first, last = OUTSIDE_BRAIN
    if rng.random() < STRIPPED:
        numbers[(codes >= first) & (codes <= last)] = 0
    return numbers


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(vector / np.linalg.norm(vector))


def _weights(labels: Labels, inside: NDArray[np.bool_]) -> Array:
    seen = np.where(labels > 0, 1.0, BACKGROUND_WEIGHT)
    return np.where(inside, seen, 0.0).astype(np.float32)[None]
