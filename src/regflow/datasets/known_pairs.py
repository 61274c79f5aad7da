"""Pairs of known truth, made from a pair of images: the fixed one, moved and with the other's contrast."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from regflow.core.extent import measure_longest_side
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine, Points, Transform

BINS = 64
"""Intensities of the fixed image for which it is measured how bright the moving one is there."""
FEWEST_SAMPLES = 2000
"""Fewer common samples than this tell no contrast."""
MOST_NOISE = 0.05
"""Of the range of intensities: what varies more from sample to sample is no noise."""
POINTS = 4000
"""At which the distance to the truth is measured."""
SCENE_SIDE = 1024
"""Pixels along a side of a scene from which pairs are made; of a larger one a window is taken."""
SLAB_POINTS = 1 << 21
TURN_PER_PIXEL = 0.2
"""Degrees by which a scene is turned for each pixel of its shift."""

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class KnownMotion:
    """How the fixed image was moved.

    Attributes:
        name: tells what and how far.
        kind: ``moved`` (turned and shifted) or ``warped``.
        back: from moving to fixed world points.
    """

    name: str
    kind: str
    back: Transform


def draw_motions(grid: Grid, moved: Sequence[float], warped: Sequence[float], seed: int) -> list[KnownMotion]:
    """Draw the motions of a comparison.

    Args:
        grid: of the fixed image.
        moved: of volumes millimeters of a shift, and as many degrees of a turn about an oblique axis; of
            scenes pixels of a shift, and :data:`TURN_PER_PIXEL` degrees for each.
        warped: the longest displacement of a smooth deformation, mm or pixels.
        seed: of directions and deformations.
    """
    unit = "mm" if grid.ndim == 3 else "px"
    draw, warp = (_draw_pose, _draw_warp) if grid.ndim == 3 else (_draw_turn, _draw_waves)
    found = [
        KnownMotion(f"moved {size:g} {unit}", "moved", draw(grid, size, seed + number))
        for number, size in enumerate(moved)
    ]
    return found + [
        KnownMotion(f"warped {size:g} {unit}", "warped", warp(grid, size, seed + number))
        for number, size in enumerate(warped)
    ]


def fit_contrast(fixed: Array, warped: Array, inside: NDArray[np.bool_]) -> tuple[Array, Array] | None:
    """Measure how bright the moving image is where the fixed one has an intensity.

    Args:
        fixed: samples.
        warped: those of the moving image, brought onto the fixed one.
        inside: which of them show both.

    Returns:
        Intensities of the fixed image, increasing, and those of the moving one there; None where too little
        is common to both.
    """
    before, after = fixed[inside].astype(np.float64), warped[inside].astype(np.float64)
    if before.size < FEWEST_SAMPLES or np.ptp(before) == 0:
        return None
    edges = np.unique(np.quantile(before, np.linspace(0, 1, BINS + 1)))
    number = np.clip(np.searchsorted(edges, before, side="right") - 1, 0, len(edges) - 2)
    count = np.bincount(number, minlength=len(edges) - 1)
    some = count > 0
    places, means = (
        np.bincount(number, values, len(count))[some] / count[some] for values in (before, after)
    )
    return places.astype(np.float32), means.astype(np.float32)


def measure_noise(values: Array, inside: NDArray[np.bool_]) -> float:
    """Return how much samples vary from one to the next, at most :data:`MOST_NOISE` of the range.

    By second differences along the last axis, which a smooth course does not reach.
    """
    bends = values[..., :-2] - 2 * values[..., 1:-1] + values[..., 2:]
    known = inside[..., :-2] & inside[..., 1:-1] & inside[..., 2:]
    if not known.any():
        return 0.0
    sigma = float(1.4826 * np.median(np.abs(bends[known])) / np.sqrt(6))
    low, high = np.percentile(values[inside], (1, 99))
    return min(sigma, MOST_NOISE * float(high - low))


def move_image(
    image: Image, back: Transform, contrast: tuple[Array, Array] | None, noise: float, seed: int
) -> Image:
    """Return the moving image of a pair of known truth, on the fixed image's grid.

    Args:
        image: the fixed image, one channel; its mask says where it shows something.
        back: from moving to fixed world points.
        contrast: of :func:`fit_contrast`; the image's own when None.
        noise: standard deviation, in units of the samples.
        seed: of the noise.

    Returns:
        Float32 samples by cubic splines and a mask; outside of the mask the image's least value.
    """
    from scipy.ndimage import map_coordinates, spline_filter

    values = image.channel.astype(np.float32)
    seen = np.ones(image.grid.shape, bool) if image.mask is None else image.mask
    splines = spline_filter(values, order=3, mode="nearest", output=np.float32)
    moved, mask = np.empty_like(values), np.empty_like(seen)
    for rows in _slabs(image.grid.shape):
        index = image.grid.to_index(back.apply(image.grid.to_world(_indices(image.grid.shape, rows))))
        where = index[:, ::-1].T
        shape = (rows.stop - rows.start, *image.grid.shape[1:])
        line = map_coordinates(splines, where, order=3, prefilter=False, mode="nearest")
        moved[rows] = line.reshape(shape)
        mask[rows] = map_coordinates(seen.astype(np.float32), where, order=1).reshape(shape) >= 0.5
    if contrast is not None:
        moved = np.interp(moved, *contrast).astype(np.float32)
    moved += np.random.default_rng(seed).normal(0, noise, moved.shape).astype(np.float32)
    outside = float(moved[mask].min()) if mask.any() else 0.0
    return Image(np.where(mask, moved, np.float32(outside))[None], image.grid, mask)


def draw_partners(image: Image, back: Transform, seed: int) -> tuple[Points, Points]:
    """Return points of the fixed image and where they lie in the moving one, drawn where both show something.

    Args:
        image: the fixed image, with its mask.
        back: from moving to fixed world points.
        seed: of the draw.

    Returns:
        ``(N, d)`` world points of each, :data:`POINTS` of them at most.
    """
    grid, rng = image.grid, np.random.default_rng(seed)
    seen = np.ones(grid.shape, bool) if image.mask is None else image.mask
    # The moving image lies on the fixed one's grid, and what is moved far from it is lost.
    chosen = rng.integers(0, np.array(grid.size), (40 * POINTS, grid.ndim))
    moving = grid.to_world(chosen + rng.uniform(-0.5, 0.5, chosen.shape))
    fixed = back.apply(moving)
    index = np.rint(grid.to_index(fixed)).astype(int)
    inside: NDArray[np.bool_] = np.all((index >= 0) & (index < np.array(grid.size)), axis=1)
    inside[inside] = seen[tuple(index[inside].T[::-1])]
    return fixed[inside][:POINTS], moving[inside][:POINTS]


def measure_distances(transform: Transform, fixed: Points, moving: Points) -> Mapping[str, float]:
    """Return mean, 95th percentile and largest distance of a transform to the truth, in world units."""
    apart = np.linalg.norm(transform.apply(fixed) - moving, axis=1)
    return {
        "mean": float(apart.mean()),
        "p95": float(np.percentile(apart, 95)),
        "largest": float(apart.max()),
    }


def choose_window(mask: NDArray[np.bool_], side: int = SCENE_SIDE) -> tuple[slice, slice]:
    """Return the window of a scene, at most ``side`` pixels along each side, in which most is seen."""
    height, width = mask.shape
    starts = [
        sorted({*range(0, max(1, n - side + 1), max(1, side // 2)), max(0, n - side)}) for n in mask.shape
    ]
    windows = [
        (slice(row, min(height, row + side)), slice(column, min(width, column + side)))
        for row in starts[0]
        for column in starts[1]
    ]
    return max(windows, key=lambda window: int(mask[window].sum()))


def crop_image(image: Image, window: tuple[slice, slice]) -> Image:
    """Return a window of a 2-D image in memory."""
    rows, columns = window
    affine = image.grid.affine.copy()
    affine[:2, 2] = image.grid.to_world([[columns.start, rows.start]])[0]
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    mask = None if image.mask is None else image.mask[window]
    return Image(np.asarray(image.data[:, rows, columns]), Grid(shape, affine, image.grid.crs), mask)


def write_known_pair(
    folder: str | Path, fixed: Image, moving: Image, points: tuple[Points, Points]
) -> dict[str, Any]:
    """Write a pair of known truth into a folder; return its files by name."""
    from regflow.io.raster_files import write_raster
    from regflow.io.volumes import write_volume

    folder, names = Path(folder), {}
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in (("fixed", fixed), ("moving", moving)):
        if image.grid.ndim == 3:
            path = folder / f"{name}.nii.gz"
            write_volume(path, image.channel.astype(np.float32), image.grid)
        else:
            path = folder / f"{name}.tif"
            values = image.data.astype(np.float32)
            if image.mask is not None:
                values = np.where(image.mask, values, np.float32(np.nan))
            write_raster(path, values, image.grid, nodata=float("nan"))
        names[name] = str(path)
    np.savez(folder / "truth.npz", fixed=points[0], moving=points[1])
    return {**names, "truth": str(folder / "truth.npz")}


def _draw_pose(grid: Grid, size: float, seed: int) -> Affine:
    """Return a turn by as many degrees as the shift has millimeters."""
    rng = np.random.default_rng(seed)
    axis, shift = (vector / np.linalg.norm(vector) for vector in rng.normal(size=(2, 3)))
    turn = Rotation.from_rotvec(axis * np.deg2rad(size)).as_matrix()
    return Affine.from_parts(turn, shift * size, grid.center)


def _draw_turn(grid: Grid, size: float, seed: int) -> Affine:
    from regflow.datasets.modalities import make_linear_truth

    angle = np.random.default_rng(seed).uniform(0, 2 * np.pi)
    shift = size * np.array([np.cos(angle), np.sin(angle)])
    return make_linear_truth(grid, shift, TURN_PER_PIXEL * size)


def _draw_warp(grid: Grid, size: float, seed: int) -> Transform:
    """Return a deformation as smooth as it has to be not to fold."""
    from regflow.datasets.subjects import draw_warp

    smoothness = max(2.5 * size, measure_longest_side(grid) / 12)
    while True:
        try:
            return draw_warp(grid, size, smoothness, seed)[0]
        except ValueError:
            smoothness *= 1.25


def _draw_waves(grid: Grid, size: float, seed: int) -> Transform:
    from regflow.datasets.scenes import draw_waves

    wavelength = max(20 * size, min(grid.shape) / 4)
    while True:
        try:
            return draw_waves(grid, size, wavelength, seed)
        except ValueError:
            wavelength *= 1.25


def _slabs(shape: Sequence[int]) -> list[slice]:
    rows = max(1, SLAB_POINTS // int(np.prod(shape[1:])))
    return [slice(start, min(start + rows, shape[0])) for start in range(0, shape[0], rows)]


def _indices(shape: Sequence[int], rows: slice) -> NDArray[np.float64]:
    """Return the indices of a slab's samples, x first, ``(N, d)``."""
    axes = [np.arange(rows.start, rows.stop), *(np.arange(n) for n in shape[1:])]
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")][::-1], axis=1).astype(float)
