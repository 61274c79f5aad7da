"""What the structures of two label maps say of a fit beyond their overlap.

Which structures are in both maps; how far their centers lie apart, beside their size; and whether they
would overlap far better if other labels were partners, as where left and right are swapped.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.resample import resample_array
from regflow.core.transform import Affine, Composite, Transform
from regflow.metrics.distances import ErrorScale
from regflow.metrics.overlap import COUNTABLE, Labels, count_labels, dice
from regflow.metrics.surface import measure_surface_distances

CLEAR_GAIN = 0.2
"""A structure overlaps clearly better with another label when its Dice rises by at least this much.
In right fits no structure does; labels of swapped sides gain up to 0.9."""

SAME_STRUCTURE = 0.5
"""Dice from which two labels that are not each other's sides are one structure, numbered otherwise: a
misplaced structure lies on its neighbor too, but seldom as well as this."""

SEEN = 0.5
"""Part of a fixed structure that the moving image's field of view must hold, for it to be compared."""

PLACE_PERCENT = 8.0
"""A structure is out of place when its centers lie farther apart than this part of the object's radius,
beyond a voxel, and than :data:`OWN_RADIUS`. In right fits between brains at most one in ten does; with
labels 14 mm off three in four."""

OWN_RADIUS = 0.7
"""Part of its radius of gyration by which a structure's centers must lie apart to be out of place."""

NO_OVERLAP = 0.05
"""Dice below which a structure whose center is not known, because it is cut, is out of place."""


@dataclass(frozen=True, eq=False)
class StructurePlace:
    """Where a structure lies.

    Attributes:
        center: ``(d,)`` world point, the mean of its samples.
        radius_mm: of gyration: the root mean square distance of its samples from the center.
        cut: it touches the border of its volume, which may have cut a part of it off.
    """

    center: NDArray[np.float64]
    radius_mm: float
    cut: bool


@dataclass(frozen=True)
class SwappedStructure:
    """A structure that overlaps clearly better with another label than with its own.

    Attributes:
        label: of the fixed map.
        partner: label of the moving map that it overlaps with.
        dice: with its own label.
        dice_exchanged: with the partner.
    """

    label: int
    partner: int
    dice: float
    dice_exchanged: float


@dataclass(frozen=True, eq=False)
class Structures:
    """What label maps of both images tell.

    Attributes:
        records: one per structure that is in both maps, JSON-ready: ``label``, ``fixed_ml``, ``voxels``
            of the fixed map, ``seen`` (part of it inside the moving image's field of view),
            ``out_of_place``, and by state ``dice`` and, if measured, ``hd95_mm`` and ``asd_mm``.
        only_fixed: labels of the fixed map alone.
        only_moving: labels of the moving map alone.
        exchanged: structures that another label covers, clearly better than their own: of the other side,
            or numbered otherwise.
        swapped: those of them whose partner is their counterpart on the other side.
        dice_mirrored: mean Dice at the end, the moving map mirrored left for right; NaN without records.
    """

    records: list[dict[str, Any]]
    only_fixed: tuple[int, ...]
    only_moving: tuple[int, ...]
    exchanged: list[SwappedStructure]
    swapped: list[SwappedStructure]
    dice_mirrored: float

    def summarize(self) -> dict[str, Any]:
        """Return all but the records, JSON-ready."""
        return {
            "only_fixed": list(self.only_fixed),
            "only_moving": list(self.only_moving),
            "exchanged": [asdict(one) for one in self.exchanged],
            "swapped": [one.label for one in self.swapped],
            "dice_mirrored": self.dice_mirrored,
        }


