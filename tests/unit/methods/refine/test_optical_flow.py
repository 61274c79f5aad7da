"""Optical flow follows small motion between frames."""

from dataclasses import replace

import numpy as np
import pytest
from known_scenes import COLS, ROWS, fixed, red

from regflow.core.image import Image
from regflow.core.transform import Affine, list_displacement_fields
from regflow.datasets.scenes import draw_waves, move_scene
from regflow.methods.context import RunContext
from regflow.methods.refine import METHODS

SIDE = 240


def frames():
    """A part of a real band and the same moved by up to 1.5 pixels, brighter."""
    still = fixed()
    grid = replace(still.grid, shape=(SIDE, SIDE))
    waves = draw_waves(grid, 1.5, 150.0, seed=4)
    values = red()[:SIDE, :SIDE]
    moved = move_scene(values, grid, waves, grid, gain=1.4, offset=50.0)
    seen = np.isfinite(moved)
    return Image(values[None], grid), Image(np.nan_to_num(moved)[None], grid, seen), waves


def run(one, other, threads=2, **given):
    row = METHODS["optical-flow"]
    return row.load()(one, other, Affine.identity(2), row.complete(given), RunContext(threads))


@pytest.mark.parametrize("engine", ["tv-l1", "dis"])
def test_small_motion_is_followed(engine):
    assert min(ROWS, COLS) > SIDE
    one, other, waves = frames()
    axes = np.arange(12, SIDE - 12, 4.0)
    points = one.grid.to_world(np.stack(np.meshgrid(axes, axes), axis=-1).reshape(-1, 2))
    truth = waves.apply(points)
    before = np.linalg.norm(truth - points, axis=1).mean()
    found = run(one, other, engine=engine)
    assert np.linalg.norm(found.apply(points) - truth, axis=1).mean() < 0.25 * before
    again = run(one, other, threads=1, engine=engine)
    first, second = (list_displacement_fields(each)[0].vectors for each in (found, again))
    assert first.tobytes() == second.tobytes()
