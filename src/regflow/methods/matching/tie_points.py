"""Tie points: where they are laid, and how each is matched between two scenes."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.blocks import read_block
from regflow.core.chunks import map_blocks
from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Transform
from regflow.methods.context import RunContext, open_run_workers
from regflow.methods.matching.neighbors import normalized_median_test
from regflow.methods.matching.tie_point_set import REASONS, TiePoints, judge_matches

Array = NDArray[Any]
POINTS_PER_TILE = 64
TILE_PX = (256, 2048)
"""Least and greatest side of the squares of the fixed scene whose points are matched together, by the
same windows read of the scenes. No result depends on it."""
LEAST_TILE_PX = 32
"""Side that a small memory may ask for: about one point a tile."""
BYTES_PER_PIXEL = 15
"""Of the windows read for a tile: float32 pixels and their validity, and as much again twice while a lazy
scene reads, converts and masks them."""
MOST_ALONG = 55
"""Points along the longer side where the spacing is chosen."""
LEAST_SPACING_PX = 64
LEAST_ALONG = 8
COARSEST = ((4, 384), (2, 128))
"""Pixels per sample of the search, and the least shortest side of a scene for it; else 1."""
DIRECTIONS = 6
"""Channels of oriented gradients."""
SMOOTHING_PX = 0.5
"""Of the samples, before they are compared or their gradients are taken."""
CHANNEL_SMOOTHING_PX = 1.0
"""Of the channels of oriented gradients."""
SPLINE_REACH = 8
"""Taps of the cubic B-spline's prefilter on each side: the next is below 3e-5."""
CONVINCING_CORRELATION = 0.8
CONVINCING_SHARE = 0.7
"""Nothing further is tried when the median correlation and the share of points
that count are above these."""
CHANNELS = ("intensity", "inverted", "gradients")
"""What can be compared, in the order in which it is tried: where all work the first is the most exact."""
GRADIENTS_GAIN = 1.25
"""Times as many points that a later one must match to be preferred."""


@dataclass(frozen=True, eq=False)
class TiePointTile:
    """Points that are matched together, and the windows of the scenes that they need."""

    fixed: Image
    moving: Image
    points: Array
    guesses: Array
    jacobians: Array
    plan: Array
    channels: int
    reach: int
    inverted: bool = False


def lay_points(fixed: Grid, moving: Grid, initial: Transform, options: Mapping[str, Any]) -> Array:
    """Return a regular grid of whole pixels ``(N, 2)`` over the part of the fixed scene that is seen.

    Raises:
        RegistrationError: the scenes do not overlap.
    """
    low, high = find_overlap(fixed, moving, initial)
    size = high - low + 1
    spacing = options["spacing_px"] or choose_spacing(size)
    counts = np.maximum(np.round(size / spacing), 1).astype(int)
    axes = [low[k] + np.floor((np.arange(counts[k]) + 0.5) * size[k] / counts[k]) for k in (0, 1)]
    return np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)


def choose_spacing(size: Array) -> float:
    """Return the distance of points for a scene of so many pixels along x and y."""
    longest = float(max(size))
    return longest / min(max(longest / LEAST_SPACING_PX, LEAST_ALONG), MOST_ALONG)


def find_overlap(fixed: Grid, moving: Grid, initial: Transform) -> tuple[Array, Array]:
    """Return the first and last pixel ``(x, y)`` of the fixed scene's box that the moving one covers.

    Raises:
        RegistrationError: there is none.
    """
    size = np.array(fixed.size)
    ticks = [np.linspace(0, n - 1, 65) for n in size]
    lattice = np.stack(np.meshgrid(*ticks), axis=-1).reshape(-1, 2)
    there = moving.to_index(initial.apply(fixed.to_world(lattice)))
    seen = lattice[((there >= -0.5) & (there <= np.array(moving.size) - 0.5)).all(axis=1)]
    if len(seen) == 0:
        raise RegistrationError("tie-points: the initial transform leaves the scenes without overlap")
    # Between the lattice's points the border is a step farther out.
    step = (size - 1) / 64
    return np.maximum(np.floor(seen.min(0) - step), 0), np.minimum(np.ceil(seen.max(0) + step), size - 1)


