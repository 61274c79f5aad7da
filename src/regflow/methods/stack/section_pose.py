"""How one section lies to another: turned by any angle, perhaps mirrored, in whatever stain.

All turns are compared at few pixels by correlation of tissue and of its edges at all shifts. The best are
refined from coarse to fine by least squares, the moving section's intensities mapped to what the fixed one
has there, so that no stain is a matter, and pixels that do not fit, as of a tear, counting nothing.

Sources: Roche et al., MICCAI 1998, LNCS 1496:1115-1124 (the correlation ratio); Beaton and Tukey,
Technometrics 16(2):147-185, 1974 (the weights).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from regflow.core.contrast import average_by_intensity, map_intensities
from regflow.methods.stack.section_picture import Mask, Plane, SectionPicture, coarsen_plane

Array = NDArray[np.float64]
Complex = NDArray[np.complex64]

COARSE_ACROSS = 48
"""Pixels along the longer side at which all turns are compared, about."""
TURNS = 48
CANDIDATES = 4
"""Turns around the circle, and those that are refined."""
SAME_TURN = 2
"""Turns so many places off belong to the same peak."""
LEVELS = (64, 128, 256)
"""Pixels along the longer side at which poses are refined, about."""
STEPS = 12
STILL = 0.01
"""Refining steps at a level, and pixels by which no corner of the tissue moves in the last."""
TUKEY = 4.685
LEAST_SCALE = 0.02
"""Residuals count nothing from so many standard deviations, which are at least a fiftieth of the tissue's
brightness."""
LEAST_OVERLAP, FEWEST_PIXELS = 0.1, 16
"""Part of the smaller section's tissue that must lie on the other's, and its pixels."""


@dataclass(frozen=True, eq=False)
class SectionPose:
    """How a section lies to another.

    Attributes:
        matrix: ``(3, 3)`` from pixels of the fixed section to those of the moving one, which was mirrored
            before where ``mirrored`` says so.
        mirrored: whether the moving one lies the wrong side up.
        score: share of the intensities' variance explained, times the share of tissue in common: 0 to 1.
        correlation: of the intensities as they are, -1 to 1; low beside the score in another stain.
    """

    matrix: Array
    mirrored: bool
    score: float
    correlation: float


@dataclass(frozen=True, eq=False)
class _Level:
    """A section at fewer pixels."""

    factor: int
    values: Plane
    tissue: Mask
    valid: Mask


@dataclass(frozen=True, eq=False)
class PosedSection:
    """A section prepared to be compared with many others.

    Attributes:
        picture: the section.
        levels: at fewer and fewer pixels, the finest last.
        spectra: of its tissue and of its edges at the coarsest level.
    """

    picture: SectionPicture
    levels: tuple[_Level, ...]
    coarse: _Level
    canvas: int
    spectra: tuple[Complex, ...] = field(repr=False)


def prepare_sections(pictures: Sequence[SectionPicture]) -> list[PosedSection]:
    """Return sections of one resolution ready to be compared with one another."""
    longest = max(max(picture.values.shape) for picture in pictures)
    factor = max(1, round(longest / COARSE_ACROSS))
    canvas = 2 ** math.ceil(math.log2(2 * math.ceil(longest / factor)))
    factors = list(dict.fromkeys(max(1, round(longest / across)) for across in LEVELS))
    return [_prepare_section(picture, factor, canvas, factors) for picture in pictures]


def mirror_picture(picture: SectionPicture) -> SectionPicture:
    """Return a section turned over, left to right."""
    return SectionPicture(
        np.ascontiguousarray(picture.values[:, ::-1]),
        np.ascontiguousarray(picture.tissue[:, ::-1]),
        np.ascontiguousarray(picture.valid[:, ::-1]),
        picture.contrast,
    )


def estimate_pose(fixed: PosedSection, moving: PosedSection, reach_deg: float = 180.0) -> SectionPose | None:
    """Return the best pose of a section on another; None where they have nothing in common.

    Args:
        fixed: a section.
        moving: another one; prepared from its mirrored picture to ask for that.
        reach_deg: largest turn either way.
    """
    best: tuple[Array, float, float] | None = None
    for start in _search_turns(fixed, moving, reach_deg):
        matrix = _refine_pose(fixed.levels[0], moving.levels[0], start)
        score, correlation = _score_pose(fixed.levels[0], moving.levels[0], matrix)
        if best is None or score > best[1]:
            best = matrix, score, correlation
    if best is None or not best[1] > 0:
        return None
    matrix = best[0]
    for one, other in zip(fixed.levels[1:], moving.levels[1:], strict=True):
        matrix = _refine_pose(one, other, matrix)
    score, correlation = _score_pose(fixed.levels[-1], moving.levels[-1], matrix)
    return SectionPose(matrix, False, score, correlation)


def _prepare_section(
    picture: SectionPicture, factor: int, canvas: int, factors: Sequence[int]
) -> PosedSection:
    coarse = _shrink_picture(picture, factor)
    planes = _list_channels(coarse.values)
    spectra = tuple(np.conj(np.fft.rfft2(plane, (canvas, canvas))).astype(np.complex64) for plane in planes)
    return PosedSection(
        picture, tuple(_shrink_picture(picture, each) for each in factors), coarse, canvas, spectra
    )


def _shrink_picture(picture: SectionPicture, factor: int) -> _Level:
    import cv2

    values = coarsen_plane(picture.values, factor)
    values = np.asarray(cv2.GaussianBlur(values, (0, 0), 0.8, borderType=cv2.BORDER_REFLECT_101))
    masks = [coarsen_plane(np.asarray(m, np.float32), factor) > 0.5 for m in (picture.tissue, picture.valid)]
    return _Level(factor, values, masks[0], masks[1])


def _list_channels(values: Plane) -> list[Plane]:
    """Return the tissue and its edges, each of mean 0 and length 1."""
    rows, columns = np.gradient(values)
    found = []
    for plane in (values, np.hypot(rows, columns)):
        plane = plane - plane.mean()
        size = float(np.sqrt((plane**2).sum(dtype=np.float64)))
        found.append(np.asarray(plane / max(size, 1e-12), np.float32))
    return found


def _search_turns(fixed: PosedSection, moving: PosedSection, reach_deg: float) -> list[Array]:
    """Return poses ``(3, 3)`` in full pixels at the turns under which the sections correlate best."""
    import cv2

    level, canvas = moving.coarse, moving.canvas
    middle = (np.array(level.values.shape[::-1]) - 1) / 2
    room = np.array([canvas / 2 - 0.5] * 2)
    found: list[tuple[float, int, Array]] = []
    for turn in range(TURNS):
        degrees = (turn * 360 / TURNS + 180) % 360 - 180
        if abs(degrees) > reach_deg + 180 / TURNS:
            continue
        matrix = _make_turn(math.radians(degrees), middle, room / 2)
        side = canvas // 2
        turned = cv2.warpAffine(
            level.values, matrix[:2], (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        )
        surface = np.zeros((canvas, canvas), np.float32)
        for plane, spectrum in zip(_list_channels(turned), fixed.spectra, strict=True):
            surface += np.fft.irfft2(np.fft.rfft2(plane, (canvas, canvas)) * spectrum, (canvas, canvas))
        row, column = np.unravel_index(int(np.argmax(surface)), surface.shape)
        shift = [at - canvas if at > canvas // 2 else at for at in (int(column), int(row))]
        # A pixel of the fixed section lies so far on in the turned one, which looks up the moving one.
        step = np.eye(3)
        step[:2, 2] = shift
        found.append((float(surface[row, column]), turn, matrix @ step))
    kept: list[tuple[float, int, Array]] = []
    for each in sorted(found, key=lambda one: (-one[0], one[1])):
        if all(min((each[1] - k[1]) % TURNS, (k[1] - each[1]) % TURNS) > SAME_TURN for k in kept):
            kept.append(each)
    factors = (fixed.coarse.factor, level.factor)
    return [rescale_map(matrix, *factors) for _, _, matrix in kept[:CANDIDATES]]


def _make_turn(angle: float, middle: Array, onto: Array) -> Array:
    """Return the map that turns about ``onto`` and brings it to ``middle``."""
    matrix = np.eye(3)
    matrix[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    matrix[:2, 2] = middle - matrix[:2, :2] @ onto
    return matrix


def rescale_map(matrix: Array, fixed: float, moving: float) -> Array:
    """Return a map between pixels that are ``fixed`` and ``moving`` times finer; centers stay centers."""
    inward, outward = np.eye(3), np.eye(3)
    inward[:2] = [[1 / fixed, 0, (1 - fixed) / (2 * fixed)], [0, 1 / fixed, (1 - fixed) / (2 * fixed)]]
    outward[:2] = [[moving, 0, (moving - 1) / 2], [0, moving, (moving - 1) / 2]]
    return np.asarray(outward @ matrix @ inward)


def _look_up(level: _Level, matrix: Array, shape: tuple[int, ...]) -> tuple[Plane, Mask, Mask]:
    """Return a section's values, tissue and validity at pixels of another."""
    import cv2

    size = (shape[1], shape[0])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    values = cv2.warpAffine(level.values, matrix[:2], size, flags=how)
    masks = [
        cv2.warpAffine(m.astype(np.float32), matrix[:2], size, flags=how) > 0.5
        for m in (level.tissue, level.valid)
    ]
    return np.asarray(values), masks[0], masks[1]


