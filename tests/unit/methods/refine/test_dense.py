"""The dense refiner: chunks, blending, and a local distortion that tie points cannot follow."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from known_scenes import COLS, ROWS, error_px, fixed, moving, red

from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine
from regflow.datasets import packaged as realdata
from regflow.datasets.scenes import draw_waves, move_scene
from regflow.io.rasters import read_window
from regflow.methods.context import RunContext
from regflow.methods.refine import METHODS
from regflow.methods.refine.dense import ENGINES, add_chunk, dense, split_chunks, warp_scene_window
from regflow.methods.refine.weights import NetworkDescription, build_network, save_weights

IDENTITY = Affine.identity(2)


def run(one, other, threads=2, **given):
    return dense(one, other, IDENTITY, METHODS["dense"].complete(given), RunContext(threads)).transform


@pytest.mark.parametrize("shape", [(1000, 700), (97, 1030)])
@pytest.mark.parametrize("step", [1, 3, 4])
def test_chunks_of_a_common_field_join_without_a_seam(shape, step):
    rows, cols = np.indices(shape)
    whole = np.stack([np.sin(rows / 50) + cols / 100, np.cos(cols / 70)])
    nodes = tuple(-(-(n - 1) // step) + 1 for n in shape)
    field, weights = np.zeros((2, *nodes)), np.zeros(nodes)
    for chunk in split_chunks(shape, 300, 40):
        add_chunk(field, weights, chunk, whole[:, chunk.outer[0], chunk.outer[1]], step, shape)
    assert weights.min() > 0
    at = [np.minimum(np.arange(n) * step, size - 1) for n, size in zip(nodes, shape, strict=True)]
    np.testing.assert_allclose(field / weights, whole[:, at[0][:, None], at[1][None, :]], atol=1e-12)


def test_the_weights_of_neighbors_add_up_to_one_and_change_smoothly():
    weights, field = np.zeros((200, 600)), np.zeros((2, 200, 600))
    parts = []
    for chunk in split_chunks((200, 600), 200, 50):
        before = weights.copy()
        add_chunk(field, weights, chunk, None, 1, (200, 600))
        parts.append(weights - before)
    np.testing.assert_allclose(sum(parts), 1, atol=1e-12)
    assert max(np.abs(np.diff(part, axis=1)).max() for part in parts) < 0.02


def test_a_local_distortion_is_followed():
    grid = fixed().grid
    local = draw_waves(grid, 1.0, 60.0, seed=8)
    moved = move_scene(red(), grid, local, grid)
    other = Image(np.nan_to_num(moved)[None], grid, np.isfinite(moved))
    found = run(fixed(), other, chunk_px=320, halo_px=48)
    axes = np.arange(40, COLS - 40, 5.0), np.arange(40, ROWS - 40, 5.0)
    points = grid.to_world(np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2))
    before = np.linalg.norm(local.apply(points) - points, axis=1) / 10
    after = np.linalg.norm(found.apply(points) - local.apply(points), axis=1) / 10
    assert np.sqrt((after**2).mean()) < 0.5 * np.sqrt((before**2).mean())


def test_no_bit_depends_on_how_many_chunks_are_refined_at_once():
    points = fixed().grid.to_world(np.random.default_rng(0).uniform(0, min(ROWS, COLS), (500, 2)))
    quick = {"shrink": [2], "iterations": [5], "radius": [4], "update_sigma": [4.0], "field_sigma": [0.5]}
    given = {"chunk_px": 256, "halo_px": 32, "engine_options": quick, "tie_points": None}
    found = [run(fixed(), moving(), threads, **given).apply(points) for threads in (1, 3)]
    assert np.abs(found[0] - points).max() > 0.1
    assert np.array_equal(*found)


def test_a_smooth_displacement_stays_as_good_as_the_tie_points_leave_it():
    found = run(fixed(), moving())
    assert np.sqrt((error_px(found, 24) ** 2).mean()) < 0.15


def test_the_moving_scene_is_brought_where_the_transform_says():
    shift = Affine.from_parts(np.eye(2), (30.0, -20.0))
    window = slice(100, 140), slice(200, 260)
    values, seen = warp_scene_window(fixed().grid, fixed(), shift, window)
    assert seen.all()
    np.testing.assert_allclose(values, red()[102:142, 203:263], rtol=1e-4)
    outside, none = warp_scene_window(fixed().grid, fixed(), Affine.from_parts(np.eye(2), (1e6, 0)), window)
    assert outside.shape == (40, 60)
    assert not none.any()


def test_an_engine_is_told_what_either_scene_lacks(monkeypatch):
    told = []

    def refine(one, other, valid, options, context):
        told.append(valid)
        return np.zeros((2, *valid.shape), np.float32)

    monkeypatch.setitem(ENGINES, "greedy", refine)
    lacks = {"fixed": (slice(50, 90), slice(60, 200)), "moving": (slice(300, 340), slice(100, 180))}
    scenes = {"fixed": fixed(), "moving": moving()}
    for name, hole in lacks.items():
        mask = np.ones((ROWS, COLS), bool)
        mask[hole] = False
        scenes[name] = replace(scenes[name], mask=mask)
    run(scenes["fixed"], scenes["moving"], chunk_px=4096, tie_points=None)
    assert [(~valid).sum() for valid in told] == [40 * 140 + 40 * 80]
    assert not told[0][lacks["fixed"]].any()
    assert not told[0][lacks["moving"]].any()


def test_scenes_without_common_pixels_are_one_sentence():
    empty = replace(moving(), mask=np.zeros((ROWS, COLS), bool))
    with pytest.raises(RegistrationError, match="too few valid pixels"):
        run(fixed(), empty)


def weights_that_answer(path, shift):
    """Write a network that answers with one velocity, in pixels, whatever it sees."""
    described = NetworkDescription(
        ndim=2,
        channels=(4, 4, 4, 4),
        unet_out_channels=4,
        final_channels=(4,),
        spacing=1.0,
        intensity={"method": "percentile", "low": 1.0, "high": 99.0},
        half_resolution=False,
        fold=2,
    )
    network = build_network(described)
    last = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor(shift) / described.fold)
    save_weights(path, network, described)
    return str(path)


def shifted(shift):
    """Return the fixed scene moved by rows and columns."""
    data = np.roll(red(), shift, axis=(0, 1))
    return Image(data[None], fixed().grid, np.ones(data.shape, bool))


NETWORK = {"engine": "voxelmorph", "tie_points": None, "chunk_px": 320, "halo_px": 48}


def test_chunks_are_answered_by_a_network(tmp_path):
    path = weights_that_answer(tmp_path / "shift.safetensors", (2.0, -3.0))
    asked = {"weights": path, "symmetric": False, "device": "cpu", "refinement": "none"}
    found = run(fixed(), shifted((2, -3)), **NETWORK, engine_options=asked)
    points = fixed().grid.center[None]
    np.testing.assert_allclose(found.apply(points) - points, [[-30.0, -20.0]], atol=1e-3)


def test_an_answer_that_worsens_a_chunk_is_left_out(tmp_path):
    path = weights_that_answer(tmp_path / "shift.safetensors", (2.0, -3.0))
    asked = {"weights": path, "symmetric": False, "device": "cpu", "refinement": "none"}
    with pytest.raises(RegistrationError):
        run(fixed(), shifted((-2, 3)), **NETWORK, engine_options=asked)


def test_a_refined_answer_does_not_depend_on_threads(tmp_path):
    path = weights_that_answer(tmp_path / "shift.safetensors", (1.5, -2.5))
    asked = {"weights": path, "symmetric": False, "device": "cpu", "refinement": "greedy"}
    other = shifted((2, -3))
    points = fixed().grid.to_world(
        np.stack(np.meshgrid(np.arange(40.0, 500, 9), np.arange(40.0, 500, 9)), -1)
    )
    points = points.reshape(-1, 2)
    one, two = (
        run(fixed(), other, threads, **NETWORK, engine_options=asked).apply(points) for threads in (1, 2)
    )
    np.testing.assert_array_equal(one, two)
    left = np.linalg.norm(one - points - [-30.0, -20.0], axis=1) / 10
    assert np.median(left) < 0.2


def test_the_shipped_network_follows_a_warp_between_bands_that_it_never_saw():
    path = realdata.locate_source("landsat-utah")
    if path is None:
        pytest.skip("localtileserver is not installed")
    red_band, infrared = read_window(path, [3, 4], slice(600, 920), slice(300, 620))[0].astype(np.float32)
    grid = Grid((320, 320), fixed().grid.affine, "EPSG:32612")
    truth = draw_waves(grid, 5.0, 120.0, seed=4)
    moved = move_scene(infrared, grid, truth, grid)
    one = Image(red_band[None], grid, np.ones(grid.shape, bool))
    other = Image(np.nan_to_num(moved)[None], grid, np.isfinite(moved))
    found = run(one, other, engine="voxelmorph", tie_points=None, engine_options={"device": "cpu"})
    axes = np.arange(30.0, 290, 7)
    points = grid.to_world(np.stack(np.meshgrid(axes, axes), axis=-1).reshape(-1, 2))
    before = np.linalg.norm(truth.apply(points) - points, axis=1).mean()
    after = np.linalg.norm(truth.apply(points) - found.apply(points), axis=1).mean()
    assert after < 0.3 * before
