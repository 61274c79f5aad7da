"""Volumes or scenes, lazy or in memory, brought together on one grid, which methods compute on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core import fields
from regflow.core.boxes import Box, crop_image, extend_field, find_bounding_box, make_whole_box
from regflow.core.errors import RegistrationError
from regflow.core.extent import measure_ball_diameter, measure_longest_side, resolve_length
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.resample import resample_aligned
from regflow.core.transform import Composite, DisplacementField, Transform
from regflow.methods.refine.greedy_pyramid import grow_mask
from regflow.methods.refine.working import make_working_grid, require_samples, resample_both, resize_grid

SEARCH, SPACING = 0.2, 1 / 72
"""Farthest displacement that is sought, and working spacing, as parts of a fixed object's size."""
SCENE_SEARCH = 0.1
"""Farthest displacement that is sought, as a part of a fixed scene's longest side."""
MARGIN = 2
"""Working samples by which the fixed mask is grown, so that the object's border says something too."""
SMALLEST_AXIS = 8
"""An axis does not shrink below this many samples."""
QUANTILES = 257
"""By which histograms are matched."""
MOST_COMPARED = 1_000_000
"""Samples of which quantiles are taken, about."""


@dataclass(frozen=True, eq=False)
class WorkingPair:
    """Both images on one grid, at working resolution.

    Attributes:
        fixed: the fixed image, first channel only, float32.
        moving: the moving one where the initial transform leads; its mask is false where it has no samples.
        box: of the fixed image that the working grid covers; None where the field stays on the working grid.
        grid: the fixed image's own.
    """

    fixed: Image
    moving: Image
    box: Box | None
    grid: Grid

    @property
    def pixel(self) -> float:
        """The finest spacing, world units."""
        return float(self.fixed.grid.spacing.min())

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Fixed samples that say something: the mask and a margin."""
        mask, shape = self.fixed.mask, self.fixed.grid.shape
        return np.ones(shape, bool) if mask is None else grow_mask(mask, MARGIN, np.ones(len(shape)))

    def compose_field(self, voxels: fields.VoxelField, initial: Transform) -> Composite:
        """Return a voxel field of the working grid, then the initial transform.

        A volume's field lies on the fixed image's own grid, so that another method can go on from it.
        """
        if self.box is None:
            grid = self.fixed.grid
        else:
            inner = tuple(part.stop - part.start for part in self.box)
            grid = self.grid
            voxels = extend_field(fields.resize_displacement(voxels, inner), self.box, grid.shape)
        return Composite((DisplacementField(fields.to_world(voxels, grid), grid), initial))


def load_working_pair(
    fixed: Image, moving: Image, initial: Transform, spacing: float, margin: float = 0.0
) -> WorkingPair:
    """Bring both images onto a working grid; that of a volume covers the fixed mask and a margin.

    Args:
        fixed: the fixed image; a scene may be lazy.
        moving: the moving image.
        initial: from fixed to moving world points.
        spacing: least distance of the samples, in world units.
        margin: about the fixed mask of a volume, world units.

    Raises:
        RegistrationError: no sample of the fixed mask, or none of the moving image, lies there.
        InputError: the memory does not suffice.
    """
    box = None
    if fixed.grid.ndim == 2:
        still, moved = load_scene_pair(fixed, moving, initial, spacing)
    else:
        box = make_whole_box(fixed.grid.shape)
        if fixed.mask is not None and fixed.mask.any():
            around = np.rint(margin / fixed.grid.spacing[::-1]).astype(int)
            box = find_bounding_box(fixed.mask, around.tolist())
        inner = crop_image(fixed, box)
        grid = make_working_grid(inner.grid, max(spacing, float(fixed.grid.spacing.min())), 1)
        still, moved = resample_both(inner, moving, initial, grid)
        still, moved = (
            replace(image, data=np.asarray(image.data[:1], np.float32)) for image in (still, moved)
        )
    for image in (still, moved):
        require_samples(image)
    return WorkingPair(still, moved, box, fixed.grid)


def load_search_pair(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any]
) -> tuple[WorkingPair, float]:
    """Bring both images onto a grid fit for a search of large displacements.

    Args:
        fixed: the fixed image.
        moving: the moving image.
        initial: from fixed to moving world points.
        options: of volumes ``search_mm`` and ``spacing_mm``, of scenes ``search_px`` and ``samples_across``.

    Returns:
        The pair, and the farthest displacement to seek along an axis, in its samples.

    Raises:
        RegistrationError, InputError: as :func:`load_working_pair`.
    """
    if fixed.grid.ndim == 2:
        longest, pixel = measure_longest_side(fixed.grid), float(fixed.grid.spacing.min())
        search = SCENE_SEARCH * longest if options["search_px"] is None else options["search_px"] * pixel
        pair = load_working_pair(fixed, moving, initial, longest / options["samples_across"])
    else:
        size = measure_ball_diameter(fixed.mask, fixed.grid)
        search = resolve_length(options["search_mm"], SEARCH, size)
        spacing = resolve_length(options["spacing_mm"], SPACING, size)
        pair = load_working_pair(fixed, moving, initial, spacing, search)
    return pair, search / pair.pixel


def load_scene_pair(fixed: Image, moving: Image, initial: Transform, spacing: float) -> tuple[Image, Image]:
    """Read two scenes, lazy or in memory, onto one grid, averaged where that is coarser.

    Args:
        fixed: the fixed scene.
        moving: the moving scene.
        initial: from fixed to moving world points.
        spacing: least distance of the samples, in world units.

    Returns:
        Fixed and moving, float32, with masks of what is valid; first channels only.
    """
    from regflow.core.blocks import decimate_data, load_block
    from regflow.methods.refine.dense import warp_scene_window

    still = load_block(decimate_data(fixed, spacing))
    window = tuple(slice(0, count) for count in still.grid.shape)
    values, seen = warp_scene_window(
        still.grid, decimate_data(moving, spacing), initial, (window[0], window[1])
    )
    return replace(still, data=still.data[:1]), Image(values[None], still.grid, seen)


def match_intensities(fixed: Image, moving: Image, histograms: bool) -> tuple[Any, Any]:
    """Return the first channels of two images of one grid, scaled alike to about 0 to 255, float32.

    Where either has no valid samples both have the fixed image's median: there nothing is to be matched.

    Args:
        fixed: its 1st and 99th percentile become 0 and 255.
        moving: scaled by its own or, with ``histograms``, mapped quantile by quantile to the fixed image's.
        histograms: see ``moving``.

    Raises:
        RegistrationError: an image is constant inside its mask.
    """
    quantiles = np.linspace(0.01, 0.99, QUANTILES if histograms else 2)
    knots = []
    for image, name in ((fixed, "fixed"), (moving, "moving")):
        inside = image.channel if image.mask is None else image.channel[image.mask]
        values = np.quantile(inside[:: max(1, inside.size // MOST_COMPARED)], quantiles)
        if not values[-1] > values[0]:
            raise RegistrationError(f"the {name} image is constant inside its mask; nothing to match")
        knots.append(values)
    scale = 255.0 / (knots[0][-1] - knots[0][0])
    one = (fixed.channel - knots[0][0]) * scale
    other = (_map_values(np.asarray(moving.channel, np.float64), knots[1], knots[0]) - knots[0][0]) * scale
    if fixed.grid.ndim == 2 and fixed.mask is not None and moving.mask is not None:
        lacking = ~(fixed.mask & moving.mask)
        one[lacking] = other[lacking] = np.median(one[~lacking])
    return np.asarray(one, np.float32), np.asarray(other, np.float32)


def _map_values(values: NDArray[Any], knots: NDArray[Any], onto: NDArray[Any]) -> NDArray[Any]:
    """Map values piecewise linearly; beyond the knots by the slope between the outer ones."""
    slope = (onto[-1] - onto[0]) / (knots[-1] - knots[0])
    rising = np.maximum.accumulate(knots + np.arange(len(knots)) * 1e-9 * (knots[-1] - knots[0]))
    inside = np.interp(values, rising, onto)
    return np.asarray(inside + slope * (np.minimum(values - knots[0], 0) + np.maximum(values - knots[-1], 0)))


def coarsen_channels(grid: Grid, factor: float, *channels: NDArray[np.float32]) -> tuple[Any, ...]:
    """Return a coarser grid of the same extent and each channel on it, filtered against aliasing."""
    size = np.array(grid.size)
    wanted = np.maximum(np.rint(size / factor), np.minimum(size, SMALLEST_AXIS)).astype(int)
    coarse = grid if (wanted == size).all() else resize_grid(grid, wanted)
    return coarse, *(resample_aligned(values, grid, coarse) for values in channels)
