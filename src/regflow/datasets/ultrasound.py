"""A T2-weighted MR and an ultrasound of one anatomy, both painted from its label map.

Tests and benchmarks measure with them what a registration does to a pair that begins nearly aligned:
two images that share borders but hardly any intensities, one of them in a small field of view.

The ultrasound follows the beams of a probe. Each border reflects what the impedance changes along the
beam, so that borders across it are bright and those along it are lost; what a border reflects and a
tissue absorbs is missing behind (shadows); scatterers smaller than the pulse interfere (speckle, a
Rayleigh amplitude); the amplitude is shown in decibels. Sources: Wein et al., Medical Image Analysis
12(5):577-585, 2008 (reflection and transmission along beams); Wagner et al., IEEE Trans. Sonics and
Ultrasonics 30(3):156-163, 1983 (speckle). Tissues are of the magnitude that Hasgall et al., IT'IS
Foundation database of tissue properties, 2022, give.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from regflow.core.grid import Grid
from regflow.core.image import Image

Array = NDArray[np.float64]

DEPTH_STEP_MM = 0.4
PLANE_STEP_MM = 1.0
BEAMS = 128
PULSE_MM = 0.35
BEAM_WIDTH_MM = 0.9
"""Standard deviations of the speckle's grain along the beam and across it."""
ECHO_OF_BORDERS = 60.0
"""Brightness of a border that reflects everything, when that of the brightest scatterers is 1."""
SHADOW = 12.0
"""How much of the beam a border takes away, in units of what it reflects."""
DYNAMIC_RANGE_DB = 55.0


@dataclass(frozen=True)
class Tissue:
    """What one label looks like.

    Attributes:
        t2: brightness in the MR, 0 to 1.
        scatter: amplitude of what its scatterers send back, 0 to 1.
        impedance_mrayl: acoustic impedance.
        absorption_db_cm: what is left over after the scanner's compensation for depth, both ways.
    """

    t2: float
    scatter: float
    impedance_mrayl: float
    absorption_db_cm: float = 0.0


PELVIS: tuple[Tissue, ...] = (
    Tissue(0.75, 0.45, 1.38),
    Tissue(0.25, 0.25, 1.69),
    Tissue(0.08, 0.50, 4.50, 25.0),
    Tissue(1.00, 0.01, 1.52),
    Tissue(0.42, 0.22, 1.62),
    Tissue(0.80, 0.32, 1.66),
    Tissue(0.35, 0.15, 1.71),
    Tissue(0.60, 0.08, 1.56),
)
"""By the labels of :func:`draw_pelvis`: fat, muscle, bone, bladder, transition zone, peripheral zone, wall
of the rectum, urethra."""
GLAND = (4, 5, 7)
"""Labels of the prostate."""


@dataclass(frozen=True, eq=False)
class UltrasoundProbe:
    """A probe at ``apex`` that sends beams toward ``-y`` (anterior) in planes along ``z``.

    Attributes:
        apex: LPS millimeters of the middle of its face, ``(3,)``.
        depth_mm: how far beams reach.
        length_mm: of the planes along ``z``.
        half_angle_degrees: a sector's beams fan out so far to either side; 0 for the parallel beams
            of a box.
        width_mm: of a box; a sector's face has this radius.
    """

    apex: Array
    depth_mm: float
    length_mm: float
    half_angle_degrees: float
    width_mm: float

    def compute_points(self) -> tuple[Array, Array]:
        """Return world points ``(planes, beams, depths, 3)`` and the distance of neighboring beams, mm."""
        along_z = _ticks(self.length_mm, PLANE_STEP_MM) - self.length_mm / 2
        depths = _ticks(self.depth_mm, DEPTH_STEP_MM)
        side = np.linspace(-1, 1, BEAMS)
        if self.half_angle_degrees:
            angles = np.deg2rad(self.half_angle_degrees) * side
            radii = self.width_mm + depths
            x, y = np.sin(angles)[:, None] * radii, self.width_mm - np.cos(angles)[:, None] * radii
            apart = radii * (angles[1] - angles[0])
        else:
            x = np.repeat(side[:, None] * self.width_mm / 2, len(depths), axis=1)
            y = np.repeat(-depths[None], BEAMS, axis=0)
            apart = np.full(len(depths), self.width_mm / (BEAMS - 1))
        shape = (len(along_z), *x.shape)
        points = np.stack([np.broadcast_to(part, shape) for part in (x, y, along_z[:, None, None])], axis=-1)
        return points + self.apex, apart

    def to_index(self, points: Array) -> Array:
        """Return indices ``(3, ...)`` of world points ``(..., 3)`` in :meth:`compute_points`."""
        x, y, z = np.moveaxis(points - self.apex, -1, 0)
        if self.half_angle_degrees:
            ahead = self.width_mm - y
            beam = np.arctan2(x, ahead) / np.deg2rad(self.half_angle_degrees)
            depth = np.hypot(x, ahead) - self.width_mm
        else:
            beam, depth = 2 * x / self.width_mm, -y
        planes = (z + self.length_mm / 2) / PLANE_STEP_MM
        return np.stack([planes, (beam + 1) * (BEAMS - 1) / 2, depth / DEPTH_STEP_MM])