def measure_structures(
    fixed: Image, moving: Image, transforms: Mapping[str, Transform], surfaces: bool, threads: int = 1
) -> Structures:
    """Measure how the structures of two label maps lie on each other.

    Args:
        fixed: with its labels.
        moving: with its labels.
        transforms: fixed to moving, by state; the last is the end, at which places are compared.
        surfaces: measure surface distances too.
        threads: most threads to use; no figure depends on it.
    """
    assert fixed.labels is not None
    assert moving.labels is not None
    # Signed, so that -1 can mark what the moving image's field of view does not hold.
    map_of = {"fixed": fixed.labels.astype(np.int64), "moving": moving.labels.astype(np.int64)}
    lying = {
        "fixed": label_places(map_of["fixed"], fixed.grid),
        "moving": label_places(map_of["moving"], moving.grid),
    }
    shared = [label for label in lying["fixed"] if label in lying["moving"]]
    counts = count_labels(map_of["fixed"])
    spacing = fixed.grid.spacing
    records: list[dict[str, Any]] = [
        {"label": label, "fixed_ml": counts[label] * spacing.prod() / 1000, "voxels": counts[label]}
        for label in shared
    ]
    moved = map_of["moving"]
    for state, transform in transforms.items():
        moved = resample_array(map_of["moving"], moving.grid, fixed.grid, transform, "nearest", -1)
        _add_overlap(records, state, map_of["fixed"], np.maximum(moved, 0), spacing, surfaces, threads)
    unseen = count_labels(np.where(moved < 0, map_of["fixed"], 0))
    extent = ErrorScale.from_images(fixed, moving)
    for record in records:
        label = record["label"]
        both = lying["fixed"][label], lying["moving"][label]
        record["seen"] = 1 - unseen.get(label, 0) / counts[label]
        record["out_of_place"] = _out_of_place(*both, transform, extent, record["dice"][state])
    better = find_exchanges(map_of["fixed"], np.maximum(moved, 0))
    swapped = find_swapped_sides(better, lying["fixed"])
    exchanged = [one for one in better if one in swapped or one.dice_exchanged >= SAME_STRUCTURE]
    mirrored = _dice_mirrored(fixed, map_of, moving.grid, transform, shared)
    only_fixed, only_moving = (
        tuple(label for label in side if label not in shared) for side in lying.values()
    )
    return Structures(records, only_fixed, only_moving, exchanged, swapped, mirrored)


def label_places(labels: Labels, grid: Grid) -> dict[int, StructurePlace]:
    """Return where each nonzero label of a map lies."""
    index = np.argwhere(labels != 0)
    if not len(index):
        return {}
    codes, which = np.unique(labels[tuple(index.T)], return_inverse=True)
    counts = np.bincount(which)
    at_border = ((index == 0) | (index == np.array(labels.shape) - 1)).any(axis=1)
    cut = np.bincount(which, at_border) > 0
    points = grid.to_world(index[:, ::-1])
    centers = np.stack([np.bincount(which, column) / counts for column in points.T], axis=1)
    squares = ((points - centers[which]) ** 2).sum(axis=1)
    radii = np.sqrt(np.bincount(which, squares) / counts)
    found = zip(codes.tolist(), centers, radii.tolist(), cut.tolist(), strict=True)
    return {int(code): StructurePlace(center, radius, bool(is_cut)) for code, center, radius, is_cut in found}


