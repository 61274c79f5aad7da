"""Subjects whose true alignment is known: a real volume moved by a known smooth warp.

The truth maps FIXED points to SUBJECT points, as every transform of regflow does, and is stored as
a standard ITK ``.h5``; a registration's true error is then a distance in millimeters. The subject
itself is sampled once from the real volume, through the truth's inverse.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.resample import resample_array
from regflow.core.transform import Affine, Composite, DisplacementField

NODES_PER_SMOOTHNESS = 3.0
"""Spacing of the nodes on which a warp is integrated: a third of its smoothness. Cubic splines
between such nodes follow a Gaussian-smooth field to a few micrometers."""
SQUARINGS = 7
INTERPOLATION_MARGIN = 3
"""Nodes beyond the grid on each side, so that splines never extrapolate."""


@dataclass(frozen=True)
class Truth:
    """A known alignment: fixed to subject world points, and back.

    Attributes:
        forward: maps fixed to subject points.
        backward: maps subject to fixed points.
    """

    forward: Composite
    backward: Composite


def draw_warp(
    grid: Grid, amplitude_mm: float, smoothness_mm: float, seed: int
) -> tuple[DisplacementField, DisplacementField]:
    """Draw a random diffeomorphism of a grid's box onto itself, and its inverse.

    A stationary velocity field of smoothed noise, fading to zero at the box's border, is integrated
    in float64 by scaling and squaring (Arsigny et al., 2006); its negative gives the inverse.

    Args:
        grid: where the displacements will stand.
        amplitude_mm: the largest speed, hence the longest possible displacement.
        smoothness_mm: standard deviation of the Gaussian that smooths the noise; also the width
            over which the warp fades at the border.
        seed: of the noise.

    Returns:
        The warp and its inverse, both on ``grid``.

    Raises:
        ValueError: the warp would fold (amplitude too large for the smoothness).
    """
    nodes = _nodes(grid, smoothness_mm / NODES_PER_SMOOTHNESS)
    velocity = _random_velocity(nodes, grid, amplitude_mm, smoothness_mm, seed)
    spacing = np.array([axis[1] - axis[0] for axis in nodes])
    both = []
    for sign in (1.0, -1.0):
        along_axes = _sample_splines(_integrate(sign * velocity, spacing), nodes, grid)
        if _smallest_determinant(along_axes, grid) <= 0:
            raise ValueError(f"a warp of {amplitude_mm} mm smooth over {smoothness_mm} mm folds")
        world = np.tensordot(grid.direction, along_axes[::-1], axes=1)
        both.append(DisplacementField(world.astype(np.float32), grid))
    return both[0], both[1]


def draw_affine(
    center: NDArray[np.float64],
    seed: int,
    rotation_deg: float = 8.0,
    translation_mm: float = 8.0,
    scale: float = 0.06,
    shear: float = 0.03,
) -> Affine:
    """Draw a pose: stretch about a point, then turn about a random axis, then shift.

    Args:
        center: world point left in place but for the shift, ``(3,)``.
        seed: of the draw.
        rotation_deg: angle of the rotation.
        translation_mm: length of the shift.
        scale: largest relative change of size along an axis.
        shear: largest off-diagonal entry.
    """
    rng = np.random.default_rng(seed)
    axis, shift = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
    stretch = np.diag(1 + rng.uniform(-scale, scale, 3)) + np.triu(rng.uniform(-shear, shear, (3, 3)), 1)
    rotation = Rotation.from_rotvec(axis * np.deg2rad(rotation_deg)).as_matrix()
    return Affine.from_parts(rotation @ stretch, shift * translation_mm, center)


def draw_truth(
    grid: Grid,
    seed: int,
    amplitude_mm: float = 8.0,
    smoothness_mm: float = 15.0,
    affine: Affine | None = None,
) -> Truth:
    """Draw a warp on the fixed grid followed by an affine map (a random pose when None)."""
    warp, unwarp = draw_warp(grid, amplitude_mm, smoothness_mm, seed)
    pose = draw_affine(grid.center, seed) if affine is None else affine
    return Truth(Composite((warp, pose)), Composite((pose.inverse(), unwarp)))


def make_subject_grid(fixed: Grid, truth: Truth, spacing_mm: float | Sequence[float] = 1.0) -> Grid:
    """Return an upright scanner-like grid that holds the whole fixed box as the truth moves it."""
    corners = np.array(np.meshgrid(*[(0.0, n - 1.0) for n in fixed.size])).reshape(3, -1).T
    moved = truth.forward.apply(fixed.to_world(corners))
    low, high = moved.min(axis=0), moved.max(axis=0)
    spacing = np.broadcast_to(np.asarray(spacing_mm, dtype=np.float64), (3,))
    size = np.ceil((high - low) / spacing).astype(int) + 1
    return Grid.from_geometry(size[::-1], spacing.tolist(), low.tolist())


def make_subject(
    source: Image, truth: Truth, grid: Grid, *, seed: int, noise: float = 0.03, bias: float = 0.2
) -> Image:
    """Make the image that the truth aligns with ``source``.

    Args:
        source: a skull-stripped real volume on the fixed grid, zero outside the brain; its labels,
            if any, follow.
        truth: fixed to subject.
        grid: the subject's.
        seed: of noise and bias field.
        noise: standard deviation of the Rician noise, as a part of the 99th percentile.
        bias: the bias field runs from ``exp(-bias)`` to ``exp(bias)``; 0 for none.

    Returns:
        One float32 channel, sampled once with cubic splines, zero outside the brain; mask = brain;
        labels sampled to the nearest.
    """
    rng = np.random.default_rng(seed)
    brain = resample_array(source.channel > 0, source.grid, grid, truth.backward, "nearest")
    values = source.channel.astype(np.float32)
    clean = resample_array(values, source.grid, grid, truth.backward, "cubic")
    shaded = np.clip(clean, 0, values.max()) * _bias_field(grid, bias, rng)
    sigma = noise * float(np.percentile(shaded[brain], 99))
    noisy = np.hypot(shaded + rng.normal(0, sigma, grid.shape), rng.normal(0, sigma, grid.shape))
    labels = source.labels
    if labels is not None:
        labels = resample_array(labels, source.grid, grid, truth.backward, "nearest")
    data = np.where(brain, noisy, 0).astype(np.float32)
    return Image(data[None], grid, brain, labels, source.modality)


def simulate_t2(t1: Image, gray: NDArray[np.float32], white: NDArray[np.float32]) -> Image:
    """Give a T1-weighted brain the contrast of a T2-weighted one.

    Fluid becomes bright, gray matter medium, white matter dark. What the tissue maps do not explain
    of the T1 image, its real texture, is carried over with its sign turned.

    Args:
        t1: skull-stripped T1-weighted brain, zero outside.
        gray: probability of gray matter on the same grid, 0 to 1.
        white: probability of white matter.

    Returns:
        One channel from 0 to about 1, modality ``T2w``.
    """
    brain = t1.channel > 0
    fluid = np.clip(1 - gray - white, 0, 1)
    tissues = np.stack([fluid[brain], gray[brain], white[brain]], axis=1).astype(np.float64)
    intensities = t1.channel[brain].astype(np.float64)
    means, *_ = np.linalg.lstsq(tissues, intensities, rcond=None)
    texture = (intensities - tissues @ means) / intensities.max()
    contrast = np.zeros(t1.grid.shape, dtype=np.float32)
    contrast[brain] = np.maximum(tissues @ np.array([1.0, 0.6, 0.35]) - 0.5 * texture, 0.01)
    return replace(t1.with_data(contrast), modality="T2w")


def _nodes(grid: Grid, step_mm: float) -> list[NDArray[np.float64]]:
    """Node positions along each array axis in mm from the first sample, beyond both ends."""
    axes = []
    for count, spacing in zip(grid.shape, grid.spacing[::-1], strict=True):
        length = (count - 1) * spacing
        steps = max(4, int(np.ceil(length / step_mm)))
        margin = INTERPOLATION_MARGIN
        axes.append(np.arange(-margin, steps + margin + 1) * (length / steps))
    return axes


def _random_velocity(
    nodes: list[NDArray[np.float64]], grid: Grid, amplitude_mm: float, smoothness_mm: float, seed: int
) -> NDArray[np.float64]:
    """Smooth noise on the nodes, components along the array axes in mm, zero at the box's border."""
    rng = np.random.default_rng(seed)
    shape = tuple(len(axis) for axis in nodes)
    sigma = [smoothness_mm / (axis[1] - axis[0]) for axis in nodes]
    velocity = np.stack([gaussian_filter(rng.normal(size=shape), sigma) for _ in shape])
    for number, (axis, count, spacing) in enumerate(zip(nodes, grid.shape, grid.spacing[::-1], strict=True)):
        inside = np.clip(np.minimum(axis, (count - 1) * spacing - axis) / smoothness_mm, 0, 1)
        fade = np.sin(inside * np.pi / 2) ** 2
        velocity *= fade.reshape([-1 if other == number else 1 for other in range(3)])
    return np.asarray(velocity * amplitude_mm / np.linalg.norm(velocity, axis=0).max())


