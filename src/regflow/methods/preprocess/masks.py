"""Masks of the samples that may steer a registration."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError
from regflow.core.extent import measure_ball_diameter, measure_longest_side, resolve_length
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.memory import check_grid
from regflow.core.resample import coarsen_image, resample_array
from regflow.core.surroundings import find_otsu_threshold, find_surroundings
from regflow.methods.context import RunContext
from regflow.methods.preprocess import MASKS

CONSTANT_BORDER_SHARE = 0.98
"""An image has a constant background when this share of its outermost samples has one value ..."""
CONSTANT_SHARE = 0.15
"""... and this share of all samples has it too."""
HEAD_TO_MASK = 1.5
"""A foreground this many times the size of the fixed image's mask is more than what that mask covers."""
FAINT = 0.01
"""What differs from a constant background by less than this part of the image's range is its echo:
the tails of a filter or of an interpolation."""
DISTANCE_BYTES = 24
"""Memory per sample of a distance transform."""
SIZED_ACROSS = 64
"""Samples along the longest side at which the size of an object is told."""
CHOICE = 0.02
"""Spacing at which foreground and fixed mask are compared to choose a method, as a part of the object's
size: some 4 mm for a head."""
MORPHOLOGY = 0.01
"""Spacing at which thresholded masks are worked on, likewise: radii are several times that anyway."""
OPENING, CLOSING = 0.02, 0.04
"""Radii of the opening and the closing of a thresholded mask, likewise."""
BACKGROUND_CLIP = 99.0
"""Percentile to which intensities are clipped before a threshold is sought: a few very bright samples
(fat, vessels, metal) must not decide what is background."""


def choose_method(image: Image, reference: Image | None) -> tuple[str, str]:
    """Choose a mask method for an image, and say why.

    Args:
        image: the image, with its mask when one was given.
        reference: the preprocessed fixed image; None for the fixed image itself.

    Returns:
        ``given``, ``atlas`` or ``foreground``, and one clause with the reason.
    """
    if image.mask is not None:
        return "given", "a mask was given"
    if reference is None or reference.mask is None or reference.mask.all():
        return "foreground", "no fixed mask to carry over"
    options = MASKS["foreground"].complete({})
    # Shrinking widens the border of a constant background, and finding it needs no shrinking.
    stripped = find_constant_background(image.channel) is not None
    coarse = image if stripped else coarsen_masked(image, CHOICE * measure_object_size(image))
    ratio = _volume(foreground(coarse, None, options, RunContext()).mask, coarse.grid) / _volume(
        reference.mask, reference.grid
    )
    if ratio > HEAD_TO_MASK:
        return "atlas", f"the foreground is {ratio:.2f} times the fixed mask, so it holds more than that"
    return "foreground", f"the foreground is {ratio:.2f} times the fixed mask, so it is the same object"


def given_mask(
    image: Image, reference: Image | None, options: Mapping[str, Any], context: RunContext
) -> Image:
    """Keep the mask that came with the image.

    Raises:
        InputError: none came, or it is empty.
    """
    if image.mask is None:
        raise InputError(
            "preprocess: the mask method is 'given' but this image has no mask; name one in the sheet "
            "or choose 'auto'"
        )
    return check_mask(image, "the given mask")


def full_mask(
    image: Image, reference: Image | None, options: Mapping[str, Any], context: RunContext
) -> Image:
    """Let every sample steer."""
    return image.with_mask(None)


def foreground(
    image: Image, reference: Image | None, options: Mapping[str, Any], context: RunContext
) -> Image:
    """Separate the object from the background.

    With an exactly constant background (a skull-stripped brain, a padded or defaced scan) the mask
    is what differs from it visibly, in one piece, holes filled. Otherwise what lies beyond Otsu's
    threshold, on the side where the surroundings are not, or above the given one, is followed by the
    largest piece, a closing, hole filling and an opening, at a spacing of a hundredth of the object's size.

    Raises:
        InputError: nothing stands out from the background.
    """
    data = np.asarray(image.channel)
    value = find_constant_background(data)
    if value is not None and options["threshold"] is None:
        contrast = np.abs(data - np.float32(value))
        differs = contrast > FAINT * np.percentile(contrast, BACKGROUND_CLIP)
        return check_mask(image.with_mask(fill_holes(keep_largest_piece(differs))), "the foreground")
    threshold = options["threshold"]
    size = measure_object_size(image, threshold)
    coarse = coarsen_masked(image.with_mask(None), MORPHOLOGY * size)
    grid = coarse.grid
    closing = resolve_length(options["closing_mm"], CLOSING, size)
    mask = fill_holes(close_gaps(keep_largest_piece(_standing_out(coarse.channel, threshold)), grid, closing))
    # Only now is skin no longer a thin sheet over dark bone, which an opening would take away.
    mask = keep_largest_piece(_opened(mask, grid, resolve_length(options["opening_mm"], OPENING, size)))
    share = resample_array(mask.astype(np.float32), grid, image.grid)
    return check_mask(image.with_mask(share >= 0.5), "the foreground")


