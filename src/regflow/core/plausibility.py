"""Whether data are what they claim to be: samples, grids and landmarks, each told in one phrase.

Every function returns None for sound data, else what is wrong and what to do, to be put after the
name of the file.
"""

from collections.abc import Iterator
from itertools import permutations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.extent import measure_longest_side
from regflow.core.grid import Grid
from regflow.core.labels import (
    MEMBER,
    compute_rounding_tolerance,
    has_fractions,
    measure_rounding_distance,
    select_mask_samples,
)
from regflow.core.landmark_pairs import find_better_rigid_order, measure_rigid_residual
from regflow.core.landmarks import Landmarks
from regflow.core.scales import OTHER_SCALE, check_comparable_samples

HEADER_ROUNDING = 0.1
"""Voxels by which a mask or label map may lie off its image: what tools round headers to."""

OUTSIDE = 0.02
"""Distance beyond the field of view that a rater's rounding may explain, as a part of its longest side."""

SAME_POINT = 0.004
"""Landmarks that all lie within this part of the longest side say nothing; they are in a larger unit."""

MIRROR_RATIO = 0.5
"""A mirrored fit with less than this part of the best rotation's residual means a swapped column."""

MIRROR_LEAST = 0.08
"""Least residual of the best rotation, as a part of the landmarks' spread, that a mirror may explain."""
_MIRROR_MIN_POINTS = 4
_UNITS = {"meters": 1000.0, "centimeters": 10.0, "micrometers": 0.001}


def check_samples(data: NDArray[Any]) -> str | None:
    """Tell whether an image's samples are not finite or all the same."""
    if data.dtype.kind == "f":
        finite = np.isfinite(data)
        if not finite.all():
            count = int(data.size - np.count_nonzero(finite))
            return f"holds {count} NaN or infinite samples; replace them, e.g. by 0"
    low, high = data.min(), data.max()
    if low == high:
        return f"every sample is {low:g}; is this the right file?"
    return None


def check_mask(data: NDArray[Any]) -> str | None:
    """Tell whether a mask has NaN or nothing in it."""
    if data.dtype.kind == "f" and not np.isfinite(data).all():
        return "a mask with NaN or infinite samples; save it with 0 and 1"
    if not np.any(data):
        return "the mask is empty (all 0); give one that covers the object"
    return (
        None
        if select_mask_samples(data).any()
        else f"a soft mask that nowhere reaches {MEMBER:g}; scale it to 0 to 1"
    )


def check_soft_mask(data: NDArray[Any]) -> str | None:
    """Tell whether a mask holds fractions, and how they are taken."""
    if not has_fractions(data):
        return None
    return f"a soft mask, with fractions: samples of at least {MEMBER:g} count as inside"


def check_labels(data: NDArray[Any], step: float = 0.0) -> str | None:
    """Tell whether a label map holds what is no label, or nothing.

    Args:
        data: its samples.
        step: between neighboring values that its file could store; 0 where it stored the values.
    """
    if data.dtype.kind == "f":
        if not np.isfinite(data).all():
            return "a label map with NaN or infinite samples; save it as integers"
        if measure_rounding_distance(data) > compute_rounding_tolerance(step):
            return "holds values that are not whole numbers; give a label map, not an image"
    return None if np.any(data) else "the label map is empty (all 0); give one with labels"


def check_label_rounding(data: NDArray[Any], step: float) -> str | None:
    """Tell whether labels are whole numbers only when rounded, and why."""
    off = measure_rounding_distance(data)
    if off == 0:
        return None
    why = f"its file stores them in steps of {step:.3g}" if step else "arithmetic left them so"
    return f"labels up to {off:.2g} beside whole numbers ({why}) are rounded; save them as integers"


def grid_mismatch(part: Grid, image: Grid) -> str | None:
    """Tell whether a mask or label map lies on another grid than its image, whatever headers round."""
    if image.measure_misalignment(part) <= HEADER_ROUNDING:
        return None
    grids = f"{_described(part)}, its image {_described(image)}"
    return f"lies on another grid ({grids}); resample it onto the image's"


def check_grid_rounding(part: Grid, image: Grid) -> str | None:
    """Tell whether a mask or label map lies on its image's grid only when headers are rounded."""
    if image.matches(part):
        return None
    return (
        f"lies {image.measure_misalignment(part):.2g} voxels off its image, which the rounding of "
        "headers explains; the image's grid is taken"
    )


def fov_disjoint(first: Grid, second: Grid) -> bool:
    """Tell whether two fields of view have nothing in common, by their boxes in world axes."""
    (low_a, high_a), (low_b, high_b) = _box(first), _box(second)
    return bool(np.any(high_a < low_b) or np.any(high_b < low_a))


