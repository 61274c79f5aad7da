"""The dense refiner: chunks, blending, and a local distortion that tie points cannot follow."""

from dataclasses import replace

import numpy as np
import pytest
from known_scenes import COLS, ROWS, error_px, fixed, moving, red

from regflow.core.errors import RegistrationError
from regflow.core.image import Image
from regflow.core.transform import Affine
from regflow.methods.refine import METHODS
from regflow.methods.refine.dense import add, bring, chunks, dense
from regflow.synthetic_scenes import moved_scene, random_waves

IDENTITY = Affine.identity(2)


def run(one, other, **given):
    shared = {"threads": 2, "seed": 0}
    return dense(one, other, IDENTITY, {**METHODS["dense"].complete(given), **shared})


@pytest.mark.parametrize("shape", [(1000, 700), (97, 1030)])
@pytest.mark.parametrize("step", [1, 3, 4])
def test_chunks_of_a_common_field_join_without_a_seam(shape, step):
    rows, cols = np.indices(shape)
    whole = np.stack([np.sin(rows / 50) + cols / 100, np.cos(cols / 70)])
    nodes = tuple(-(-(n - 1) // step) + 1 for n in shape)
    field, weights = np.zeros((2, *nodes)), np.zeros(nodes)
    for chunk in chunks(shape, 300, 40):
        add(field, weights, chunk, whole[:, chunk.outer[0], chunk.outer[1]], step, shape)
    assert weights.min() > 0
    at = [np.minimum(np.arange(n) * step, size - 1) for n, size in zip(nodes, shape, strict=True)]
    np.testing.assert_allclose(field / weights, whole[:, at[0][:, None], at[1][None, :]], atol=1e-12)


def test_the_weights_of_neighbors_add_up_to_one_and_change_smoothly():
    weights, field = np.zeros((200, 600)), np.zeros((2, 200, 600))
    parts = []
    for chunk in chunks((200, 600), 200, 50):
        before = weights.copy()
        add(field, weights, chunk, None, 1, (200, 600))
        parts.append(weights - before)
    np.testing.assert_allclose(sum(parts), 1, atol=1e-12)
    assert max(np.abs(np.diff(part, axis=1)).max() for part in parts) < 0.02


def test_a_local_distortion_is_followed():
    grid = fixed().grid
    local = random_waves(grid, 1.0, 60.0, seed=8)
    moved = moved_scene(red(), grid, local, grid)
    other = Image(np.nan_to_num(moved)[None], grid, np.isfinite(moved))
    found = run(fixed(), other, chunk_px=320, halo_px=48)
    axes = np.arange(40, COLS - 40, 5.0), np.arange(40, ROWS - 40, 5.0)
    points = grid.to_world(np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2))
    before = np.linalg.norm(local.apply(points) - points, axis=1) / 10
    after = np.linalg.norm(found.apply(points) - local.apply(points), axis=1) / 10
    assert np.sqrt((after**2).mean()) < 0.5 * np.sqrt((before**2).mean())


def test_a_smooth_displacement_stays_as_good_as_the_tie_points_leave_it():
    found = run(fixed(), moving())
    assert np.sqrt((error_px(found, 24) ** 2).mean()) < 0.15


def test_the_moving_scene_is_brought_where_the_transform_says():
    shift = Affine.from_parts(np.eye(2), (30.0, -20.0))
    window = slice(100, 140), slice(200, 260)
    values, seen = bring(fixed().grid, fixed(), shift, window)
    assert seen.all()
    np.testing.assert_allclose(values, red()[102:142, 203:263], rtol=1e-4)
    outside, none = bring(fixed().grid, fixed(), Affine.from_parts(np.eye(2), (1e6, 0)), window)
    assert outside.shape == (40, 60)
    assert not none.any()


def test_scenes_without_common_pixels_are_one_sentence():
    empty = replace(moving(), mask=np.zeros((ROWS, COLS), bool))
    with pytest.raises(RegistrationError, match="too few valid pixels"):
        run(fixed(), empty)
