"""Pairs that begin nearly aligned and share hardly any intensities: the end is no worse than the start."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.local_fit import SURE_SIGMAS, WindowEvidence
from regflow.core.transform import Affine, Transform
from regflow.datasets.ultrasound import (
    GLAND,
    PELVIS,
    draw_pelvis,
    place_pelvis_probe,
    simulate_t2_weighted,
    simulate_ultrasound,
)
from regflow.stages.volumes.initialize import EXAMINED_ACROSS, align_volumes
from regflow.stages.volumes.refine import deform_volumes

SPACING_MM = 2.0
START_MM = 4.0
START_DEGREES = 4.0
NOISE_MM = 0.5
"""By how much an end may be farther from the truth than its start."""
SETTINGS = {"methods": ["mutual-information"]}
PAIRS = 4


def cube(size_mm: tuple[float, float, float], center: np.ndarray, spacing: float = SPACING_MM) -> Grid:
    size = [round(length / spacing) for length in size_mm]
    origin = center - (np.array(size) - 1) / 2 * spacing
    return Grid.from_geometry(size, (spacing,) * 3, origin.tolist())


class Pelvis:
    """The MR and the ultrasound of a pelvis, the latter's header moved by a known pose."""

    def __init__(self, seed: int) -> None:
        grid = cube((110, 100, 100), np.zeros(3))
        labels = draw_pelvis(grid, seed)
        probe = place_pelvis_probe(grid, box=seed % 2 == 1)
        painted = simulate_ultrasound(
            labels, grid, PELVIS, probe, cube((66, 58, 54), np.array([0, -3.0, 0])), seed
        )
        axis, way = (v / np.linalg.norm(v) for v in np.random.default_rng(seed).normal(size=(2, 3)))
        turn = Rotation.from_rotvec(np.deg2rad(START_DEGREES) * axis).as_matrix()
        self.truth = Affine.from_parts(turn, START_MM * way, grid.center)
        self.fixed = simulate_t2_weighted(labels, grid, PELVIS, seed)
        header = Grid(painted.grid.shape, self.truth.matrix @ painted.grid.affine)
        self.moving = Image(painted.data, header, painted.mask, modality="US")
        self._gland = grid.to_world(np.argwhere(np.isin(labels, GLAND))[::20, ::-1])

    def error_mm(self, found: Transform) -> float:
        """Return the mean distance from the truth inside the gland."""
        return float(np.linalg.norm(found.apply(self._gland) - self.truth.apply(self._gland), axis=1).mean())


@pytest.fixture(scope="module", params=range(PAIRS))
def pair(request) -> Pelvis:
    return Pelvis(request.param)


def test_an_ultrasound_ends_no_farther_from_the_truth_than_it_began(pair):
    start = pair.error_mm(Affine.identity(3))
    assert 3 < start < 5
    found = align_volumes(pair.fixed, pair.moving, SETTINGS, threads=2)
    assert isinstance(found.transform, Affine)
    assert np.linalg.det(found.transform.linear) > 0
    assert pair.error_mm(found.transform) <= start + NOISE_MM
    if found.kept:
        assert found.verdict.status in ("warn", "fail")
        assert "header, which stands" in found.verdict.reason


def test_a_deformation_that_climbs_on_speckle_is_rejected():
    pair = Pelvis(0)
    found = deform_volumes(
        pair.fixed, pair.moving, pair.truth, {"methods": ["greedy"]}, doubted=True, threads=2
    )
    assert pair.error_mm(found.forward) <= NOISE_MM
    assert (found.ladder.kept, found.ladder.verdict.status) == (True, "warn")
    assert "greedy: doubted_gain_sigmas is" in found.ladder.verdict.reason


def test_local_evidence_prefers_the_truth_and_no_place_farther_off(pair):
    evidence = WindowEvidence(pair.fixed, pair.moving, Affine.identity(3), EXAMINED_ACROSS)

    def gain(transform: Affine) -> float:
        return evidence.measure_gain(transform)["gain_sigmas"]

    assert gain(pair.truth) > 0
    for way in np.concatenate([np.eye(3), -np.eye(3)]):
        away = Affine(Affine.from_parts(np.eye(3), 10.0 * way).matrix @ pair.truth.matrix)
        assert gain(away) < gain(pair.truth)
        assert gain(away) < SURE_SIGMAS
