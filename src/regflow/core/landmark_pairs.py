"""Which landmark of one image is which of the other: by name, else by order, and whether that fits."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regflow.core.errors import InputError
from regflow.core.landmarks import Landmarks

OTHER_ORDER_RATIO = 0.5
"""Another order must leave less than this part of the given order's distance, to be spoken of."""

OTHER_ORDER_MIN_MM = 5.0
"""Distances below this are a rater's, whatever the order."""

_MIN_POINTS = 4
"""A rigid map brings fewer points near one another in several orders."""

_MOST_POINTS = 1000
"""The assignment's cost grows with the cube of the points."""

_MOST_ROUNDS = 50
_MOST_NAMES = 8


@dataclass(frozen=True, eq=False)
class LandmarkPairs:
    """Landmarks of two images, partners at equal places.

    Attributes:
        fixed: those of the fixed image that have a partner.
        moving: their partners.
        only_fixed: names in the fixed image without a partner.
        only_moving: names in the moving image without a partner.
        by_order: the partners were found by their place in the files, for want of names.
    """

    fixed: Landmarks
    moving: Landmarks
    only_fixed: tuple[str, ...] = ()
    only_moving: tuple[str, ...] = ()
    by_order: bool = False

    def __len__(self) -> int:
        return len(self.fixed)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description of the pairs; landmarks without a partner are not in it."""
        sides = {"fixed": self.fixed.points.tolist(), "moving": self.moving.points.tolist()}
        return {"names": list(self.fixed.names), **sides, "weights": self.weights.tolist()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "LandmarkPairs":
        """Rebuild pairs from :meth:`to_dict`."""
        names, weights = tuple(content["names"]), np.array(content["weights"])
        fixed, moving = (np.array(content[side], dtype=np.float64) for side in ("fixed", "moving"))
        return cls(Landmarks(names, fixed, weights), Landmarks(names, moving))

    @property
    def weights(self) -> NDArray[np.float64]:
        """How much each pair counts in a fit, ``(N,)``: the product of both sides' weights, 1 without any."""
        weights = np.ones(len(self))
        for side in (self.fixed, self.moving):
            weights = weights if side.weights is None else weights * side.weights
        return weights


@dataclass(frozen=True, eq=False)
class BetterOrder:
    """An order of the moving landmarks that fits better than the given one.

    Attributes:
        order: ``(N,)`` place of each fixed landmark's partner among the moving ones.
        given_mm: root mean square (or mean) distance in the given order.
        better_mm: the same in this order.
    """

    order: NDArray[np.intp]
    given_mm: float
    better_mm: float


def pair_landmarks(fixed: Landmarks, moving: Landmarks) -> LandmarkPairs:
    """Find each landmark's partner: by name wherever names are shared, by order where nobody has names.

    A file without names numbers its landmarks 1, 2, 3 ...; two such files are paired by order. A name
    that stands twice in a file says nothing, so its landmarks have no partner.

    Raises:
        InputError: no name is shared, or two files without names differ in their counts.
    """
    if _numbered(fixed) and _numbered(moving):
        if len(fixed) != len(moving):
            raise InputError(
                f"{len(fixed)} fixed but {len(moving)} moving landmarks, and no names to tell which is "
                "which; name them"
            )
        return LandmarkPairs(fixed, moving, by_order=True)
    counts = Counter(fixed.names), Counter(moving.names)
    shared = [name for name in fixed.names if counts[0][name] == counts[1][name] == 1]
    if not shared:
        raise InputError(
            f"the files share no name of a landmark (fixed: {_listed(fixed.names)}; moving: "
            f"{_listed(moving.names)}); give partners the same name, which no other has, or leave all names "
            "out to pair them by their order"
        )
    sides = []
    for landmarks in (fixed, moving):
        place = {name: number for number, name in enumerate(landmarks.names)}
        sides.append(landmarks.take([place[name] for name in shared]))
    alone = [
        tuple(name for name in dict.fromkeys(side.names) if name not in shared) for side in (fixed, moving)
    ]
    return LandmarkPairs(sides[0], sides[1], alone[0], alone[1])


def describe_unpaired(pairs: LandmarkPairs) -> str | None:
    """Name the landmarks that have no partner; None when all have one."""
    told = [
        f"{_listed(names)} of the {image} image"
        for image, names in (("fixed", pairs.only_fixed), ("moving", pairs.only_moving))
        if names
    ]
    if not told:
        return None
    return (
        f"landmarks without a partner of the same name are left out: {' and '.join(told)}; "
        f"{len(pairs)} are compared"
    )


