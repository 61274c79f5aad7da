"""A lesion that the moving mask cuts out: the deformation leaves it alone, an intact mask changes nothing."""

import logging
from typing import Any

import numpy as np
import pytest

from regflow.core.image import Image
from regflow.core.resample import resample_image
from regflow.core.transform import Affine, DisplacementField
from regflow.datasets.subjects import draw_warp
from regflow.methods.context import RunContext
from regflow.methods.refine import METHODS
from regflow.methods.refine.greedy import greedy

CAVITY_MM = (24.0, 30.0, 20.0)
AWAY_MM = (8.0, -6.0, -34.0)
"""Semi-axes along z, y and x of a large stroke's cavity within one hemisphere, and its place."""


class Stroke:
    """A bent brain with a dark cavity, its mask with and without a hole there."""

    def __init__(self, fixed: Image) -> None:
        self.fixed = fixed
        self.bend, back = draw_warp(fixed.grid, amplitude_mm=8, smoothness_mm=16, seed=1)
        self.intact = resample_image(fixed, fixed.grid, back)
        brain = self.intact.mask
        assert brain is not None
        middle = fixed.grid.to_index(fixed.grid.center)[::-1]
        places = (np.moveaxis(np.indices(brain.shape), 0, -1) - middle) * fixed.grid.spacing[::-1]
        cavity = (((places - AWAY_MM) / CAVITY_MM) ** 2).sum(axis=-1) < 1
        self.cavity = cavity & brain
        values = np.where(self.cavity, 0.12 * self.intact.channel.max(), self.intact.channel)
        self.moving = self.intact.with_data(values.astype(np.float32)).with_mask(brain & ~cavity)
        self._points = fixed.grid.to_world(np.argwhere(fixed.mask)[::11, ::-1])

    def error_mm(self, masks: str) -> float:
        found = run(self.fixed, self.moving, masks)
        there = self.bend.apply(self._points)
        return float(np.linalg.norm(found.apply(self._points) - there, axis=1).mean())


def run(fixed: Image, moving: Image, masks: str) -> Any:
    options = METHODS["greedy"].complete({"masks": masks, "device": "cpu"})
    return greedy(fixed, moving, Affine.identity(3), options, RunContext(threads=2))


@pytest.fixture(scope="module")
def stroke(mni_4mm) -> Stroke:
    return Stroke(mni_4mm)


def test_the_default_leaves_a_cut_out_cavity_alone_and_keeps_the_metric(stroke, caplog):
    caplog.set_level(logging.INFO, logger="regflow")
    assert METHODS["greedy"].options["masks"]["default"] == "auto"
    found = stroke.error_mm("auto")
    assert "metric lncc" in caplog.text
    assert found < 0.8 * stroke.error_mm("fixed")
    assert found < 1.1 * stroke.error_mm("both")


def test_a_mask_without_a_hole_steers_as_before(stroke):
    fields = []
    for masks in ("auto", "fixed"):
        field = run(stroke.fixed, stroke.intact, masks).parts[0]
        assert isinstance(field, DisplacementField)
        fields.append(field.vectors)
    np.testing.assert_array_equal(*fields)
