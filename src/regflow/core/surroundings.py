"""What surrounds the object of an image: padding, which is exactly constant, and air, which is nearly so.

Scanners and resampling write a constant where nothing was measured (-3024, -2000 or -1024 around the
round field of view of a CT, 0 around a stripped brain). Neither it nor the air says anything of the
object, so both leave the range to which intensities are scaled.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.contrast import erode_deeply

Mask = NDArray[np.bool_]

BORDER_SHARE = 0.01
"""Least share of the outermost samples that a padding value has."""
FLAT_SHARE = 0.6
"""Least share of a padding sample's neighbors that have its value too; those of noise differ."""
CORNERS_SHARE = 0.5
"""A value between others, or above them, is padding where it has this share of the array's corners."""
MOST_VALUES = 4
"""Padding values that are looked for; resampling a padded image adds one."""
CLEAR = 8.0
"""Distance of the object's median from the air's, in standard deviations of the air, from which air is
told from tissue. Air around heads has 14 and more; the darkest tissue of a stripped brain has 4."""
AIR_REACH = 6.0
"""Standard deviations within which samples are air."""
MOST_COMPARED = 500_000
"""Samples by which air and tissue are told apart, about: more say the same."""
SQUEEZED = 0.3
"""A range that shrinks below this part of itself without some samples was stretched by them: those of
surroundings far away. Tissue has 0.05 of the range of CT with air; without its outermost samples a brain
keeps 0.6 to 0.8 of its range in MR, whose air lies beside the darkest tissue."""
RANGE = (0.5, 99.5)
"""Percentiles between which the width of a range is measured."""


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What surrounds an object.

    Attributes:
        padding: samples of a constant that stands for nothing, or None when there are none.
        values: the constants, in rising order.
        air: level and standard deviation of the air, or None when none is clearly there.
        bright: the air is brighter than the object.
    """

    padding: Mask | None
    values: tuple[float, ...]
    air: tuple[float, float] | None
    bright: bool = False

    def find_content(self, data: NDArray[Any]) -> Mask:
        """Return the samples of ``data``, the image that was looked at, that are neither."""
        kept = np.ones(data.shape, dtype=bool) if self.padding is None else ~self.padding
        if self.air is not None:
            level, spread = self.air
            kept &= np.abs(data - np.float32(level)) > AIR_REACH * spread
        return kept


def find_surroundings(data: NDArray[Any]) -> Surroundings:
    """Find padding and air.

    Args:
        data: samples of one channel, of any shape and type.
    """
    values = _padding_values(data)
    padding = np.isin(data, np.asarray(values, dtype=data.dtype)) if values else None
    measured = np.ones(data.shape, dtype=bool) if padding is None else ~padding
    air, bright = _air(data, measured)
    return Surroundings(padding, tuple(sorted(float(value) for value in values)), air, bright)


def find_background_level(data: NDArray[Any]) -> float:
    """Return what an image holds where nothing is.

    The padding that fills most of the border; without padding the level of the air; without clear air 0
    for samples without negative values, else the median of the border. Samples that are not finite count
    as padding where they have half of the corners, and for nothing else.

    Args:
        data: samples of one channel.
    """
    if data.dtype.kind == "f":
        finite = np.isfinite(data)
        if not finite.all():
            if np.mean(finite[_corners(data)]) <= CORNERS_SHARE:
                return float("nan")
            data = np.where(finite, data, np.median(data[finite]))
    border = _border(data)
    padding = _padding_values(data)
    if padding:
        return float(max(padding, key=lambda value: np.count_nonzero(border == value)))
    air = _air(data, np.ones(data.shape, dtype=bool))[0]
    if air is not None:
        return air[0]
    return float(np.median(border)) if data.min() < 0 else 0.0


def fill_padding(data: NDArray[Any]) -> tuple[NDArray[Any], tuple[float, ...]]:
    """Give padding the level of the air; where there is no air, of the padding nearest the object.

    So an image has one background, whatever was written around it. Padding at the air's level stays.

    Returns:
        The samples, and the values that were replaced (empty: the array is the given one).
    """
    found = find_surroundings(data)
    if found.padding is None or found.padding.all():
        return data, ()
    if found.air is not None:
        level, reach = found.air[0], AIR_REACH * found.air[1]
    else:
        middle = float(np.median(data[~found.padding]))
        level, reach = min(found.values, key=lambda value: abs(value - middle)), 0.0
    replaced = tuple(value for value in found.values if abs(value - level) > reach)
    if not replaced:
        return data, ()
    return np.where(
        np.isin(data, np.asarray(replaced, data.dtype)), np.asarray(level, data.dtype), data
    ), replaced


def measure_intensity_range(
    data: NDArray[Any], mask: Mask | None, percentiles: tuple[float, float]
) -> tuple[float, float]:
    """Return two percentiles of the intensities that :func:`select_object_samples` keeps.

    Args:
        data: samples of one channel.
        mask: which of them may count; None for all.
        percentiles: of the lower and the upper end, 0 to 100.
    """
    low, high = np.percentile(data[select_object_samples(data, mask)], percentiles)
    return float(low), float(high)


def select_object_samples(data: NDArray[Any], mask: Mask | None) -> Mask:
    """Return the samples of a mask (None: of all) whose intensities are an object's.

    Padding, air, and the outermost samples, which are mixtures with them, are left out one after another
    where they stretch the range of intensities to several times what the others have.
    """
    inside = np.ones(data.shape, dtype=bool) if mask is None else mask
    found = find_surroundings(data)
    measured = inside if found.padding is None else inside & ~found.padding
    content = found.find_content(data) & inside
    kept = inside
    for fewer in (measured, content, erode_deeply(content)):
        width, before = _width(data[fewer]), _width(data[kept])
        if width > 0 and (before == 0 or width < SQUEEZED * before):
            kept = fewer
    return kept


def find_otsu_threshold(data: NDArray[Any], bins: int = 256) -> float:
    """Return the threshold that best parts the values into two classes (Otsu 1979)."""
    counts, edges = np.histogram(data, bins)
    centers = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    sums = np.cumsum(counts * centers)
    with np.errstate(invalid="ignore", divide="ignore"):
        between = below * above * (sums[:-1] / below - (sums[-1] - sums[:-1]) / above) ** 2
    return float(edges[1:-1][np.nanargmax(between)])


def _padding_values(data: NDArray[Any]) -> list[Any]:
    """Return the values that fill flat pieces of the border and lie below all others, or in the corners."""
    values, counts = np.unique(_border(data), return_counts=True)
    often = np.argsort(-counts, kind="stable")[:MOST_VALUES]
    common = [values[k] for k in often if counts[k] >= BORDER_SHARE * counts.sum()]
    corners = data[_corners(data)].ravel()
    found: list[Any] = []
    rest = data
    for value in sorted(common):
        region = data == value
        in_corners = float(np.mean(corners == value)) >= CORNERS_SHARE
        if (in_corners or not (rest < value).any()) and _flatness(region) >= FLAT_SHARE:
            found.append(value)
            rest = rest[rest != value]
    return found


def _corners(data: NDArray[Any]) -> tuple[NDArray[np.intp], ...]:
    return np.ix_(*([0, -1] for _ in data.shape))


def _border(data: NDArray[Any]) -> NDArray[Any]:
    faces = [np.take(data, end, axis).ravel() for axis in range(data.ndim) for end in (0, -1)]
    return np.concatenate(faces)


def _flatness(region: Mask) -> float:
    """Return the share of the neighbors of a region's samples that belong to it too."""
    same = whole = 0
    for axis in range(region.ndim):
        before, after = (
            np.take(region, range(*part.indices(region.shape[axis])), axis)
            for part in (slice(None, -1), slice(1, None))
        )
        same += 2 * int(np.count_nonzero(before & after))
        whole += int(np.count_nonzero(before)) + int(np.count_nonzero(after))
    return same / whole if whole else 0.0