def find_exchanges(fixed: Labels, moved: Labels) -> list[SwappedStructure]:
    """Return the structures that overlap clearly better with another label than with their own.

    Partners are those of the largest sum of Dice coefficients, each label used once.

    Args:
        fixed: label map, 0 = background.
        moved: the other map on the same grid.
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns, scores = compute_dice_table(fixed, moved)
    found = []
    for row, column in zip(*linear_sum_assignment(scores, maximize=True), strict=True):
        own = np.flatnonzero(columns == rows[row])
        before = float(scores[row, own[0]]) if own.size else 0.0
        after = float(scores[row, column])
        if columns[column] != rows[row] and after >= before + CLEAR_GAIN:
            found.append(SwappedStructure(int(rows[row]), int(columns[column]), before, after))
    return found


def find_swapped_sides(
    found: Sequence[SwappedStructure], fixed: Mapping[int, StructurePlace]
) -> list[SwappedStructure]:
    """Return those exchanges that are left for right and right for left.

    Two labels are the sides of a structure when each takes the other's place, and their centers lie
    apart along the patient's left-right axis (x of LPS) more than along any other.
    """
    partner_of = {one.label: one.partner for one in found}
    return [
        one
        for one in found
        if partner_of.get(one.partner) == one.label
        and int(np.argmax(np.abs(fixed[one.label].center - fixed[one.partner].center))) == 0
    ]


def mirror_labels(grid: Grid, mask: NDArray[np.bool_] | None) -> Affine:
    """Return the map that exchanges left and right about the middle of a mask (of the grid without one)."""
    middle = grid.center if mask is None else grid.to_world(np.argwhere(mask)[:, ::-1].mean(axis=0))
    return Affine.from_parts(np.diag([-1.0, *np.ones(grid.ndim - 1)]), np.zeros(grid.ndim), middle)


def compute_dice_table(
    fixed: Labels, moved: Labels
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the Dice coefficient of every fixed label with every moved one.

    Returns:
        The fixed labels, the moved labels, both rising, and a table with a row per fixed label.
    """
    in_fixed, in_moved = count_labels(fixed), count_labels(moved)
    rows, columns = (np.array(list(counts), dtype=np.int64) for counts in (in_fixed, in_moved))
    both = (fixed != 0) & (moved != 0)
    place = _places_in(rows, fixed[both]) * len(columns) + _places_in(columns, moved[both])
    shared = np.bincount(place, minlength=len(rows) * len(columns)).reshape(len(rows), len(columns))
    total = np.add.outer(_counts(in_fixed), _counts(in_moved))
    return rows, columns, 2 * shared / total


def _add_overlap(
    records: list[dict[str, Any]],
    state: str,
    fixed: Labels,
    moved: Labels,
    spacing: NDArray[np.float64],
    surfaces: bool,
    threads: int,
) -> None:
    labels = [record["label"] for record in records]
    overlaps = dice(fixed, moved, labels)
    apart = measure_surface_distances(fixed, moved, spacing, labels, threads) if surfaces else {}
    for record in records:
        label = record["label"]
        record.setdefault("dice", {})[state] = overlaps[label]
        if surfaces:
            record.setdefault("hd95_mm", {})[state] = apart[label].hd95_mm
            record.setdefault("asd_mm", {})[state] = apart[label].asd_mm


def _out_of_place(
    fixed: StructurePlace, moving: StructurePlace, transform: Transform, extent: ErrorScale, overlap: float
) -> bool:
    if fixed.cut or moving.cut:
        return overlap < NO_OVERLAP
    apart = float(np.linalg.norm(transform.apply(fixed.center[None])[0] - moving.center))
    return extent.to_percent(apart) > PLACE_PERCENT and apart > OWN_RADIUS * fixed.radius_mm


def _dice_mirrored(
    fixed: Image, map_of: Mapping[str, Labels], grid: Grid, transform: Transform, shared: Sequence[int]
) -> float:
    """Return the mean Dice of the moving map mirrored about the middle of the fixed image's object."""
    if not shared:
        return float("nan")
    through = Composite((mirror_labels(fixed.grid, fixed.mask), transform))
    mirrored = resample_array(map_of["moving"], grid, fixed.grid, through, "nearest")
    return float(np.mean(list(dice(map_of["fixed"], mirrored, shared).values())))


def _places_in(codes: NDArray[np.int64], values: NDArray[Any]) -> NDArray[np.intp]:
    """Return each value's place among rising codes, by a table where the codes are small."""
    if not codes.size or codes[0] < 0 or codes[-1] >= COUNTABLE:
        return np.searchsorted(codes, values)
    table = np.zeros(int(codes[-1]) + 1, dtype=np.intp)
    table[codes] = np.arange(len(codes))
    return np.asarray(table[values])


def _counts(counts: Mapping[int, int]) -> NDArray[np.float64]:
    return np.array(list(counts.values()), dtype=np.float64)


def estimate_dice_noise(voxels: Iterable[int]) -> float:
    """Return how much a mean of Dice coefficients may change by chance, by the structures' samples.

    A structure's border, some samples wide, is drawn and resampled by chance; of a structure of 10
    samples that moves Dice by about 0.3, of 1000 by 0.03.
    """
    counts = np.array(list(voxels), dtype=np.float64)
    return float(np.sqrt((1 / counts).sum()) / len(counts))