def match_tie_points(
    fixed: Image,
    moving: Image,
    initial: Transform,
    points: Array,
    options: Mapping[str, Any],
    context: RunContext,
) -> TiePoints:
    """Match points ``(N, 2)`` of the fixed scene; by what ``options["channels"]`` says.

    With ``auto`` by what matches most: intensities, those of the inverted moving scene, which noise
    harms less than gradients, or gradients.
    """
    wanted = options["channels"]
    names = CHANNELS if wanted == "auto" else (wanted,)
    best: TiePoints | None = None
    for name in names:
        found = _match_by(fixed, moving, initial, points, options, name, context)
        if best is None or found.is_used.sum() > GRADIENTS_GAIN * best.is_used.sum():
            best = found
        if _convincing(best):
            break
    assert best is not None
    return best


def _convincing(found: TiePoints) -> bool:
    seen = np.not_equal(found.reason, REASONS.index("no data"))
    if not seen.any():
        return True
    correlation = float(np.median(np.nan_to_num(found.measures["zncc"][seen])))
    share = float(found.is_used[seen].mean())
    return correlation >= CONVINCING_CORRELATION and share >= CONVINCING_SHARE


def _match_by(
    fixed: Image,
    moving: Image,
    initial: Transform,
    points: Array,
    options: Mapping[str, Any],
    channels: str,
    context: RunContext,
) -> TiePoints:
    """Match points with one kind of channels, tile by tile."""
    from regflow.methods.matching.tie_point_windows import COLUMNS

    guesses, jacobians = linearize_map(fixed.grid, moving.grid, initial, points)
    plan = _plan(options, fixed.grid)
    directions = DIRECTIONS if channels == "gradients" else 0
    reach = _reach(plan, directions)

    def tile_of(chosen: Array) -> TiePointTile:
        part = (points[chosen], guesses[chosen], jacobians[chosen])
        return TiePointTile(fixed, moving, *part, plan, directions, reach, channels == "inverted")

    rows = np.full((len(points), len(COLUMNS)), np.nan)
    with open_run_workers(context) as workers:
        order = split_tiles(points, tile_of, workers.memory)
        tiles = [tile_of(chosen) for chosen in order]
        size = max(count_tile_bytes(tile) for tile in tiles)
        parts = map_blocks(match_tile, tiles, workers, describe="tie points", item_bytes=size)
        for chosen, filled in zip(order, parts, strict=True):
            rows[chosen] = filled
    found = judge_matches(
        points,
        rows,
        COLUMNS,
        {**options, "window_px": 2 * int(plan[2, 0]) + 1, "search_window": 2 * int(plan[0, 0]) + 1},
        channels,
    )
    reason = found.reason.copy()
    kept = np.flatnonzero(found.is_used)
    if len(kept):
        reason[kept[normalized_median_test(points[kept], found.shifts[kept])]] = REASONS.index("neighbors")
    return replace(found, reason=reason)


def linearize_map(fixed: Grid, moving: Grid, initial: Transform, points: Array) -> tuple[Array, Array]:
    """Return where points ``(N, 2)`` of the fixed pixels lie in the moving ones, and the Jacobians there."""

    def there(pixels: Array) -> Array:
        return moving.to_index(initial.apply(fixed.to_world(pixels)))

    reach = 8.0
    across, down = np.array([reach, 0.0]), np.array([0.0, reach])
    columns = [(there(points + way) - there(points - way)) / (2 * reach) for way in (across, down)]
    return there(points), np.ascontiguousarray(np.stack(columns, axis=-1))


def match_tile(tile: TiePointTile) -> Array:
    """Return the rows of ``match_windows`` for one tile's points."""
    from regflow.methods.matching.tie_point_windows import COLUMNS, match_windows

    rows = np.full((len(tile.points), len(COLUMNS)), np.nan)
    windows = _windows(tile)
    sources = _block(tile.fixed, *windows[0]), _block(tile.moving, *windows[1])
    if tile.inverted:
        values, valid, first = sources[1]
        sources = sources[0], (-values, valid, first)
    if all(source[1].any() for source in sources):
        taps = (
            make_gaussian_taps(SMOOTHING_PX),
            make_gaussian_taps(CHANNEL_SMOOTHING_PX),
            make_spline_taps(),
        )
        recipe = (tile.plan, tile.channels, *taps)
        match_windows(*sources, tile.points, tile.guesses, tile.jacobians, recipe, rows)
    return rows


def count_tile_bytes(tile: TiePointTile) -> int:
    """Return the memory that matching a tile takes: its windows of both scenes."""
    sizes = [np.maximum(last - first, 0) for first, last in _windows(tile)]
    return int(sum(BYTES_PER_PIXEL * int(size.prod()) for size in sizes)) + BYTES_PER_PIXEL


