"""The block's slow shape from a volume of it: the stack laid on it, and each section on its plane there.

Source: of going to and fro between the volume and the planes, Malandain et al., Medical Image Analysis
8(1):31-43, 2004 (fusion of autoradiographs with an MR volume).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regflow.core.contrast import average_by_intensity, map_intensities
from regflow.core.errors import InputError, RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.sampling import sample_channel
from regflow.core.transform import Affine
from regflow.io.volumes import read_volume
from regflow.methods.context import RunContext
from regflow.methods.initialize import METHODS
from regflow.methods.stack.section_bends import PlacedSection
from regflow.methods.stack.section_chain import fill_maps, find_slow_path
from regflow.methods.stack.section_picture import SectionPicture, normalize_section
from regflow.methods.stack.section_pose import estimate_pose, prepare_sections

Array = NDArray[np.float64]

REACH_DEG = 20.0
"""Largest turn of a section against its plane of the volume."""
FITTING = 0.5
"""Part of the usual score below which a section's pose on its plane does not count."""
FEWEST = 4
"""Sections that must fit their planes."""


@dataclass(frozen=True, eq=False)
class ReferenceFit:
    """How a stack lies in a volume of the block.

    Attributes:
        transform: from the stack's world to the volume's, in mm.
        is_reversed: whether sections follow one another against the third axis, for the volume's handedness.
        explained: part of the stack's variance that the volume's intensities explain, 0 to 1.
    """

    transform: Affine
    is_reversed: bool
    explained: float


@dataclass(frozen=True)
class StackGeometry:
    """Sizes of a stack's samples at working pixels.

    Attributes:
        pixel_mm: width and height of a pixel.
        section_mm: distance of sections.
        origin: ``(x, y)`` of the first pixel on the block's plane, in pixels.
    """

    pixel_mm: float
    section_mm: float
    origin: tuple[float, float]

    def make_grid(self, shape: tuple[int, ...], is_reversed: bool) -> Grid:
        """Return the grid of a volume ``(sections, rows, columns)``."""
        affine = np.diag([self.pixel_mm, self.pixel_mm, self.section_mm * (-1 if is_reversed else 1), 1.0])
        affine[:2, 3] = np.array(self.origin) * self.pixel_mm
        return Grid(shape, affine)


def read_reference(path: str) -> Image:
    """Read a reference volume as float32.

    Raises:
        InputError: it cannot be read.
    """
    image = read_volume(path)
    return image.with_data(np.asarray(image.channel, np.float32))


def locate_stack(
    planes: NDArray[np.float32],
    holds: NDArray[np.bool_],
    reference: Image,
    geometry: StackGeometry,
    before: ReferenceFit | None,
    context: RunContext,
) -> ReferenceFit:
    """Find how a stack lies in a volume, at any turn, in either handedness.

    Args:
        planes: ``(N, h, w)`` the sections.
        holds: ``(N,)`` those that count.
        reference: the volume.
        geometry: of the stack.
        before: an answer whose handedness is taken over; None to find it.
        context: of the run.

    Raises:
        InputError: the stack lies nowhere in the volume.
    """
    method = METHODS["mutual-information"]
    options = method.complete({"transform": "rigid"})
    run = method.load()
    inside = reference.with_mask(_find_object(reference.channel))
    found: list[ReferenceFit] = []
    reasons: list[str] = []
    for is_reversed in (False, True) if before is None else (before.is_reversed,):
        grid = geometry.make_grid(planes.shape, is_reversed)
        mask = (planes > 0.1) & holds[:, None, None]
        fixed = Image(planes[None], grid, mask)
        try:
            initial = Affine.from_parts(np.eye(3), inside.grid.center - grid.center)
            transform = run(fixed, inside, initial, options, context)
        except RegistrationError as error:
            reasons.append(str(error))
            continue
        assert isinstance(transform, Affine)
        there = sample_channel(reference.channel, reference.grid, grid, transform)
        found.append(ReferenceFit(transform, is_reversed, _measure_explained(planes, there, mask)))
    if not found:
        raise InputError(f"the stack cannot be laid on its reference ({reasons[0]}); check the sizes")
    return max(found, key=lambda each: each.explained)


def refine_poses(
    sections: Sequence[PlacedSection],
    poses: Array,
    reference: Image,
    geometry: StackGeometry,
    fit: ReferenceFit,
) -> tuple[Array, int]:
    """Return poses ``(N, 3, 3)`` whose slow part is that of the volume, and how many sections told it.

    Args:
        sections: as they are placed by ``poses``, on one plane each.
        poses: ``(N, 3, 3)`` from a section's pixels to those of the block's plane.
        reference: the volume.
        geometry: of the stack.
        fit: how it lies in the volume.

    Raises:
        InputError: too few sections fit their planes of the volume.
    """
    shape = (len(sections), *sections[0].values.shape)
    grid = geometry.make_grid(shape, fit.is_reversed)
    planes = sample_channel(reference.channel, reference.grid, grid, fit.transform)
    pictures = [_make_picture(section) for section in sections]
    targets = prepare_sections([normalize_section(plane) for plane in planes])
    changes, scores = np.tile(np.eye(3), (len(sections), 1, 1)), np.zeros(len(sections))
    for number, (target, moving) in enumerate(zip(targets, prepare_sections(pictures), strict=True)):
        pose = estimate_pose(target, moving, REACH_DEG) if sections[number].tissue.any() else None
        if pose is not None:
            changes[number], scores[number] = pose.matrix, pose.score
    usual = float(np.median(scores[scores > 0])) if (scores > 0).any() else 0.0
    told = np.flatnonzero(scores > FITTING * usual)
    if len(told) < FEWEST:
        raise InputError("too few sections fit the reference; leave it out, or check the sizes")
    middle: Array = (np.array(shape[:0:-1], np.float64) - 1) / 2
    spread = float(np.sqrt(np.mean([_measure_spread(section.tissue) for section in sections])))
    slow, _, _ = find_slow_path(np.asarray(np.linalg.inv(changes[told]), np.float64), middle, spread)
    shift = np.eye(3)
    shift[:2, 2] = geometry.origin
    whole = fill_maps(slow, told, len(sections))
    return np.asarray(shift @ whole @ np.linalg.inv(shift) @ poses), len(told)


def _make_picture(section: PlacedSection) -> SectionPicture:
    valid = np.ones(section.values.shape, bool)
    return SectionPicture(section.values, section.tissue, valid, 1.0)


def _measure_spread(tissue: NDArray[np.bool_]) -> float:
    rows, columns = np.nonzero(tissue)
    return float(rows.var() + columns.var()) if len(rows) else 0.0


def _find_object(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where a volume is brighter than a twentieth of its bright samples."""
    return np.asarray(values > 0.05 * float(np.percentile(values, 99)))


def _measure_explained(
    planes: NDArray[np.float32], there: NDArray[np.float32], mask: NDArray[np.bool_]
) -> float:
    top = max(float(np.percentile(there, 99.5)), 1e-12)
    given, wanted = (there / np.float32(top))[mask], planes[mask]
    residual = wanted - map_intensities(average_by_intensity(given, wanted), given)
    variance = float(wanted.var(dtype=np.float64))
    return 1 - float((residual**2).mean(dtype=np.float64)) / variance if variance > 0 else 0.0