def draw_pelvis(grid: Grid, seed: int) -> NDArray[np.int16]:
    """Draw a male pelvis about the grid's center: labels as of :data:`PELVIS`, ``grid.shape``.

    Sizes, places and outlines vary with the seed.
    """
    rng = np.random.default_rng(seed)
    x, y, z = np.moveaxis(_points(grid) - grid.center, -1, 0)
    step = grid.spacing[::-1]
    bends = [gaussian_filter(rng.standard_normal(grid.shape), 9 / step) for _ in range(3)]
    x, y, z = (axis + 2.5 * bend / bend.std() for axis, bend in zip((x, y, z), bends, strict=True))
    size = rng.uniform(0.9, 1.15, 3)

    def inside(center: tuple[float, float, float], radii: tuple[float, float, float]) -> NDArray[np.bool_]:
        parts = zip((x, y, z), center, radii, strict=True)
        return np.asarray(sum(((axis - at) / radius) ** 2 for axis, at, radius in parts) < 1)

    labels = np.zeros(grid.shape, np.int16)
    wide, deep, high = 24 * size[0], 16 * size[1], 20 * size[2]
    for side in (-1, 1):
        labels[inside((side * 38, 2, -4), (12, 26, 45))] = 1
        labels[inside((side * 22, -32, 0), (17, 8, 14))] = 2
    labels[inside((0, -10, 34), (28, 20, 17))] = 3
    labels[inside((0, 0, 0), (wide, deep, high))] = 5
    labels[inside((0, -4, 3), (0.68 * wide, 0.68 * deep, 0.72 * high))] = 4
    labels[inside((0, -3, 5), (2.5, 2.5, 14))] = 7
    rectum = (x / 17) ** 2 + ((y - deep - 14) / 12) ** 2
    labels[(rectum < 1) & (rectum > 0.6)] = 6
    return labels


def place_pelvis_probe(grid: Grid, *, box: bool = False) -> UltrasoundProbe:
    """Return a probe in the rectum of :func:`draw_pelvis`: a sector's, or the parallel beams of a box."""
    apex = grid.center + np.array([0.0, 22.0, 0.0])
    return (
        UltrasoundProbe(apex, 46.0, 44.0, 0.0, 52.0) if box else UltrasoundProbe(apex, 50.0, 46.0, 62.0, 8.0)
    )


def simulate_t2_weighted(
    labels: NDArray[np.integer], grid: Grid, tissues: tuple[Tissue, ...], seed: int, noise: float = 0.04
) -> Image:
    """Paint the MR of a label map: float32, blurred by two thirds of a sample, with noise."""
    rng = np.random.default_rng(seed)
    means = np.array([tissue.t2 for tissue in tissues])
    clean = gaussian_filter(means[labels], 0.65)
    grain = gaussian_filter(rng.standard_normal(grid.shape), 1.2)
    values = clean * (1 + 0.06 * grain / grain.std()) + noise * rng.standard_normal(grid.shape)
    return Image((400 * np.abs(values)).astype(np.float32)[None], grid, modality="T2w")