def split_tiles(
    points: Array, tile_of: Callable[[Array], TiePointTile], memory: int
) -> list[NDArray[np.int64]]:
    """Return the indices of the points of each tile, tiles so small that any one fits into the memory.

    What one point needs is read even where the memory is less.
    """
    area = float(np.prod(np.ptp(points, axis=0) + 1))
    side = float(np.clip(math.sqrt(POINTS_PER_TILE * area / len(points)), *TILE_PX))
    while True:
        order = list(_tiles(points, side))
        if side <= LEAST_TILE_PX or max(count_tile_bytes(tile_of(chosen)) for chosen in order) <= memory:
            return order
        side /= 2


def make_gaussian_taps(sigma: float) -> NDArray[np.float32]:
    """Return one side of a Gaussian's taps, the middle first."""
    taps = np.exp(-0.5 * (np.arange(math.ceil(3 * sigma) + 1) / sigma) ** 2)
    return (taps / (taps[0] + 2 * taps[1:].sum())).astype(np.float32)


def make_spline_taps() -> NDArray[np.float32]:
    """Return one side of the taps that turn samples into cubic B-spline coefficients."""
    pole = math.sqrt(3.0) - 2.0
    taps = pole ** np.arange(SPLINE_REACH + 1)
    return (taps / (taps[0] + 2 * taps[1:].sum())).astype(np.float32)


def _plan(options: Mapping[str, Any], fixed: Grid) -> NDArray[np.int64]:
    """Return radius in samples, pixels per sample and farthest shift of the search and the alignments."""
    shortest = min(fixed.shape)
    radius = min(int(options["window_px"]) // 2, max(shortest // 6, 6))
    step = next((step for step, least in COARSEST if shortest >= least), 1)
    # A search much wider than a small scene would find no window inside it.
    most = min(math.ceil(options["search_px"] / step), max(shortest // (8 * step), 3))
    half = min(step, 2)
    wide = math.ceil(4 * radius / (3 * step))
    return np.array([[max(wide, 4), step, most], [max(radius // half, 6), half, 0], [radius, 1, 0]])


def _reach(plan: Array, directions: int) -> int:
    """Return how far from a point, in pixels, its windows may reach into the other scene."""
    from regflow.methods.matching.tie_point_windows import SLACK

    around = math.ceil(3 * SMOOTHING_PX)
    around += math.ceil(3 * CHANNEL_SMOOTHING_PX) + 1 if directions else 0
    (radius, step, most), *finer = plan.tolist()
    far = step * (most + 1)
    wide = [step * (radius + most + around + 2)]
    wide += [side * (half + SLACK + SPLINE_REACH + around + 2) for half, side, _ in finer]
    return int(far + 2 * SLACK + max(wide))


def _tiles(points: Array, side: float) -> Iterator[NDArray[np.int64]]:
    """Yield the indices of the points of each square tile, tiles in rows from the top."""
    tile = np.floor((points[:, ::-1] - points[:, ::-1].min(axis=0)) / side).astype(np.int64)
    keys = tile[:, 0] * (tile[:, 1].max() + 1) + tile[:, 1]
    order = np.argsort(keys, kind="stable")
    _, starts = np.unique(keys[order], return_index=True)
    yield from np.split(order, starts[1:])


def _windows(tile: TiePointTile) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Return the first pixel ``(x, y)`` and the end of what a tile reads of either scene."""
    stretch = np.abs(tile.jacobians).sum(axis=2).max(axis=0)
    return (
        _box(tile.fixed, tile.points, np.full(2, tile.reach)),
        _box(tile.moving, tile.guesses, np.ceil(stretch * tile.reach)),
    )


def _box(image: Image, places: Array, reach: Array) -> tuple[Array, Array]:
    first = np.floor(places.min(axis=0) - reach - 2).astype(int)
    last = np.ceil(places.max(axis=0) + reach + 3).astype(int)
    return np.maximum(first, 0), np.minimum(last, image.grid.size)


def _block(image: Image, first: Array, last: Array) -> tuple[Array, Array, Array]:
    """Read the first channel of a window; an empty block where that is outside."""
    if (first >= last).any():
        return np.zeros((1, 1), np.float32), np.zeros((1, 1), bool), np.zeros(2, np.int64)
    block = read_block(image, slice(int(first[1]), int(last[1])), slice(int(first[0]), int(last[0])))
    # A view, or an array to be read only, would have the kernels compiled anew for more than a minute.
    values, valid = (np.require(part, requirements=["C", "W"]) for part in (block.values[0], block.valid))
    return values, valid, first[::-1].astype(np.int64)