def check_comparable_scale(fixed: Grid, moving: Grid) -> str | None:
    """Tell whether a moving volume's voxels say that one of both headers is in another unit."""
    ratio = float(np.prod(moving.spacing / fixed.spacing) ** (1 / fixed.ndim))
    across = [float(np.prod(grid.size) ** (1 / grid.ndim)) for grid in (fixed, moving)]
    told = check_comparable_samples(across[0], across[1], ratio)
    if told is None:
        return None
    return (
        f"its voxels are {told}; is one of them in micrometers or meters? Correct the spacing in its header"
    )


def check_extents(fixed: Grid, moving: Grid) -> str | None:
    """Tell whether one volume's field of view is many times as long as the other's."""
    ratio = measure_longest_side(moving) / measure_longest_side(fixed)
    if 1 / OTHER_SCALE < ratio < OTHER_SCALE:
        return None
    times, kind = (ratio, "long") if ratio > 1 else (1 / ratio, "short")
    return (
        f"its field of view is {times:,.3g} times as {kind} as its partner's; if both show the same, one "
        "header is in another unit: correct its spacing"
    )


def check_landmark_places(landmarks: Landmarks, grid: Grid) -> str | None:
    """Tell whether landmarks are not in LPS millimeters of the image on ``grid``; guess why."""
    points = landmarks.points
    outside = ~_inside(points, grid)
    least = SAME_POINT * measure_longest_side(grid)
    cramped = len(points) > 1 and float(np.ptp(points, axis=0).max()) < least
    if not outside.any() and not cramped:
        return None
    if cramped:
        what = f"all {len(points)} landmarks lie within {least:.2g} mm"
    else:
        first = int(np.argmax(outside))
        place = ", ".join(f"{value:.1f}" for value in points[first])
        count = f"{int(outside.sum())} of {len(points)} landmarks lie outside the image"
        what = f"{count} ('{landmarks.names[first]}' at {place} mm LPS)"
    guesses = _guesses(points, grid)
    advice = next(
        (text for text, moved in guesses if _inside(moved, grid).all()), "give LPS millimeters of this image"
    )
    return f"{what}; {advice}"


def check_landmark_mirroring(fixed: Landmarks, moving: Landmarks) -> str | None:
    """Tell whether partners fit only when mirrored, which no body does: two columns are swapped."""
    if len(fixed) < _MIRROR_MIN_POINTS:
        return None
    rotated, reflected = (measure_rigid_residual(fixed.points, moving.points, sign) for sign in (1.0, -1.0))
    spread = float(np.sqrt(np.sum(np.var(fixed.points, axis=0))))
    if rotated < MIRROR_LEAST * spread or reflected > MIRROR_RATIO * rotated:
        return None
    reordered = find_better_rigid_order(fixed.points, moving.points)
    if reordered is not None and reordered.better_mm < reflected:
        return None
    return (
        f"these landmarks are a mirror image of the fixed ones (rms {reflected:.1f} mm mirrored, "
        f"{rotated:.1f} mm else); two columns are swapped or one has the wrong sign: correct them"
    )


def _guesses(points: NDArray[np.float64], grid: Grid) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield what might have happened to the points, with the points put right."""
    for unit, factor in _UNITS.items():
        if np.ptp(points * factor, axis=0).max() > SAME_POINT * measure_longest_side(grid):
            yield f"they look like {unit}: give millimeters", points * factor
    yield (
        "they look like RAS: give LPS, or a first line '# coordinateSystem = RAS'",
        points * (-1.0, -1.0, 1.0),
    )
    for order in permutations(range(3)):
        if order != (0, 1, 2):
            columns = ", ".join("xyz"[axis] for axis in order)
            yield (
                f"their columns look swapped: the first three seem to hold {columns}",
                points[:, np.argsort(order)],
            )
    yield "they look like voxel indices: give LPS millimeters", grid.to_world(points)
    for order in permutations(range(3)):
        swapped = points[:, np.argsort(order)] * (-1.0, -1.0, 1.0)
        yield "they look like RAS with swapped columns: give x, y, z in LPS millimeters", swapped


def _inside(points: NDArray[np.float64], grid: Grid) -> NDArray[np.bool_]:
    margin = 0.5 + OUTSIDE * measure_longest_side(grid) / grid.spacing
    index = grid.to_index(points)
    return np.asarray(np.all((index >= -margin) & (index <= np.array(grid.size) - 1 + margin), axis=1))


def _box(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    corners = grid.to_world(list(product(*((-0.5, n - 0.5) for n in grid.size))))
    return corners.min(axis=0), corners.max(axis=0)


def _described(grid: Grid) -> str:
    size = "x".join(str(n) for n in grid.size)
    spacing = "x".join(f"{value:.3g}" for value in grid.spacing)
    origin = ", ".join(f"{value:.1f}" for value in grid.origin)
    return f"{size} of {spacing} mm from {origin}"
