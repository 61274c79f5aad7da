"""Resampling an image onto a grid through a transform, and shrinking one without aliasing.

SimpleITK does the work: it is exact in the geometry, and each sample is computed by itself, so the
result does not depend on the number of threads.
"""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.itk import to_sitk
from regflow.core.memory import check_grid
from regflow.core.transform import Affine, Transform

if TYPE_CHECKING:
    import SimpleITK as sitk
    from scipy.sparse import csr_array

INTERPOLATIONS = ("nearest", "linear", "cubic", "lanczos")
ANTIALIAS_SIGMA = 0.5
"""Standard deviation of the filter before shrinking, in samples of the COARSER grid, in quadrature
with the finer grid's own: keeps what the coarser grid can carry and damps what would alias."""
TRUNCATE = 4.0
"""Where the filter ends, in standard deviations."""
SAME_PLACE = 1e-6
"""How far, in samples, places may lie apart to be the same."""


def to_sitk_image(data: NDArray[Any], grid: Grid) -> "sitk.Image":
    """Return a SimpleITK image of a ``grid.shape`` array (a boolean one becomes uint8)."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(
        data.astype(np.uint8) if data.dtype == bool else np.ascontiguousarray(data)
    )
    image.SetOrigin(grid.origin.tolist())
    image.SetSpacing(grid.spacing.tolist())
    image.SetDirection(grid.direction.ravel().tolist())
    return image


def read_sitk_grid(image: "sitk.Image") -> Grid:
    """Return the grid of a SimpleITK image."""
    return Grid.from_geometry(
        image.GetSize()[::-1], image.GetSpacing(), image.GetOrigin(), np.array(image.GetDirection())
    )


def resample_array(
    data: NDArray[Any],
    source: Grid,
    target: Grid,
    transform: Transform | None = None,
    interpolation: str = "linear",
    outside: float = 0.0,
) -> NDArray[Any]:
    """Resample one channel.

    Args:
        data: ``source.shape`` array; the result has its type (bool becomes bool again).
        source: the grid of ``data``, moving.
        target: the grid of the result, fixed.
        transform: from target world points to source world points; identity when None.
        interpolation: one of :data:`INTERPOLATIONS` (cubic and lanczos may overshoot).
        outside: value where the source has no sample.

    Returns:
        ``target.shape`` array.

    Raises:
        InputError: the memory does not suffice.
    """
    import SimpleITK as sitk

    # SimpleITK's image and the array.
    check_grid(target, 2 * data.dtype.itemsize)
    kinds = {
        "nearest": sitk.sitkNearestNeighbor,
        "linear": sitk.sitkLinear,
        "cubic": sitk.sitkBSpline,
        "lanczos": sitk.sitkLanczosWindowedSinc,
    }
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(target.size)
    resampler.SetOutputOrigin(target.origin.tolist())
    resampler.SetOutputSpacing(target.spacing.tolist())
    resampler.SetOutputDirection(target.direction.ravel().tolist())
    resampler.SetInterpolator(kinds[interpolation])
    resampler.SetDefaultPixelValue(float(outside))
    resampler.SetTransform(to_sitk(transform or Affine.identity(target.ndim)))
    warped = sitk.GetArrayFromImage(resampler.Execute(to_sitk_image(data, source)))
    return np.asarray(warped.astype(bool) if data.dtype == bool else warped)


def resample_image(
    image: Image,
    target: Grid,
    transform: Transform | None = None,
    interpolation: str = "linear",
    outside: float = 0.0,
) -> Image:
    """Resample all channels, the mask and the labels (both nearest) of an image.

    Arguments are those of :func:`resample_array`.
    """

    def warped(part: NDArray[Any] | None, kind: str, value: float) -> Any:
        return None if part is None else resample_array(part, image.grid, target, transform, kind, value)

    channels = np.stack([warped(channel, interpolation, outside) for channel in image.data])
    mask = warped(image.mask, "nearest", 0.0)
    return Image(channels, target, mask, warped(image.labels, "nearest", 0.0), image.modality)


def filter_antialias(data: NDArray[Any], source: Grid, spacing: ArrayLike) -> NDArray[np.float32]:
    """Blur one channel so that it can be sampled at a coarser spacing.

    Args:
        data: ``source.shape`` array.
        source: its grid.
        spacing: the spacing to come, ``(x, y, z)`` order, in world units; axes that do not get
            coarser are left as they are.

    Returns:
        float32 array of the same shape.
    """
    from scipy.ndimage import gaussian_filter1d

    ratio = np.broadcast_to(np.asarray(spacing, dtype=np.float64), (source.ndim,)) / source.spacing
    blurred = np.asarray(data, dtype=np.float32)
    for axis, factor in enumerate(ratio[::-1]):
        sigma = _blur(factor)
        if sigma > 0:
            blurred = gaussian_filter1d(blurred, sigma, axis=axis, mode="nearest", truncate=TRUNCATE)
    return blurred


def compute_antialias_sigma(factor: float) -> float:
    """Return the filter's standard deviation, in samples, before an axis gets ``factor`` times coarser.

    0 where it gets no coarser.
    """
    return ANTIALIAS_SIGMA * math.sqrt(max(factor * factor - 1, 0.0))


def _blur(factor: float) -> float:
    """Return the same, and 0 where the rounding of headers is all that makes an axis coarser."""
    return compute_antialias_sigma(factor) if factor > 1.001 else 0.0


def resample_aligned(data: NDArray[Any], source: Grid, target: Grid) -> NDArray[np.float32]:
    """Resample one channel onto a grid along the same axes, blurred first where that is coarser.

    The same as :func:`filter_antialias` and linear resampling, axis by axis and only where samples are
    wanted.

    Args:
        data: ``source.shape`` array.
        source: its grid.
        target: a grid of the same direction, inside the extent of ``source``.

    Returns:
        float32 array of ``target.shape``.

    Raises:
        InputError: the memory does not suffice.
    """
    check_grid(target, 8)
    values = np.asarray(data, dtype=np.float32)
    first = source.to_index(target.to_world(np.zeros(source.ndim)))[::-1]
    steps = (target.spacing / source.spacing)[::-1]
    # The axis in front is thinned and goes to the back, until all have been in front.
    for start, step, count in zip(first, steps, target.shape, strict=True):
        fine, *rest = values.shape
        if fine != count or abs(step - 1) * count + abs(start) > SAME_PLACE:
            thin = _thinning(fine, count, float(start), float(step)) @ values.reshape(fine, -1)
            values = thin.reshape(count, *rest)
        values = np.ascontiguousarray(np.moveaxis(values, 0, -1))
    return values


def _thinning(fine: int, coarse: int, start: float, step: float) -> "csr_array":
    """Return the sparse ``(coarse, fine)`` matrix that blurs a line and samples it at ``start + step i``."""
    from scipy.sparse import coo_array

    sigma = _blur(step)
    offsets = np.arange(-int(TRUNCATE * sigma + 0.5), int(TRUNCATE * sigma + 0.5) + 1)
    taps = np.exp(-0.5 * np.square(offsets / sigma)) if sigma > 0 else np.ones(1)
    places = np.clip(start + step * np.arange(coarse), 0, fine - 1)
    low = np.minimum(places.astype(int), max(fine - 2, 0))
    shares = np.stack([low + 1 - places, places - low])
    columns = np.clip(low + np.array([0, 1])[:, None, None] + offsets[:, None], 0, fine - 1)
    weights = shares[:, None] * (taps / taps.sum())[:, None]
    rows = np.broadcast_to(np.arange(coarse), columns.shape)
    entries = weights.astype(np.float32).ravel(), (rows.ravel(), columns.ravel())
    return coo_array(entries, shape=(coarse, fine)).tocsr()


def coarsen_image(image: Image, spacing: float) -> Image:
    """Return an image with samples at least ``spacing`` world units apart, filtered against aliasing.

    The mask keeps the samples of which half or more was inside, labels are the nearest.
    """
    return respace_image(image, np.maximum(image.grid.spacing, spacing))


def respace_image(image: Image, spacing: ArrayLike) -> Image:
    """Resample to another spacing ``(x, y, z)`` over the same extent, filtered first where that is coarser.

    The mask keeps the samples of which half or more was inside, labels are the nearest.
    """
    grid = image.grid.with_spacing(np.broadcast_to(spacing, (image.grid.ndim,)).tolist())
    mask = None if image.mask is None else resample_aligned(image.mask, image.grid, grid) >= 0.5
    labels = image.labels
    if labels is not None:
        labels = resample_array(labels, image.grid, grid, interpolation="nearest")
    channels = np.stack([resample_aligned(channel, image.grid, grid) for channel in image.data])
    return Image(channels, grid, mask, labels, image.modality)