def simulate_ultrasound(
    labels: NDArray[np.integer],
    source: Grid,
    tissues: tuple[Tissue, ...],
    probe: UltrasoundProbe,
    target: Grid,
    seed: int,
) -> Image:
    """Paint the ultrasound of a label map.

    Args:
        labels: ``source.shape``, indices into ``tissues``.
        source: their grid.
        tissues: what they look like.
        probe: whose beams are followed.
        target: grid of the image.
        seed: of the speckle.

    Returns:
        Float32 decibels above the darkest shade shown, 0 outside the field of view; the mask is the
        field of view.
    """
    rng = np.random.default_rng(seed)
    places, apart = probe.compute_points()
    at = np.moveaxis(source.to_index(places.reshape(-1, 3)).reshape(places.shape), -1, 0)[::-1]
    seen = map_coordinates(labels, at, order=0, mode="nearest")
    scatter, impedance, absorption = (
        np.array([getattr(tissue, name) for tissue in tissues])[seen]
        for name in ("scatter", "impedance_mrayl", "absorption_db_cm")
    )
    reflected, facing = _reflections(impedance, apart)
    lost = SHADOW * reflected + absorption * (DEPTH_STEP_MM / 10) * np.log(10) / 20
    left = np.exp(-np.cumsum(lost, axis=-1))
    speckle = _speckle(seen.shape, apart, rng)
    amplitude = left * (scatter * speckle + ECHO_OF_BORDERS * reflected * facing * (0.4 + 0.6 * speckle))
    decibels = 20 * np.log10(np.maximum(amplitude, 1e-6)) + DYNAMIC_RANGE_DB - 10
    shown = np.clip(decibels, 0, DYNAMIC_RANGE_DB)
    index = probe.to_index(_points(target))
    inside = np.all((index >= 0) & (index <= np.array(shown.shape)[:, None, None, None] - 1), axis=0)
    values = np.where(inside, map_coordinates(shown, index, order=1), 0).astype(np.float32)
    return Image(values[None], target, inside, modality="US")


def _reflections(impedance: Array, apart: Array) -> tuple[Array, Array]:
    """Return the share of the amplitude that borders reflect, and how much they face the beam, 0 to 1."""
    smooth = gaussian_filter(impedance, (0.7, 1.0, 1.0))
    along = np.gradient(smooth, axis=-1) / DEPTH_STEP_MM
    across = np.gradient(smooth, axis=1) / apart
    between = np.gradient(smooth, axis=0) / PLANE_STEP_MM
    facing = np.abs(along) / np.maximum(np.sqrt(along**2 + across**2 + between**2), 1e-9)
    return (np.abs(along) * DEPTH_STEP_MM / (2 * smooth)) ** 1.5, facing**2


def _speckle(shape: tuple[int, ...], apart: Array, rng: np.random.Generator) -> Array:
    """Return amplitudes of mean square 1: those of many scatterers within the pulse."""
    grain = (BEAM_WIDTH_MM / PLANE_STEP_MM, BEAM_WIDTH_MM / float(apart.mean()), PULSE_MM / DEPTH_STEP_MM)
    real, imaginary = (gaussian_filter(rng.standard_normal(shape), grain) for _ in range(2))
    amplitude = np.hypot(real, imaginary)
    return np.asarray(amplitude / np.sqrt((amplitude**2).mean()))


def _points(grid: Grid) -> Array:
    """Return the world points of all samples, ``(*shape, d)``."""
    index = np.moveaxis(np.indices(grid.shape)[::-1], 0, -1)
    return np.asarray(grid.to_world(index.reshape(-1, grid.ndim)).reshape(index.shape))


def _ticks(length: float, step: float) -> Array:
    return np.arange(round(length / step) + 1, dtype=np.float64) * step