def measure_object_size(image: Image, threshold: float | None = None) -> float:
    """Return the diameter of a ball as large as what stands out of an image's background, in world units.

    Args:
        image: its mask is left aside.
        threshold: above which samples stand out; None for Otsu's.
    """
    coarse = coarsen_masked(image.with_mask(None), measure_longest_side(image.grid) / SIZED_ACROSS)
    return measure_ball_diameter(keep_largest_piece(_standing_out(coarse.channel, threshold)), coarse.grid)


def _standing_out(data: NDArray[Any], threshold: float | None) -> NDArray[np.bool_]:
    return _thresholded(data) if threshold is None else np.asarray(data > threshold)


def _thresholded(data: NDArray[Any]) -> NDArray[np.bool_]:
    """Return what lies beyond Otsu's threshold: above it, or below where the surroundings are bright."""
    if find_surroundings(data).bright:
        data = -data
    clipped = np.minimum(data, np.percentile(data, BACKGROUND_CLIP))
    return np.asarray(data > find_otsu_threshold(clipped))


def coarsen_masked(image: Image, spacing_mm: float) -> Image:
    """Return one channel and the mask at a spacing no finer than ``spacing_mm``, without aliasing."""
    return coarsen_image(
        Image(image.channel[None], image.grid, image.mask, modality=image.modality), spacing_mm
    )


def check_mask(image: Image, name: str) -> Image:
    """Return the image if its mask holds anything.

    Raises:
        InputError: the mask is empty.
    """
    if image.mask is None or not image.mask.any():
        raise InputError(f"preprocess: {name} is empty; check the image, or name a mask in the sheet")
    return image


def find_constant_background(data: NDArray[Any]) -> float | None:
    """Return the value of an exactly constant background, or None when there is no such thing."""
    faces = [np.take(data, end, axis).ravel() for axis in range(data.ndim) for end in (0, -1)]
    border = np.concatenate(faces)
    values, counts = np.unique(border, return_counts=True)
    value = values[counts.argmax()]
    constant = counts.max() >= CONSTANT_BORDER_SHARE * border.size and np.mean(data == value) > CONSTANT_SHARE
    return float(value) if constant else None


def keep_largest_piece(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest face-connected piece of a mask."""
    from scipy.ndimage import label

    pieces, count = label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray(pieces == sizes.argmax())


def fill_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the mask with every hole that does not reach the array's border filled."""
    from scipy.ndimage import label

    pieces, count = label(~mask)
    open_pieces = np.zeros(count + 1, dtype=bool)
    for axis in range(mask.ndim):
        for end in (0, -1):
            open_pieces[np.unique(np.take(pieces, end, axis))] = True
    open_pieces[0] = False
    return np.asarray(~open_pieces[pieces])


def dilate_mask(mask: NDArray[np.bool_], grid: Grid, radius_mm: float) -> NDArray[np.bool_]:
    """Return the mask grown by a radius, in world units."""
    return mask if radius_mm <= 0 else np.asarray(_distance(~mask, grid) <= radius_mm)


def erode_mask(mask: NDArray[np.bool_], grid: Grid, radius_mm: float) -> NDArray[np.bool_]:
    """Return the mask shrunken by a radius, in world units."""
    return mask if radius_mm <= 0 else np.asarray(_distance(mask, grid) > radius_mm)


def close_gaps(mask: NDArray[np.bool_], grid: Grid, radius_mm: float) -> NDArray[np.bool_]:
    """Close gaps; the array is padded so that its border does not count as outside."""
    if radius_mm <= 0:
        return mask
    pad = [int(np.ceil(radius_mm / s)) + 1 for s in grid.spacing[::-1]]
    # What touches the border goes on beyond it: an edge-padded mask closes there as well.
    wide = Grid(tuple(n + 2 * more for n, more in zip(mask.shape, pad, strict=True)), grid.affine)
    check_grid(wide, DISTANCE_BYTES)
    padded = np.pad(mask, [(n, n) for n in pad], mode="edge")
    closed = erode_mask(dilate_mask(padded, grid, radius_mm), grid, radius_mm)
    return closed[tuple(slice(n, -n) for n in pad)]


def _distance(mask: NDArray[np.bool_], grid: Grid) -> NDArray[np.float64]:
    """Return each inside sample's distance to the outside (0 outside, infinite when there is none)."""
    from scipy.ndimage import distance_transform_edt

    if mask.all():
        return np.full(mask.shape, np.inf)
    return np.asarray(distance_transform_edt(mask, sampling=grid.spacing[::-1]))


def _opened(mask: NDArray[np.bool_], grid: Grid, radius_mm: float) -> NDArray[np.bool_]:
    return dilate_mask(erode_mask(mask, grid, radius_mm), grid, radius_mm)


def _volume(mask: NDArray[np.bool_] | None, grid: Grid) -> float:
    return 0.0 if mask is None else float(mask.sum() * abs(np.linalg.det(grid.affine)))