def _refine_pose(fixed: _Level, moving: _Level, start: Array) -> Array:
    """Return the turn and shift that make robust squared differences least, in full pixels."""
    matrix = rescale_map(start, 1 / fixed.factor, 1 / moving.factor)
    places: Array = np.indices(fixed.values.shape).astype(np.float64)
    rows, columns = places[0], places[1]
    for _ in range(STEPS):
        values, tissue, valid = _look_up(moving, matrix, fixed.values.shape)
        inside = (fixed.tissue | tissue) & valid & fixed.valid
        if not _has_overlap(fixed, moving, fixed.tissue & tissue):
            break
        means = average_by_intensity(values[inside], fixed.values[inside])
        mapped = map_intensities(means, values)
        residual = (fixed.values - mapped)[inside].astype(np.float64)
        gradient = np.asarray(np.gradient(mapped), np.float64)
        slope_y, slope_x = gradient[0][inside], gradient[1][inside]
        x, y = columns[inside], rows[inside]
        middle = np.array([x.mean(), y.mean()])
        x, y = x - middle[0], y - middle[1]
        scale = max(1.4826 * float(np.median(np.abs(residual))), LEAST_SCALE)
        weights = np.maximum(1 - (residual / (TUKEY * scale)) ** 2, 0) ** 2
        slopes = np.stack([slope_x, slope_y, slope_y * x - slope_x * y])
        form = (slopes * weights) @ slopes.T
        reach = math.sqrt(float((x**2 + y**2).mean()))
        form += 1e-6 * np.trace(form) / 3 * np.diag([1, 1, reach**2])
        step = np.linalg.solve(form, (slopes * weights) @ residual)
        step[2] = np.clip(step[2], -0.1, 0.1)
        step[:2] = np.clip(step[:2], -2, 2)
        # The step turns about the middle of what was compared, on the fixed section's side.
        turn = _make_turn(float(step[2]), middle + step[:2], middle)
        matrix = matrix @ turn
        if max(float(np.abs(step[:2]).max()), abs(float(step[2])) * reach) < STILL:
            break
    return rescale_map(matrix, fixed.factor, moving.factor)


