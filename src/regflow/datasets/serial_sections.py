"""Serial sections of known truth: a real volume cut into planes, each moved, bent, torn or stained by itself.

Truth maps a point of the block's plane, ``(x, y)`` in pixels of the volume's own plane, to the point of the
section's picture where that tissue lies. Fields are smooth noise, drawn anew for each section, so that no
bend goes on from one section to the next; the block's own shape, however bent, is what the volume has.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d, map_coordinates

from regflow.core.transform import Transform

Array = NDArray[np.float64]
Plane = NDArray[np.float32]

DAMAGES = ("torn", "missing", "mirrored", "stained")
"""What can be wrong with a section: a crack that opens, a picture without tissue, the wrong side up, or
another contrast."""
TEAR_SHARE = 0.08
"""How wide a crack opens, as a part of the diagonal."""
INVERSE_STEPS = 8
SLOW_WIDTH = 4.0
"""Sections over which displacements are averaged to show the block's shape."""


@dataclass(frozen=True)
class SectionFaults:
    """How sections are made worse.

    Attributes:
        rotation_deg: standard deviation of the turn of each section.
        shift_px: of its shift along each axis.
        warp_px: root mean square of its bend.
        warp_width_px: standard deviation of the Gaussian that smooths the bend.
        noise: of each pixel, as a part of the 99th percentile.
        gain: standard deviation of the logarithm of the brightness of each section.
        damages: by the section's number, one of :data:`DAMAGES`.
        swaps: pairs of sections that change places.
    """

    rotation_deg: float = 4.0
    shift_px: float = 4.0
    warp_px: float = 1.5
    warp_width_px: float = 30.0
    noise: float = 0.01
    gain: float = 0.05
    damages: dict[int, str] = field(default_factory=dict)
    swaps: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, eq=False)
