"""Images painted from label maps: random contrasts and the defects of real acquisitions.

The scheme of SynthMorph (Hoffmann et al., IEEE Trans. Medical Imaging 41(3):543-558, 2022): what a
network sees has no contrast of its own, so that it learns shapes. Images are float32 arrays.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from regflow.training.deformations import draw_smooth_noise
from regflow.training.label_maps import Labels

Array = NDArray[np.float32]

DARK_BACKGROUND = 0.7
"""How often nothing surrounds the object, as outside a head or after brain extraction."""
SAMPLED_RANGE = (1.0, 99.0)
"""Percentiles brought to 0 and 1, clipped beyond."""
TEXTURE_SIDE = 48
STRONGEST_GRAIN = (0.02, 0.4)
"""Range of the strength of the texture within labels. Real tissue is never uniform, and a network that
has seen only uniform labels does not trust what it sees inside them."""


@dataclass(frozen=True, eq=False)
class LabelContrast:
    """How an anatomy looks in one kind of image.

    Attributes:
        means: intensity of each label, background first.
        grain: strength of the texture of each label; below 0 it is inverted.
    """

    means: Array
    grain: Array


def draw_contrast(count: int, rng: np.random.Generator) -> LabelContrast:
    """Draw intensities for ``count`` labels, the background included."""
    means = rng.uniform(0.05, 1.0, count).astype(np.float32)
    # Neighbors that look alike are the rule in real images: some labels share an intensity.
    groups = rng.integers(0, max(4, int(count * rng.uniform(0.6, 3.0))), count)
    grouped = means[np.minimum(groups, count - 1)]
    means = grouped + rng.normal(0, 0.04, count).astype(np.float32)
    strongest = np.exp(rng.uniform(*np.log(STRONGEST_GRAIN)))
    grain = rng.uniform(0.0, strongest, count) * (1 if rng.random() < 0.5 else -1)
    if rng.random() < DARK_BACKGROUND:
        means[0] = grain[0] = 0.0
    return LabelContrast(means, grain.astype(np.float32))


def draw_similar_contrast(one: LabelContrast, rng: np.random.Generator) -> LabelContrast:
    """Draw a contrast that another image of the same kind would have."""
    changed = one.means + rng.normal(0, 0.03, one.means.shape).astype(np.float32)
    return LabelContrast(np.where(one.means == 0, 0, changed).astype(np.float32), one.grain)


def draw_remapped_contrast(one: LabelContrast, rng: np.random.Generator) -> LabelContrast:
    """Draw the contrast of another kind of image that shows most of the same borders.

    Intensities go through a random curve, turned around as often as not, as from T1 to T2 weighting.
    """
    knots = rng.uniform(0.0, 1.0, 4)
    if rng.random() < 0.5:
        knots = np.sort(knots)[::-1]
    curved = np.interp(one.means, np.linspace(0, 1, len(knots)), knots)
    means = curved.astype(np.float32) + rng.normal(0, 0.05, one.means.shape).astype(np.float32)
    grain = np.float32(np.sign(knots[-1] - knots[0])) * one.grain
    return LabelContrast(np.where(one.means == 0, 0, means).astype(np.float32), grain)


def draw_texture(ndim: int, rng: np.random.Generator) -> Array:
    """Return a periodic random image, ``TEXTURE_SIDE`` samples a side: what belongs to the anatomy."""
    noise = rng.standard_normal((TEXTURE_SIDE,) * ndim).astype(np.float32)
    smooth = gaussian_filter(noise, rng.uniform(0.6, 2.0), mode="wrap")
    return np.asarray(smooth / smooth.std())


def paint_labels(labels: Labels, texture: Array, places: Array, contrast: LabelContrast) -> Array:
    """Give labels their intensities, and the texture of the place in the anatomy.

    Args:
        labels: ``(places, *shape)``: of the center of each sample and of places around it; their
            intensities are averaged.
        texture: of :func:`draw_texture`.
        places: ``(d, *shape)``: index into the texture of every sample; it repeats itself.
        contrast: of as many labels as there are.
    """
    grain = map_coordinates(texture, places, order=1, mode="grid-wrap")
    means = np.mean([contrast.means[part] for part in labels], axis=0, dtype=np.float32)
    return np.asarray(means + contrast.grain[labels[0]] * grain)


def degrade_image(image: Array, rng: np.random.Generator, strength: float = 1.0) -> Array:
    """Do to an image what an acquisition does; its scale is 0 to 1 afterwards.

    Blur, lower resolution along one axis, a bias field, noise, a nonlinear scale; now and then a part
    outside the field of view, or missing slices.

    Args:
        image: clean intensities.
        rng: source of randomness.
        strength: of noise and bias field; 1 for poor acquisitions.
    """
    image = gaussian_filter(image, rng.uniform(0.2, 1.1))
    if rng.random() < 0.25:
        image = _thick_slices(image, rng)
    shape = image.shape
    field = draw_smooth_noise(shape, max(shape) * rng.uniform(0.4, 1.0), rng)
    image = image * np.exp(strength * rng.uniform(0, 0.25) * field)
    level = strength * rng.uniform(0.0, 0.05) * (image.max() - image.min())
    image = image + level * rng.standard_normal(shape, dtype=np.float32)
    image = to_unit(image) ** np.float32(np.exp(rng.normal(0, 0.25)))
    if rng.random() < 0.1:
        _cut_view(image, rng)
    if rng.random() < 0.05:
        _drop_slices(image, rng)
    return image.astype(np.float32)


def to_unit(image: Array) -> Array:
    """Bring two percentiles to 0 and 1 and clip beyond; a constant image becomes 0."""
    low, high = np.percentile(image, SAMPLED_RANGE)
    return np.clip((image - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)


def _thick_slices(image: Array, rng: np.random.Generator) -> Array:
    """Average along one axis over a thick slice, and interpolate between the slices' centers."""
    axis, factor = int(rng.integers(image.ndim)), int(rng.integers(2, 5))
    moved = np.moveaxis(image, axis, 0)
    count = len(moved) // factor
    means = moved[: count * factor].reshape(count, factor, *moved.shape[1:]).mean(axis=1)
    at = np.clip((np.arange(len(moved)) + 0.5) / factor - 0.5, 0, count - 1)
    low = np.minimum(at.astype(int), max(count - 2, 0))
    share = (at - low).astype(np.float32).reshape(-1, *[1] * (image.ndim - 1))
    high = np.minimum(low + 1, count - 1)
    return np.moveaxis(means[low] * (1 - share) + means[high] * share, 0, axis)


def _cut_view(image: Array, rng: np.random.Generator) -> None:
    """Blank one side of the image."""
    axis = int(rng.integers(image.ndim))
    depth = int(image.shape[axis] * rng.uniform(0.05, 0.25))
    part = slice(0, depth) if rng.random() < 0.5 else slice(image.shape[axis] - depth, None)
    np.moveaxis(image, axis, 0)[part] = 0


def _drop_slices(image: Array, rng: np.random.Generator) -> None:
    """Blank a few slices along one axis."""
    axis = int(rng.integers(image.ndim))
    lost = rng.choice(image.shape[axis], int(rng.integers(1, 4)), replace=False)
    np.moveaxis(image, axis, 0)[lost] = 0
