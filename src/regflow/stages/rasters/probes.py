"""A few windows of two scenes at working resolution, to compare how alike transforms make them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.block_source import Block
from regflow.core.blocks import read_block
from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.plain_areas import find_plain_surroundings
from regflow.core.similarity import mutual_information, ncc, normalized_mutual_information, ssim
from regflow.core.transform import Transform
from regflow.core.warp import PixelMap, warp_window

ALONG = 6
"""Windows along each axis of the overlap."""
SIDE_PX = 96
SLACK_PX = 40
"""Pixels beyond the initial transform's window that are read of the moving scene, for what candidates
add to it; beyond them a sample is invalid."""
LEAST_VALID = 0.25

Array = NDArray[Any]
WindowPair = tuple[Array, Array, Array]
"""The fixed window, the moving scene on it, and where both are valid."""


@dataclass(frozen=True, eq=False)
class ComparisonWindow:
    """One window.

    Attributes:
        fixed: block of the fixed scene.
        rows: where it lies.
        cols: likewise.
        moving: what is in memory of the moving scene around its partner.
        first: row and column of its first pixel in the moving scene.
    """

    fixed: Block
    rows: slice
    cols: slice
    moving: Image
    first: tuple[int, int]

    def read(self, rows: slice, cols: slice) -> tuple[Array, Array]:
        """Read a window of the moving scene; what is not in memory is invalid."""
        inside = [
            slice(part.start - first, part.stop - first)
            for part, first in zip((rows, cols), self.first, strict=True)
        ]
        block = read_block(self.moving, *inside)
        return block.values, block.valid[None]


@dataclass(frozen=True, eq=False)
class ComparisonWindows:
    """Windows spread over the overlap of two scenes.

    Attributes:
        windows: what was read.
        fixed: grid of the fixed scene.
        moving: grid of the moving scene.
    """

    windows: list[ComparisonWindow]
    fixed: Grid
    moving: Grid

    @classmethod
    def read(cls, fixed: Image, moving: Image, initial: Transform) -> "ComparisonWindows":
        """Read the windows around the middles of equal cells of the overlap.

        Raises:
            RegistrationError: no window has data in both scenes.
        """
        from regflow.methods.matching.tie_points import find_overlap

        low, high = find_overlap(fixed.grid, moving.grid, initial)
        counts = np.clip((high - low + 1) / SIDE_PX, 1, ALONG).astype(int)
        size = np.minimum(SIDE_PX, high - low + 1).astype(np.int64)
        axes = [low[k] + (np.arange(counts[k]) + 0.5) * (high - low + 1)[k] / counts[k] for k in (0, 1)]
        middles = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
        found = [_read(fixed, moving, initial, middle, size) for middle in middles]
        whole = [probe for probe in found if probe is not None]
        shown = [probe for probe in map(_without_surroundings, whole) if probe is not None]
        kept = shown or whole
        if not kept:
            raise RegistrationError("the scenes have no valid pixels in common where they overlap")
        return cls(kept, fixed.grid, moving.grid)

    def measure_similarity(self, transform: Transform) -> dict[str, float]:
        """Return ``ncc``, the median over windows of its size, and ``nmi`` of all together."""
        found = list(self.read_pairs(transform))
        if not found:
            return {"ncc": 0.0, "nmi": 1.0}
        nmi = normalized_mutual_information(*self._together(found))
        return {"ncc": self._correlation(found), "nmi": float(np.nan_to_num(nmi, nan=1.0))}

    def measure_figures(self, transform: Transform) -> dict[str, float]:
        """Return ``ncc`` as :meth:`measure_similarity`, ``mi`` in nats of all together, median ``ssim``.

        For the latter each moving window gets the mean and the spread of the fixed one.
        """
        found = list(self.read_pairs(transform))
        if not found:
            return {"ncc": 0.0, "mi": 0.0, "ssim": 0.0}
        structural = [ssim(fixed, _like(fixed, moved, mask), mask) for fixed, moved, mask in found]
        return {
            "ncc": self._correlation(found),
            "mi": float(np.nan_to_num(mutual_information(*self._together(found)))),
            "ssim": float(np.nan_to_num(np.nanmedian(structural))),
        }

    def read_pairs(self, transform: Transform, channel: int = 0) -> Iterator[WindowPair]:
        """Yield the windows of a channel that have enough valid samples in common."""
        mapped = PixelMap.from_grids(self.fixed, self.moving, transform)
        for probe in self.windows:
            values, known = warp_window(probe.read, mapped, probe.rows, probe.cols)
            moved, seen = values[channel], known[0]
            mask = probe.fixed.valid & seen
            if mask.mean() >= LEAST_VALID:
                yield probe.fixed.values[channel], moved, mask

    @staticmethod
    def _correlation(found: list[WindowPair]) -> float:
        values = np.abs([ncc(*pair) for pair in found])
        return 0.0 if np.isnan(values).all() else float(np.nanmedian(values))

    @staticmethod
    def _together(found: list[WindowPair]) -> tuple[Array, Array]:
        ones, others = ([pair[k][pair[2]] for pair in found] for k in (0, 1))
        return np.concatenate(ones), np.concatenate(others)


def _read(
    fixed: Image, moving: Image, initial: Transform, middle: NDArray[Any], size: NDArray[np.int64]
) -> ComparisonWindow | None:
    """Read the window of so many pixels around a place; None where one of the scenes has too little there."""
    corner = np.clip(np.round(middle - size / 2), 0, np.array(fixed.grid.size) - size).astype(np.int64)
    rows, cols = _slices(corner, corner + size)
    here = read_block(fixed, rows, cols)
    if here.valid.mean() < LEAST_VALID:
        return None
    corners = corner + np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * (size - 1)
    there = moving.grid.to_index(initial.apply(fixed.grid.to_world(corners)))
    first = np.floor(there.min(axis=0)).astype(np.int64) - SLACK_PX
    last = np.ceil(there.max(axis=0)).astype(np.int64) + SLACK_PX
    block = read_block(moving, *_slices(first, last + 1))
    # Of a scene smaller than the slack, no more can be valid than there is.
    if block.valid.sum() < LEAST_VALID / 4 * min(block.valid.size, int(np.prod(moving.grid.shape))):
        return None
    held = Image(block.values, Grid(block.valid.shape, np.eye(3)), block.valid)
    return ComparisonWindow(here, rows, cols, held, (int(first[1]), int(first[0])))


def _without_surroundings(probe: ComparisonWindow) -> ComparisonWindow | None:
    """Leave plain surroundings out of a window; None where too little is left.

    Two fields of view that have the same outline are most alike where the outlines lie on each other,
    whatever they show.
    """
    block = probe.fixed
    image = Image(block.values, Grid(block.valid.shape, np.eye(3)), block.valid)
    assert probe.moving.mask is not None
    valid, seen = (
        block.valid & ~find_plain_surroundings(image),
        probe.moving.mask & ~find_plain_surroundings(probe.moving),
    )
    if valid.mean() < LEAST_VALID or seen.mean() < LEAST_VALID / 4:
        return None
    return replace(
        probe, fixed=block._replace(valid=valid), moving=Image(probe.moving.data, probe.moving.grid, seen)
    )


def _slices(first: NDArray[np.int64], last: NDArray[np.int64]) -> tuple[slice, slice]:
    return slice(int(first[1]), int(last[1])), slice(int(first[0]), int(last[0]))


def _like(fixed: Array, moved: Array, mask: Array) -> Array:
    """Return a window with the mean and the spread of another."""
    spread = float(moved[mask].std())
    gain = float(fixed[mask].std()) / spread if spread > 0 else 0.0
    return np.asarray(fixed[mask].mean() + gain * (moved - moved[mask].mean()))