def describe_misorder(pairs: LandmarkPairs) -> str | None:
    """Tell whether another order of the moving landmarks would fit far better after a rigid map."""
    better = find_better_rigid_order(pairs.fixed.points, pairs.moving.points)
    return None if better is None else f"{describe_order(pairs, better)}; check which is which"


def describe_order(pairs: LandmarkPairs, better: BetterOrder) -> str:
    """Say in one phrase which landmarks another order would exchange, and what it would gain."""
    names = pairs.moving.names
    moved = [f"{names[k]} with {names[n]}" for k, n in enumerate(better.order) if k != n]
    what = "order of the landmarks does" if pairs.by_order else "names of the landmarks do"
    return (
        f"the {what} not fit, another order would fit far better ({better.better_mm:.1f} mm "
        f"apart instead of {better.given_mm:.1f}): {_listed(moved)}"
    )


def find_better_order(mapped: ArrayLike, moving: ArrayLike) -> BetterOrder | None:
    """Return the order of least distances, if it is far better than the given one.

    Args:
        mapped: ``(N, d)`` fixed landmarks as a transform maps them, mm.
        moving: ``(N, d)`` their partners in the given order.

    Returns:
        None when the given order is as good, or there are fewer than 4 or more than 1000 points.
    """
    a, b = np.asarray(mapped, dtype=np.float64), np.asarray(moving, dtype=np.float64)
    if not _MIN_POINTS <= len(a) <= _MOST_POINTS:
        return None
    order = _assign(a, b)
    given, best = (float(np.linalg.norm(a - b[k], axis=1).mean()) for k in (slice(None), order))
    return _if_far_better(order, given, best)


def find_better_rigid_order(fixed: ArrayLike, moving: ArrayLike) -> BetterOrder | None:
    """Return the order that fits best after a rigid map of its own, if it is far better than the given.

    Assignment and rigid map follow each other until neither changes, from three starts: the points as
    they lie, with their centers on one another, and as the given order maps them.

    Args:
        fixed: ``(N, 3)`` landmarks in mm.
        moving: ``(N, 3)`` their partners in the given order.
    """
    a, b = np.asarray(fixed, dtype=np.float64), np.asarray(moving, dtype=np.float64)
    if not _MIN_POINTS <= len(a) <= _MOST_POINTS:
        return None
    given = measure_rigid_residual(a, b)
    if given < OTHER_ORDER_MIN_MM:
        return None
    starts = (a, a - a.mean(axis=0) + b.mean(axis=0), _rigidly_mapped(a, b))
    orders = [_settled(a, b, _assign(start, b)) for start in starts]
    order = min(orders, key=lambda found: measure_rigid_residual(a, b[found]))
    return _if_far_better(order, given, measure_rigid_residual(a, b[order]))


def measure_rigid_residual(
    fixed: NDArray[np.float64], moving: NDArray[np.float64], sign: float = 1.0
) -> float:
    """Return the rms distance after the best rotation (``sign`` 1) or mirrored rotation (-1).

    Kabsch, Acta Cryst. A32:922, 1976.
    """
    mapped = _rigidly_mapped(fixed, moving, sign)
    return float(np.sqrt(np.mean(np.sum((mapped - moving) ** 2, axis=1))))


def _rigidly_mapped(
    fixed: NDArray[np.float64], moving: NDArray[np.float64], sign: float = 1.0
) -> NDArray[np.float64]:
    a, b = fixed - fixed.mean(axis=0), moving - moving.mean(axis=0)
    left, _, right = np.linalg.svd(a.T @ b)
    last = sign * np.sign(np.linalg.det(left @ right)) or sign
    turn = left @ np.diag([1.0, 1.0, last]) @ right
    return np.asarray(a @ turn + moving.mean(axis=0))


def _settled(a: NDArray[Any], b: NDArray[Any], order: NDArray[np.intp]) -> NDArray[np.intp]:
    for _ in range(_MOST_ROUNDS):
        following = _assign(_rigidly_mapped(a, b[order]), b)
        if np.array_equal(following, order):
            break
        order = following
    return order


def _assign(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.intp]:
    """Return the partner in ``b`` of each point of ``a``, all different, of least squared distances."""
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    return np.asarray(linear_sum_assignment(cdist(a, b, "sqeuclidean"))[1])


def _if_far_better(order: NDArray[np.intp], given: float, best: float) -> BetterOrder | None:
    far = given >= OTHER_ORDER_MIN_MM and best < OTHER_ORDER_RATIO * given
    return BetterOrder(order, given, best) if far else None


def _numbered(landmarks: Landmarks) -> bool:
    """Tell whether the names are no more than the places in the file."""
    return landmarks.names == tuple(str(number) for number in range(1, len(landmarks) + 1))


def _listed(names: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