class CutSections:
    """Sections, and where the tissue of the block went.

    Attributes:
        pictures: ``(N, h, w)`` float32, in the order in which they lie in the box of slides.
        places: ``(N,)`` the number in the block of each of them.
        matrices: ``(N, 3, 3)`` from points of the block's plane, after the bend, to those of the picture.
        bends: ``(N, 2, h, w)`` displacement ``(x, y)`` of each point of the block's plane before that.
        tissue: ``(N, h, w)`` where the block has tissue in the section's own plane.
    """

    pictures: Plane
    places: NDArray[np.intp]
    matrices: Array
    bends: Plane
    tissue: NDArray[np.bool_]

    def map_points(self, number: int, points: Array) -> Array:
        """Return where points ``(K, 2)`` of the block's plane lie in a section's picture."""
        at = [points[:, 1], points[:, 0]]
        bend = [map_coordinates(part, at, order=1, mode="nearest") for part in self.bends[number]]
        moved = points + np.stack(bend, axis=1)
        matrix = self.matrices[number]
        return np.asarray(moved @ matrix[:2, :2].T + matrix[:2, 2])

    def list_tissue_points(self, number: int, count: int = 2000) -> Array:
        """Return points ``(K, 2)`` of a section's tissue in the block's plane, evenly chosen."""
        rows, columns = np.nonzero(self.tissue[number])
        step = max(1, len(rows) // count)
        return np.stack([columns, rows], axis=1)[::step].astype(np.float64)


def simulate_sections(
    volume: Plane, faults: SectionFaults, *, seed: int = 0, threshold: float = 0.1
) -> CutSections:
    """Cut a volume into sections along its first axis.

    Args:
        volume: ``(N, h, w)``, background about 0.
        faults: of the sections.
        seed: of all that is random.
        threshold: part of the 99th percentile from which a voxel is tissue.

    Raises:
        ValueError: a damage is unknown.
    """
    unknown = set(faults.damages.values()) - set(DAMAGES)
    if unknown:
        raise ValueError(f"no such damage: {sorted(unknown)[0]}")
    values = np.asarray(volume, np.float32)
    values = values / float(np.percentile(values[values > 0], 99))
    tissue = gaussian_filter(values, (0, 1, 1)) > threshold
    rng = np.random.default_rng(seed)
    pictures, matrices, bends = [], [], []
    for number, plane in enumerate(values):
        matrix, bend = _draw_move(plane.shape, faults, rng)
        damage = faults.damages.get(number)
        if damage == "mirrored":
            matrix = np.array([[-1.0, 0, plane.shape[1] - 1], [0, 1, 0], [0, 0, 1]]) @ matrix
        picture = _render_picture(plane, matrix, bend)
        if damage is not None:
            picture = _damage_picture(picture, damage, rng)
        picture *= math.exp(faults.gain * rng.standard_normal())
        picture += faults.noise * rng.standard_normal(picture.shape)
        pictures.append(picture.astype(np.float32))
        matrices.append(matrix)
        bends.append(bend)
    places = _swap_places(len(values), faults.swaps)
    made = [np.stack([part[place] for place in places]) for part in (pictures, matrices, bends, tissue)]
    return CutSections(made[0], places, made[1], made[2], made[3])


def measure_stack_error(cut: CutSections, found: Sequence[Transform | None]) -> dict[str, float]:
    """Return how far tissue lies in a volume from where it lies in the block, in percent of the diagonal.

    One turn and shift of the whole volume is free.

    Args:
        cut: the sections.
        found: of each section, from pixels of the volume's plane to those of its picture; None for those that
            do not count.

    Returns:
        ``mean_percent`` and ``worst_percent`` of the sections' mean distances, and ``shape_percent`` and
        ``shape_worst_percent`` of the slow part of their mean displacements: the block's own shape.
    """
    true, measured = [], []
    for number, transform in enumerate(found):
        if transform is not None:
            points = cut.list_tissue_points(number, 300)
            true.append(points)
            measured.append(transform.inverse().apply(cut.map_points(number, points)))
    here, there = np.concatenate(measured), np.concatenate(true)
    cross = (there - there.mean(axis=0)).T @ (here - here.mean(axis=0))
    u, _, vt = np.linalg.svd(cross)
    turn = u @ np.diag([1, np.sign(np.linalg.det(u @ vt))]) @ vt
    shift = there.mean(axis=0) - turn @ here.mean(axis=0)
    errors = [part @ turn.T + shift - points for part, points in zip(measured, true, strict=True)]
    diagonal = math.hypot(*cut.pictures.shape[1:])
    lengths = np.array([np.linalg.norm(part, axis=1).mean() for part in errors]) * 100 / diagonal
    slow = gaussian_filter1d(
        np.array([part.mean(axis=0) for part in errors]), SLOW_WIDTH, axis=0, mode="nearest"
    )
    bends = np.linalg.norm(slow, axis=1) * 100 / diagonal
    return {
        "mean_percent": float(lengths.mean()),
        "worst_percent": float(lengths.max()),
        "shape_percent": float(bends.mean()),
        "shape_worst_percent": float(bends.max()),
    }


def _swap_places(count: int, swaps: Sequence[tuple[int, int]]) -> NDArray[np.intp]:
    places = np.arange(count)
    for first, second in swaps:
        places[[first, second]] = places[[second, first]]
    return places


def _draw_move(
    shape: tuple[int, ...], faults: SectionFaults, rng: np.random.Generator
) -> tuple[Array, Plane]:
    angle = math.radians(faults.rotation_deg * rng.standard_normal())
    middle = (np.array(shape[::-1]) - 1) / 2
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = np.eye(3)
    matrix[:2, :2] = turn
    matrix[:2, 2] = middle - turn @ middle + faults.shift_px * rng.standard_normal(2)
    noise = rng.standard_normal((2, *shape))
    bend = np.stack([gaussian_filter(part, faults.warp_width_px, mode="reflect") for part in noise])
    # What a bend has of a shift is the shift's own.
    bend -= bend.mean(axis=(1, 2), keepdims=True)
    size = math.sqrt(float((bend**2).sum(axis=0).mean()))
    return matrix, np.asarray(bend * (faults.warp_px / size if size > 0 else 0), np.float32)


def _render_picture(plane: Plane, matrix: Array, bend: Plane) -> Plane:
    """Return the picture: each of its pixels looks up where its tissue came from."""
    places: Array = np.indices(plane.shape).astype(np.float64)
    rows, columns = places[0], places[1]
    back = np.linalg.inv(matrix)
    moved = np.stack([columns, rows], axis=-1) @ back[:2, :2].T + back[:2, 2]
    place = moved.copy()
    for _ in range(INVERSE_STEPS):
        at = [place[..., 1], place[..., 0]]
        shift = [map_coordinates(part, at, order=1, mode="nearest") for part in bend]
        place = moved - np.stack(shift, axis=-1)
    return np.asarray(
        map_coordinates(plane, [place[..., 1], place[..., 0]], order=3, mode="constant"), np.float32
    )


def _damage_picture(picture: Plane, damage: str, rng: np.random.Generator) -> Plane:
    if damage == "missing":
        return np.zeros_like(picture)
    if damage == "stained":
        # Bright becomes dark, and what was neither becomes brightest; the ground stays.
        return np.asarray(np.where(picture > 0.08, 1.1 - 0.9 * np.clip(picture, 0, 1.1) ** 1.5, picture))
    if damage == "torn":
        return _tear_picture(picture, rng)
    return picture


def _tear_picture(picture: Plane, rng: np.random.Generator) -> Plane:
    """Open a crack across the tissue: one side moves away, and turns a little."""
    places: Array = np.indices(picture.shape).astype(np.float64)
    rows, columns = places[0], places[1]
    inside = picture > 0.1
    middle = np.array([columns[inside].mean(), rows[inside].mean()])
    angle = rng.uniform(0, 2 * math.pi)
    across = np.array([math.cos(angle), math.sin(angle)])
    gap = TEAR_SHARE * math.hypot(*picture.shape)
    place = np.stack([columns, rows], axis=-1)
    side = (place - middle) @ across
    turn = math.radians(6.0)
    spin = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    source = (place - middle - gap * across) @ spin.T + middle
    moved = map_coordinates(picture, [source[..., 1], source[..., 0]], order=1, mode="constant")
    beyond = (source - middle) @ across > 0
    return np.asarray(np.where(side < 0, picture, np.where(beyond & (side > 0), moved, 0)), np.float32)