def _integrate(velocity: NDArray[np.float64], spacing: NDArray[np.float64]) -> NDArray[np.float64]:
    """Exponential of a velocity field ``(3, Z, Y, X)`` in mm along the array axes."""
    step = spacing.reshape(3, 1, 1, 1)
    index = np.indices(velocity.shape[1:], dtype=np.float64)
    displacement = velocity / 2**SQUARINGS
    for _ in range(SQUARINGS):
        ends = index + displacement / step
        carried = [map_coordinates(part, ends, order=3, mode="nearest") for part in displacement]
        displacement = displacement + np.stack(carried)
    return displacement


def _sample_splines(
    values: NDArray[np.float64], nodes: list[NDArray[np.float64]], grid: Grid
) -> NDArray[np.float64]:
    """Evaluate the tensor product of interpolating cubic splines at the grid's samples."""
    for axis, (knots, count, spacing) in enumerate(
        zip(nodes, grid.shape, grid.spacing[::-1], strict=True), start=1
    ):
        values = make_interp_spline(knots, values, k=3, axis=axis)(np.arange(count) * spacing)
    return values


def _smallest_determinant(displacement: NDArray[np.float64], grid: Grid) -> float:
    """Smallest Jacobian determinant of a displacement along the array axes in mm."""
    steps = grid.spacing[::-1]
    rows = [np.stack(np.gradient(part, *steps)) for part in displacement.astype(np.float32)]
    for axis, row in enumerate(rows):
        row[axis] += 1
    return float(np.einsum("i...,i...->...", rows[0], np.cross(rows[1], rows[2], axis=0)).min())


def _bias_field(grid: Grid, strength: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A product of slow waves, one period over twice the field of view, of random phase."""
    field = np.ones(grid.shape, dtype=np.float32)
    for axis, count in enumerate(grid.shape):
        wave = np.cos(np.pi * np.arange(count) / count + rng.uniform(0, 2 * np.pi))
        field = field * wave.reshape([-1 if other == axis else 1 for other in range(3)]).astype(np.float32)
    return np.asarray(np.exp(strength * field / np.abs(field).max()))