def _air(data: NDArray[Any], measured: Mask) -> tuple[tuple[float, float] | None, bool]:
    """Return level and spread of the class of samples that the object's surroundings belong to."""
    samples = data[measured]
    samples = samples[:: max(1, samples.size // MOST_COMPARED)].astype(np.float32)
    if not _varies(samples):
        return None, False
    # A few very bright samples (fat, vessels, metal) must not decide what is background.
    threshold = find_otsu_threshold(np.clip(samples, *np.percentile(samples, [1, 99])))
    rim = data[_rim(measured)]
    bright = bool(rim.size) and float(np.mean(rim > threshold)) > 0.5
    around, object_ = samples[samples <= threshold], samples[samples > threshold]
    if bright:
        around, object_ = object_, around
    if not around.size or not object_.size:
        return None, bright
    level = float(np.median(around))
    deviations = np.abs(around - level)
    # Where more than half of the air has one value, at the end of its type, the others tell its spread.
    spread = float(1.4826 * np.median(deviations) or 1.2533 * deviations.mean())
    # Without any spread it is a tissue of a drawn image: constants around an object are padding.
    clear = 0 < CLEAR * spread < abs(float(np.median(object_)) - level)
    return ((level, spread) if clear else None), bright


def _rim(measured: Mask) -> Mask:
    """Return the measured samples on the array's border and beside padding."""
    from scipy.ndimage import binary_erosion

    return np.asarray(measured & ~binary_erosion(measured))


def _varies(values: NDArray[Any]) -> bool:
    return values.size > 0 and bool(values.min() < values.max())


def _width(values: NDArray[Any]) -> float:
    """Return how far the intensities reach between two percentiles."""
    low, high = np.percentile(values, RANGE) if values.size else (0.0, 0.0)
    return float(high - low)
