"""What a page on two scenes shows: a few windows at full resolution, and the whole scene, small."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regflow.core.block_source import Block
from regflow.core.blocks import decimate_data, load_block, read_block
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Transform
from regflow.core.warp import PixelMap, warp_window

LAYERS = {
    "fixed": "Reference",
    "start": "Moving, as its georeference places it",
    "initialize": "Moving, after the initial transform",
    "refine": "Moving, registered",
}
"""The pictures that are laid over one another, by the state of the moving scene."""

WINDOW_PX = 224
"""Side of a window at full resolution."""
OVERVIEW_PX = 900
"""Longer side of the overview."""
NEIGHBORS = 5
"""Check points around a place whose median residual ranks it: one bad match is no bad place."""


@dataclass(frozen=True, eq=False)
class DetailWindow:
    """One place at full resolution.

    Attributes:
        title: why it is shown.
        rows: of the fixed scene's working grid.
        cols: likewise.
        layers: ``(h, w)`` float32 by the name of the state; NaN where there is nothing.
        residual_px: of the check points around its middle, NaN without any.
    """

    title: str
    rows: slice
    cols: slice
    layers: Mapping[str, NDArray[np.float32]]
    residual_px: float = float("nan")


@dataclass(frozen=True, eq=False)
class Overview:
    """The fixed scene, small.

    Attributes:
        image: ``(1, H, W)`` with its mask, in memory.
        scale: pixels of the working grid per pixel of the overview, along x and y.
        full: the working grid.
    """

    image: Image
    scale: tuple[float, float]
    full: Grid

    def place(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return where world points ``(N, 2)`` lie in the picture, from its upper left corner."""
        return np.asarray(self.image.grid.to_index(points) + 0.5)


def read_overview(fixed: Image, largest: int = OVERVIEW_PX) -> Overview:
    """Read a scene, averaged so that its longer side is at most ``largest`` pixels."""
    factor = max(1.0, max(fixed.grid.shape) / largest)
    spacing = float(fixed.grid.spacing.max()) * factor
    small = load_block(decimate_data(fixed, spacing))
    across = small.grid.spacing / fixed.grid.spacing
    return Overview(small, (float(across[0]), float(across[1])), fixed.grid)


def choose_windows(
    fixed: Image,
    moving: Image,
    transforms: Mapping[str, Transform],
    points: NDArray[np.float64],
    residuals_px: NDArray[np.float64],
) -> list[DetailWindow]:
    """Return the worst, the median and the best place by the check points around each.

    Args:
        fixed: the fixed scene at working resolution.
        moving: the moving scene.
        transforms: fixed to moving, by the name of the state.
        points: ``(N, 2)`` world points of the check points that count.
        residuals_px: ``(N,)`` what is left at each.
    """
    maps = list_maps(fixed, moving, transforms)
    places = _ranked(fixed.grid.to_index(points), residuals_px) if len(points) else [_middle(fixed.grid)]
    return [
        DetailWindow(title, *box, read_layers(fixed, moving, maps, *box), value)
        for title, middle, value in places
        for box in [place_box(fixed.grid.shape, middle)]
    ]


def read_layers(
    fixed: Image, moving: Image, maps: Mapping[str, PixelMap], rows: slice, cols: slice
) -> dict[str, NDArray[np.float32]]:
    """Return a window of the fixed scene and of the moving one at each state, ``(h, w)`` float32."""
    found = {"fixed": _shown(read_block(fixed, rows, cols))}
    return found | {name: move_window(moving, mapped, rows, cols) for name, mapped in maps.items()}


def list_maps(fixed: Image, moving: Image, transforms: Mapping[str, Transform]) -> dict[str, PixelMap]:
    """Return where each state has the pixels of the fixed scene in the moving one."""
    return {name: PixelMap.from_grids(fixed.grid, moving.grid, made) for name, made in transforms.items()}


def move_window(moving: Image, mapped: PixelMap, rows: slice, cols: slice) -> NDArray[np.float32]:
    """Return the moving scene on a window of the fixed one, by cubic convolution; NaN outside it."""

    def read(rows: slice, cols: slice) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        block = read_block(moving, rows, cols)
        return block.values, np.broadcast_to(block.valid, block.values.shape)

    values, _ = warp_window(read, mapped, rows, cols, fill=(float("nan"),))
    return np.asarray(values[0])


def place_box(shape: Sequence[int], middle: NDArray[np.float64]) -> tuple[slice, slice]:
    """Return the rows and columns of a window around a place (x, y), moved inside the scene."""
    slices = []
    for size, center in zip(shape, middle[::-1], strict=True):
        side = min(WINDOW_PX, size)
        start = int(np.clip(round(float(center) - side / 2), 0, size - side))
        slices.append(slice(start, start + side))
    return slices[0], slices[1]


def _ranked(
    places: NDArray[np.float64], residuals: NDArray[np.float64]
) -> list[tuple[str, NDArray[np.float64], float]]:
    """Return the title, the place and the residual of the worst, median and best neighborhood."""
    from scipy.spatial import cKDTree

    count = min(NEIGHBORS, len(places))
    _, near = cKDTree(places).query(places, k=count)
    local = np.median(residuals[np.reshape(near, (len(places), count))], axis=1)
    order = np.argsort(local, kind="stable")
    chosen = {"Worst window": order[-1], "Median window": order[len(order) // 2], "Best window": order[0]}
    return [(title, places[k], float(local[k])) for title, k in chosen.items()]


def _middle(grid: Grid) -> tuple[str, NDArray[np.float64], float]:
    return "Middle of the scene", (np.array(grid.size, float) - 1) / 2, float("nan")


def _shown(block: Block) -> NDArray[np.float32]:
    return np.where(block.valid, block.values[0], np.float32(np.nan))