def _score_pose(fixed: _Level, moving: _Level, matrix: Array) -> tuple[float, float]:
    """Return how well a pose explains the fixed section, and the plain correlation."""
    matrix = rescale_map(matrix, 1 / fixed.factor, 1 / moving.factor)
    values, tissue, valid = _look_up(moving, matrix, fixed.values.shape)
    seen = valid & fixed.valid
    both, either = fixed.tissue & tissue & seen, (fixed.tissue | tissue) & seen
    if not _has_overlap(fixed, moving, both):
        return 0.0, 0.0
    ours, theirs = fixed.values[both], values[both]
    means = average_by_intensity(theirs, ours)
    residual = ours - map_intensities(means, theirs)
    variance = float(ours.var(dtype=np.float64))
    explained = 1 - float((residual**2).mean(dtype=np.float64)) / variance if variance > 0 else 0.0
    spread = math.sqrt(variance * float(theirs.var(dtype=np.float64)))
    cross = float(((ours - ours.mean()) * (theirs - theirs.mean())).mean(dtype=np.float64))
    share = float(both.sum()) / max(float(either.sum()), 1.0)
    return max(explained, 0.0) * share, cross / spread if spread > 0 else 0.0


def _has_overlap(fixed: _Level, moving: _Level, both: Mask) -> bool:
    """Tell whether enough tissue of two sections lies on one another."""
    smaller = min(int(fixed.tissue.sum()), int(moving.tissue.sum()))
    return int(both.sum()) >= max(LEAST_OVERLAP * smaller, FEWEST_PIXELS)
