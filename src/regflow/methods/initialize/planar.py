"""Pictures for the initializers of rasters: one channel with its mask, at any spacing, through any map.

A *picture* is a 2-D :class:`~regflow.core.image.Image` of one float32 channel whose mask is never
None. Maps between planes are homogeneous ``(3, 3)`` matrices, so that an affine and a homography
are handled alike.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.resample import compute_antialias_sigma
from regflow.core.transform import Affine, Composite, Homography, Transform

Matrix = NDArray[np.float64]
Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]

LARGEST_CANVAS = 3
"""Sides of a moving picture at most, in those of the fixed one, before its pixels are made larger."""
SAME_PLACE = 1e-9
"""Largest difference of a map of indices from the identity at which pixels are taken as they are."""
HALF = 0.5 - 1e-4
"""Share of a larger pixel that must be valid, less what float32 may lose of it."""
MOSTLY = 0.6
"""Of the fixed picture: where the moving one covers as much, the whole of it is looked at."""
OVERLAP_MARGIN = 16
"""Pixels around an overlap, for what a map may still be moved by."""
LEFTOVER = 1.2
"""Shrinking by less than this needs no filter of its own: next to nothing aliases."""


def masked_image(image: Image, role: str) -> Image:
    """Return the first channel as float32 with the mask of the samples that are finite and may steer.

    Raises:
        RegistrationError: nothing is valid, or all that is has one value.
    """
    values = np.asarray(image.channel, dtype=np.float32)
    valid = np.isfinite(values)
    if image.mask is not None:
        valid &= image.mask
    inside = values[valid]
    if inside.size == 0:
        raise RegistrationError(f"the {role} image has no valid pixel")
    if not float(np.ptp(inside)) > 0:
        raise RegistrationError(f"the {role} image is constant where it is valid")
    # Invalid pixels must not disturb filters; a middle value does least.
    filled = values if valid.all() else np.where(valid, values, np.float32(np.median(inside)))
    return Image(filled[None], image.grid, valid, modality=image.modality)


def lacks_georeference(image: Image) -> bool:
    """Tell whether a picture's coordinates are but its pixels, so that where it starts means nothing."""
    return image.grid.crs is None


def find_matrix(transform: Transform) -> Matrix:
    """Return the homogeneous matrix of an affine, a homography, or a chain of them.

    Raises:
        RegistrationError: the transform is not linear.
    """
    if isinstance(transform, Composite):
        whole = np.eye(3)
        for part in transform.parts:
            whole = find_matrix(part) @ whole
        return whole
    if isinstance(transform, Affine) and transform.ndim == 2:
        return np.array(transform.matrix)
    if isinstance(transform, Homography):
        middle = np.array(transform.center)
        return np.asarray(_shift(middle) @ transform.matrix @ _shift(-middle))
    raise RegistrationError("the transform to start from is neither affine nor a homography")


def make_transform(matrix: ArrayLike, center: ArrayLike) -> Affine | Homography:
    """Return the affine, or the homography about ``center`` where the last row is not ``(0, 0, 1)``."""
    given = np.asarray(matrix, dtype=np.float64)
    scaled = np.asarray(given / given[2, 2])
    if np.all(scaled[2, :2] == 0):
        return Affine(scaled)
    x, y = (float(value) for value in np.asarray(center))
    middle = np.array([x, y])
    return Homography(_shift(-middle) @ scaled @ _shift(middle), (x, y))


def _shift(offset: NDArray[np.float64]) -> Matrix:
    matrix = np.eye(3)
    matrix[:2, 2] = offset
    return matrix


def shift_map(grid: Grid, matrix: Matrix, pixels: NDArray[np.float64]) -> Matrix:
    """Return a map after a shift by pixels of the fixed grid."""
    step = np.eye(3)
    step[:2, 2] = grid.affine[:2, :2] @ pixels
    return np.asarray(matrix @ step)


def map_points(matrix: Matrix, points: ArrayLike) -> NDArray[np.float64]:
    """Map points ``(N, 2)``."""
    points = np.asarray(points, dtype=np.float64)
    homogeneous = points @ matrix[:, :2].T + matrix[:, 2]
    return np.asarray(homogeneous[..., :2] / homogeneous[..., 2:])


def linearize_at(matrix: Matrix, point: ArrayLike) -> NDArray[np.float64]:
    """Return the ``(2, 2)`` derivative of a map at a point."""
    point = np.asarray(point, dtype=np.float64)
    w = float(matrix[2, :2] @ point + matrix[2, 2])
    place = map_points(matrix, point[None])[0]
    return np.asarray((matrix[:2, :2] - np.outer(place, matrix[2, :2])) / w)


