"""Pairs from real volumes of any kind, deformed in two known ways: true texture, which no label map has.

Intensities go through random curves, so that the contrast of the few volumes at hand is not what is
learned. Images are float32 arrays.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from torch import Tensor

from regflow.core.boxes import crop_image, find_bounding_box, sample_indices_inside
from regflow.core.image import Image
from regflow.training.deformations import DrawDeformations, draw_related_deformations, find_places_seen
from regflow.training.label_maps import CENTERS, MARGIN, list_volumes, read_oriented
from regflow.training.painted import BACKGROUND_WEIGHT, LONGEST, SAME_CONTRAST, PatchPose, draw_pose
from regflow.training.painting import Array, degrade_image, draw_texture
from regflow.training.pairs import TrainingPair

BLURS = (0.0, 0.6, 1.2, 2.4)
"""Standard deviations, samples, with which a volume is kept: a coarse patch averages what it sees."""
BLUR_PER_SPACING = 0.4
KNOTS = (3, 7)
"""A curve of intensities has as many knots as the first, or more, but fewer than the last."""
STRONGEST_GRAIN = 0.1
"""Of the texture that is added: an average of many brains has less of its own than any one of them."""
ALONE = 0.5
"""How often nothing surrounds the object, as after brain extraction."""

Curve = Callable[[Array], Array]


@dataclass(frozen=True, eq=False)
class Scan:
    """One volume.

    Attributes:
        blurred: ``(Z, Y, X)`` float32, 0 to 1, for each of ``BLURS``.
        seen: ``(Z, Y, X)``, the object.
        spacing_mm: along the array axes.
        inside: indices ``(n, 3)`` of some samples of the object: where patches are centered.
        values: their intensities.
    """

    blurred: Sequence[Array]
    seen: NDArray[np.bool_]
    spacing_mm: NDArray[np.float64]
    inside: NDArray[np.int32]
    values: Array


@dataclass(frozen=True, eq=False)
class ScanPairs:
    """Draws pairs from volumes.

    Attributes:
        scans: the volumes.
        deform: draws how a volume is deformed for both images.
        least_spacing: of a patch, as a part of the widest: 1 shows whole objects only.
    """

    scans: Sequence[Scan]
    deform: DrawDeformations = draw_related_deformations
    least_spacing: float = 0.0

    def __call__(self, shape: Sequence[int], rng: np.random.Generator) -> TrainingPair:
        """Draw one volume, deformed in two ways and seen in one or two contrasts: its truth is known."""
        scan = self.scans[int(rng.integers(len(self.scans)))]
        view = draw_pose(scan.seen.shape, scan.spacing_mm, scan.inside, rng, self.least_spacing)
        deformed = self.deform(shape, LONGEST * rng.uniform(0.2, 1.0), rng)
        fixed, moving = (
            find_places_seen(field, view.matrix, view.center) for field in (deformed.fixed, deformed.moving)
        )
        alike = bool(rng.random() < SAME_CONTRAST)
        curve = _random_curve(scan.values, rng)
        curves = curve, curve if alike else _random_curve(scan.values, rng)
        texture = rng.uniform(0, STRONGEST_GRAIN) * draw_texture(len(shape), rng)
        alone, strength = rng.random() < ALONE, rng.uniform(0.1, 1.0)
        images = []
        for places, contrast in zip((fixed, moving), curves, strict=True):
            image = contrast(_looked_up(scan, view, places) + _grain(texture, view, places))
            image = np.where(_on_object(scan, places), image, 0) if alone else image
            images.append(_tensor(degrade_image(image, rng, strength)))
        known = _tensor(_weights(scan, fixed))
        return TrainingPair(images[0], images[1], deformed.truth[0], known, alike=alike)


def prepare_scans(images: Sequence[Image]) -> ScanPairs:
    """Prepare volumes ``(1, Z, Y, X)`` of any contrast; their masks are found as the stage preprocess does.

    Raises:
        InputError: nothing stands out from a volume's background.
    """
    return ScanPairs([_scan(image) for image in images])


def read_scans_of_folder(folder: str | Path) -> list[Image]:
    """Read every volume in a folder, in the order of names.

    Raises:
        InputError: there is no such folder, or no volume in it.
    """
    return [read_oriented(path) for path in list_volumes(folder, "scans")]


def read_template() -> list[Image]:
    """Read the symmetric ICBM152 template of 2009 (package nilearn), which all may use; empty without it."""
    from regflow.datasets.packaged import locate_source

    path = locate_source("icbm2009a")
    return [] if path is None else [read_oriented(path)]


def _scan(image: Image) -> Scan:
    from regflow.methods.context import RunContext
    from regflow.methods.preprocess import MASKS
    from regflow.methods.preprocess.masks import foreground

    found = foreground(image, None, MASKS["foreground"].complete({}), RunContext())
    assert found.mask is not None
    found = crop_image(found, find_bounding_box(found.mask, MARGIN))
    seen = np.asarray(found.mask)
    low, high = np.percentile(found.channel[seen], (0.5, 99.5))
    values = np.clip((found.channel - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
    blurred = [gaussian_filter(values, sigma) if sigma else values for sigma in BLURS]
    centers = sample_indices_inside(seen, CENTERS)
    return Scan(blurred, seen, found.grid.spacing[::-1].copy(), centers, values[tuple(centers.T)])


def _random_curve(values: Array, rng: np.random.Generator) -> Curve:
    """Draw a curve from intensities 0 to 1 to others: any, or one that rises or falls throughout.

    Its knots have as many of the object's samples between them, so that tissues are told apart.
    """
    knots = rng.uniform(0.0, 1.0, int(rng.integers(*KNOTS)))
    if rng.random() < 0.5:
        knots = np.sort(knots)[:: 1 if rng.random() < 0.5 else -1]
    knots = (knots - knots.min()) / np.ptp(knots)
    at = np.quantile(values, np.linspace(0, 1, len(knots)))
    return lambda image: np.interp(image, at, knots).astype(np.float32)


def _looked_up(scan: Scan, view: PatchPose, places: Array) -> Array:
    """Return the intensities at places, averaged as samples of the patch average."""
    wanted = np.abs(np.array(BLURS) - BLUR_PER_SPACING * (view.spacing - 1))
    source = scan.blurred[int(wanted.argmin())]
    return np.asarray(map_coordinates(source, places, np.float32, order=1, mode="nearest"))


def _grain(texture: Array, view: PatchPose, places: Array) -> Array:
    """Return the texture of places in the anatomy; it repeats itself."""
    at = np.float32(1 / view.spacing) * places
    return np.asarray(map_coordinates(texture, at, np.float32, order=1, mode="grid-wrap"))


def _on_object(scan: Scan, places: Array) -> NDArray[np.bool_]:
    limits = np.array(scan.seen.shape).reshape(-1, 1, 1, 1) - 1
    return np.asarray(scan.seen[tuple(np.clip(np.rint(places).astype(np.intp), 0, limits))])


def _weights(scan: Scan, places: Array) -> Array:
    limits = np.array(scan.seen.shape).reshape(-1, 1, 1, 1) - 1
    within = ((places >= 0) & (places <= limits)).all(axis=0)
    weights = np.where(_on_object(scan, places), 1.0, BACKGROUND_WEIGHT)
    return np.where(within, weights, 0.0).astype(np.float32)


def _tensor(image: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image, np.float32)[None])