def find_corners(grid: Grid) -> NDArray[np.float64]:
    """Return the world positions of the centers of the four corner pixels, ``(4, 2)``."""
    width, height = grid.size
    return grid.to_world([(0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)])


def find_extent(fixed: Grid, matrix: Matrix, moving: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the box ``(low, high)`` that an image fills in ``(x, y)`` indices of the fixed grid."""
    places = fixed.to_index(map_points(np.asarray(np.linalg.inv(matrix), np.float64), find_corners(moving)))
    return places.min(axis=0), places.max(axis=0)


def crop_to_overlap(fixed: Image, moving: Grid, matrix: Matrix) -> Image:
    """Return the part of a fixed picture in which the moving one lies, as a map has it.

    What is spread evenly over a picture of which the other covers a corner would miss that corner.

    Args:
        fixed: a picture.
        moving: the grid of the moving picture.
        matrix: from fixed to moving world points.

    Returns:
        The picture itself where the moving one covers most of it, or nothing.
    """
    size = np.array(fixed.grid.size)
    low, high = find_extent(fixed.grid, matrix, moving)
    low = np.maximum(np.floor(low) - OVERLAP_MARGIN, 0).astype(int)
    high = np.minimum(np.ceil(high) + OVERLAP_MARGIN + 1, size).astype(int)
    if (high <= low).any() or np.prod((high - low) / size) > MOSTLY:
        return fixed
    columns, rows = (slice(int(first), int(last)) for first, last in zip(low, high, strict=True))
    affine = fixed.grid.affine.copy()
    affine[:2, 2] = fixed.grid.to_world(low)
    data = np.ascontiguousarray(fixed.data[:, rows, columns])
    mask = None if fixed.mask is None else np.ascontiguousarray(fixed.mask[rows, columns])
    if mask is not None and not mask.any():
        return fixed
    grid = Grid(data.shape[1:], affine, fixed.grid.crs)
    return Image(data, grid, mask, modality=fixed.modality)


def index_transform(source: Grid, target: Grid, matrix: Matrix) -> Matrix:
    """Return the map from target indices to source indices of a map from target to source world."""
    return np.asarray(np.linalg.inv(source.affine) @ matrix @ target.affine)


@dataclass(frozen=True)
class PixelPair:
    """Both pictures at one spacing on axes of the fixed grid, in pixels.

    Attributes:
        fixed: a picture whose world is its pixels.
        moving: likewise; turned, mirrored and scaled to look as the fixed one does, as the start has it.
        before: from fixed world points to fixed pixels.
        after: from moving pixels to moving world points.
        start: from fixed pixels to moving pixels, where the start has them.
    """

    fixed: Image
    moving: Image
    before: Matrix
    after: Matrix
    start: Matrix

    def to_world(self, pixels: Matrix) -> Matrix:
        """Return the map of world points that a map of pixels means."""
        return np.asarray(self.after @ pixels @ self.before)

    def to_pixels(self, matrix: Matrix) -> Matrix:
        """Return the map of pixels that a map of world points means."""
        return np.asarray(np.linalg.inv(self.after) @ matrix @ np.linalg.inv(self.before))


def make_pixel_pair(fixed: Image, moving: Image, matrix: Matrix, across: int) -> PixelPair:
    """Bring two pictures to one spacing, with at most ``across`` pixels along the fixed one's longest side.

    Args:
        fixed: a picture.
        moving: a picture.
        matrix: from fixed to moving world points: the start.
        across: a moving picture that is far larger gets larger pixels as well.
    """
    longest = float((np.array(fixed.grid.size) * fixed.grid.spacing).max())
    plane = coarsen_to(fixed, max(find_common_spacing(fixed.grid, moving.grid, matrix), longest / across))
    low, high = find_extent(plane.grid, matrix, moving.grid)
    enlarge = max(1.0, float((high - low).max()) / (LARGEST_CANVAS * max(plane.grid.shape)))
    columns, rows = np.ceil((high - low) / enlarge).astype(int) + 1
    affine = plane.grid.affine.copy()
    affine[:2, :2] *= enlarge
    affine[:2, 2] = plane.grid.to_world(np.floor(low))
    there = resample_to(moving, Grid((int(rows), int(columns)), affine), matrix)
    return PixelPair(
        _in_pixels(plane),
        _in_pixels(there),
        np.asarray(np.linalg.inv(plane.grid.affine), np.float64),
        np.asarray(matrix @ affine),
        np.asarray(np.linalg.inv(affine) @ plane.grid.affine),
    )


def _in_pixels(image: Image) -> Image:
    return Image(image.data, Grid(image.grid.shape, np.eye(3)), image.mask, modality=image.modality)


def resample_to(image: Image, grid: Grid, matrix: Matrix | None = None) -> Image:
    """Return a picture on another grid, filtered first where that shrinks it.

    Not by :func:`regflow.core.resample.resample_aligned`: the grids may be turned against each other,
    and only valid pixels count. Whole factors are averaged by OpenCV, the rest is blurred.

    Args:
        image: a picture.
        grid: of the result.
        matrix: from the grid's world to the picture's; identity when None.
    """
    from regflow.methods.initialize.planar_kernels import WEIGHTS, look_up_samples

    matrix = np.eye(3) if matrix is None else matrix
    middle = (np.array(grid.size) - 1) / 2
    shrink = math.sqrt(abs(np.linalg.det(linearize_at(index_transform(image.grid, grid, matrix), middle))))
    factor = math.floor(shrink * 1.05)
    if factor >= 2:
        image, shrink = average_valid_blocks(image, factor), shrink / factor
    if shrink > LEFTOVER:
        image = blur_image(image, compute_antialias_sigma(shrink))
    mask = np.ones(image.grid.shape, bool) if image.mask is None else image.mask
    index = index_transform(image.grid, grid, matrix)
    if grid.shape == image.grid.shape and np.abs(index - np.eye(3)).max() < SAME_PLACE:
        return Image(image.data, grid, mask, modality=image.modality)
    values, valid = look_up_samples(image.channel, mask, index, WEIGHTS, *grid.shape)
    return Image(values[None], grid, valid, modality=image.modality)


def average_valid_blocks(image: Image, factor: int) -> Image:
    """Return the means of the valid pixels of squares of ``factor`` pixels; half must be valid."""
    import cv2

    rows, columns = (n // factor for n in image.grid.shape)
    if factor == 1 or min(rows, columns) == 0:
        return image
    assert image.mask is not None

    def means_of(plane: Plane) -> Plane:
        cut = plane[: rows * factor, : columns * factor]
        return np.asarray(cv2.resize(cut, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)

    if image.mask.all():
        means, shares = means_of(image.channel), np.ones((rows, columns), np.float32)
    else:
        shares = means_of(image.mask.astype(np.float32))
        means = means_of(np.where(image.mask, image.channel, np.float32(0)))
        np.divide(means, shares, out=means, where=shares > 0)
    affine = image.grid.affine @ np.array(
        [[factor, 0, (factor - 1) / 2], [0, factor, (factor - 1) / 2], [0, 0, 1]]
    )
    grid = Grid((rows, columns), affine, image.grid.crs)
    return Image(means[None], grid, shares >= HALF, modality=image.modality)


def blur_image(image: Image, sigma: float) -> Image:
    """Return a picture smoothed by a Gaussian, valid pixels only."""
    assert image.mask is not None
    return Image(
        smooth_valid_gaussian(image.channel, image.mask, sigma)[None],
        image.grid,
        image.mask,
        None,
        image.modality,
    )


def smooth_valid_gaussian(values: Plane, valid: Mask | None, sigma: float) -> Plane:
    """Return Gaussian means over the valid samples, ``(H, W)``; 0 where none is near."""
    if valid is None or valid.all():
        return blur_plane(values, sigma)
    weights = blur_plane(valid.astype(np.float32), sigma)
    sums = blur_plane(np.where(valid, values, np.float32(0)), sigma)
    return np.divide(sums, weights, out=np.zeros_like(sums), where=weights > 1e-4)


def blur_plane(values: Plane, sigma: float) -> Plane:
    """Blur a float32 plane; the border's samples are continued by mirroring."""
    import cv2

    width = 2 * math.ceil(3 * sigma) + 1
    return np.asarray(cv2.GaussianBlur(values, (width, width), sigma, borderType=cv2.BORDER_REFLECT_101))


def coarsen_to(image: Image, spacing: float) -> Image:
    """Return a picture with pixels at least ``spacing`` world units apart, the same otherwise."""
    if float(image.grid.spacing.max()) * 1.001 >= spacing:
        return image
    return resample_to(image, image.grid.with_spacing(np.maximum(image.grid.spacing, spacing).tolist()))


def find_common_spacing(fixed: Grid, moving: Grid, matrix: Matrix) -> float:
    """Return the coarser of both spacings in fixed world units, seen through a map."""
    stretch = math.sqrt(abs(np.linalg.det(linearize_at(matrix, fixed.center))))
    return max(float(fixed.spacing.max()), float(moving.spacing.max()) / stretch)
