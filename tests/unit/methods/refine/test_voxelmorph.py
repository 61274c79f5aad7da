"""Registration by a trained network: the path from a weights file to a transform.

The network is a small one, trained here for some seconds on slices of a real brain.
"""

import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch_bytes import across_threads
from warped_slices import SPACING_MM, random_velocity, slices, warped_pair

from regflow.core import fields
from regflow.core.devices import open_torch_session
from regflow.core.errors import InputError, RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.resample import coarsen_image, resample_array
from regflow.core.transform import Affine, Composite, Transform, measure_inverse_error
from regflow.datasets import subjects as synthetic
from regflow.examples import volumes as demo
from regflow.methods.context import Pair, RunContext
from regflow.methods.refine import METHODS, losses_torch, velocity_torch
from regflow.methods.refine.network import normalize_intensity, predict_velocity
from regflow.methods.refine.voxelmorph import (
    InferencePlan,
    _efforts,
    _level,
    _passes,
    predict_in_passes,
    predict_pairs,
    predict_velocities,
    voxelmorph,
)
from regflow.methods.refine.weights import (
    NetworkDescription,
    build_network,
    load_network,
    save_weights,
)
from regflow.methods.refine.weights_files import SHIPPED, find_weights
from regflow.methods.refine.working import make_working_grid
from regflow.methods.used_networks import find_used_networks

FLAT = NetworkDescription(
    ndim=2,
    channels=(16, 16, 16, 16),
    unet_out_channels=16,
    final_channels=(16,),
    spacing=SPACING_MM,
    intensity={"method": "percentile", "low": 0.0, "high": 100.0},
    masked=True,
)
SOLID = replace(FLAT, ndim=3, channels=(8, 8, 8, 8), unet_out_channels=8, final_channels=(8,))
CPU = torch.device("cpu")


def options(**given: Any) -> dict[str, Any]:
    shared = {"device": "cpu", "passes": "all"}
    return {**METHODS["voxelmorph"].complete({}), **shared, **given}


def effort(description: NetworkDescription, batch: int = 1) -> InferencePlan:
    return InferencePlan(batch, description.spacing, CPU)


def predict(
    network: Any, description: NetworkDescription, pair: tuple[Image, Image], given: dict[str, Any]
) -> torch.Tensor:
    """Ask once about a pair on one grid."""
    level = _level(Pair(*pair, Affine.identity(description.ndim)), grid_spacing(pair), description, CPU)
    return predict_velocities(network, description, [level], [None], effort(description), given)[0]


def grid_spacing(pair: tuple[Image, Image]) -> float:
    return float(pair[0].grid.spacing[0])


def ask_one(
    network: Any,
    description: NetworkDescription,
    pair: tuple[Image, Image],
    initial: Transform,
    given: dict[str, Any],
) -> Composite:
    return predict_in_passes(network, description, [Pair(*pair, initial)], effort(description), given)[
        0
    ].transform


@pytest.fixture(scope="module")
def trained(mni_4mm: Image, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """A network trained on the even slices under random warps, as a file, and its losses."""
    path = tmp_path_factory.mktemp("weights") / "slices.safetensors"
    # Small tensors: on a busy machine further threads wait for each other most of the time.
    with open_torch_session(threads=1, seed=0):
        network, history = train(torch.from_numpy(np.stack(slices(mni_4mm)[::2])[:, None]))
    save_weights(path, network, FLAT)
    return path, history


def train(images: torch.Tensor) -> tuple[torch.nn.Module, list[float]]:
    """Train without truth; a loss is the squared difference left, as a part of what there was."""
    network = build_network(FLAT)
    adam = torch.optim.Adam(network.parameters(), lr=2e-3)
    history = []
    for step in range(300):
        fixed = images[torch.randint(len(images), (4,))]
        warp = torch.cat([random_velocity((56, 48), 4 * step + k) for k in range(4)])
        truth = velocity_torch.resize_field(velocity_torch.integrate_velocity(warp), (56, 48))
        moving = velocity_torch.sample_channels(fixed, truth)
        velocity = velocity_torch.halve_field(network(torch.cat([moving, fixed], dim=1)))
        flow = velocity_torch.resize_field(velocity_torch.integrate_velocity(velocity), (56, 48))
        error = losses_torch.compute_mean_squared_error(fixed, velocity_torch.sample_channels(moving, flow))
        untouched = losses_torch.compute_mean_squared_error(fixed, moving).item()
        loss = error + 4e-3 * losses_torch.compute_diffusion(velocity, (2.0, 2.0))
        adam.zero_grad()
        loss.backward()
        adam.step()
        history.append(error.item() / untouched)
    return network, history


def test_training_lowers_the_loss(trained: tuple[Path, list[float]]) -> None:
    history = trained[1]
    assert np.mean(history[:5]) > 0.8
    assert np.mean(history[-20:]) < 0.6 * np.mean(history[:5])


@pytest.mark.parametrize(("symmetric", "left"), [(True, 0.75), (False, 0.85)])
def test_held_out_pairs_come_closer_to_the_truth_than_the_affine(
    trained: tuple[Path, list[float]], mni_4mm: Image, symmetric: bool, left: float
) -> None:
    initial = Affine.identity(2)
    errors, differences = [], []
    for seed in range(9001, 9005):
        fixed, moving, truth = warped_pair(mni_4mm, seed)
        result = voxelmorph(
            fixed, moving, initial, options(weights=str(trained[0]), symmetric=symmetric), RunContext()
        )
        points = fixed.grid.to_world(np.argwhere(fixed.channel > 0.1)[:, ::-1])
        target = truth.apply(points)
        errors.append([np.linalg.norm(end - target, axis=1).mean() for end in (points, result.apply(points))])
        warped = resample_array(moving.channel, moving.grid, fixed.grid, result)
        differences.append([np.mean((part - fixed.channel) ** 2) for part in (moving.channel, warped)])
    before, after = np.mean(errors, axis=0)
    assert after < left * before
    before, after = np.mean(differences, axis=0)
    assert after < 0.4 * before


def test_the_answer_has_an_inverse_and_no_folds(trained: tuple[Path, list[float]], mni_4mm: Image) -> None:
    fixed, moving, _ = warped_pair(mni_4mm, 9001)
    result = voxelmorph(fixed, moving, Affine.identity(2), options(weights=str(trained[0])), RunContext())
    field = result.parts[0]  # type: ignore[attr-defined]
    points = fixed.grid.to_world(np.argwhere(fixed.channel > 0.1)[:, ::-1])
    assert measure_inverse_error(field, field.inverse(), points).mean() < 0.1 * SPACING_MM
    assert fields.compute_jacobian_determinant(fields.to_voxels(field.vectors, field.grid)).min() > 0


def test_swapping_the_images_turns_the_velocity_around(
    trained: tuple[Path, list[float]], mni_4mm: Image
) -> None:
    fixed, moving, _ = warped_pair(mni_4mm, 9001)
    network, description = load_network(trained[0], CPU)
    there = predict(network, description, (fixed, moving), options())
    back = predict(network, description, (moving, fixed), options())
    assert there.abs().max() > 0.1
    assert torch.equal(there, -back)


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("shape", [(30, 44), (22, 50), (20, 18, 26)])
def test_padding_is_cut_off_where_it_was_put_on(shape: tuple[int, ...], half: bool) -> None:
    # A network that answers with the fixed image: its velocity must lie on the image's own samples.
    grid = Grid(shape, np.eye(len(shape) + 1))
    values = np.random.default_rng(0).random((1, *shape)).astype(np.float32)
    pair = Image(values, grid), Image(np.zeros_like(values), grid)
    description = replace(
        FLAT, ndim=len(shape), channels=(1,) * 8, half_resolution=half, intensity={"method": "none"}
    )

    def network(both: torch.Tensor) -> torch.Tensor:
        assert all(count % 16 == 0 for count in both.shape[2:])
        return both[:, 1:].expand(-1, len(shape), *both.shape[2:])

    given = predict(network, description, pair, options(symmetric=False))
    expected = normalize_intensity(pair[0], description).expand(-1, len(shape), *shape)
    assert torch.equal(given, velocity_torch.halve_field(expected) if half else expected)


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("shape", [(31, 45, 27), (52, 40, 46)])
def test_a_constant_answer_is_a_shift_in_world_units(shape: tuple[int, ...], half: bool) -> None:
    """Any size, any orientation, another working spacing, fixed and moving of different grids."""
    description = replace(SOLID, spacing=5.0, half_resolution=half)
    network = build_network(description)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        shift = torch.tensor([1.0, -0.5, 0.25])
        list(network.parameters())[-1].copy_(shift)
    turn = np.deg2rad(20)
    direction = [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, -1]]
    grid = Grid.from_geometry(shape, (2.0, 1.5, 3.0), (4.0, 5.0, 6.0), direction)
    rng = np.random.default_rng(1)
    fixed = Image(rng.random((1, *shape), dtype=np.float32), grid)
    moving_grid = Grid.from_geometry((30, 30, 30), (3.0, 3.0, 4.0), tuple(grid.center - 45.0))
    moving = Image(rng.random((1, 30, 30, 30), dtype=np.float32), moving_grid)
    initial = Affine.from_parts(np.diag([1.1, 0.9, 1.0]), [1.0, 2.0, 3.0], grid.center)
    result = ask_one(network, description, (fixed, moving), initial, options(symmetric=False))
    working = make_working_grid(grid, 5.0, description.shrink)
    moved_mm = working.affine[:3, :3] @ shift.numpy()[::-1]
    points = grid.to_world(rng.uniform(5, 20, (50, 3)))
    np.testing.assert_allclose(result.apply(points), initial.apply(points + moved_mm), atol=1e-3)
    assert isinstance(result, Composite)
    assert result.parts[0].grid == grid  # type: ignore[attr-defined]


@pytest.mark.parametrize("shape", [(30, 44), (22, 50), (20, 18, 26)])
def test_padding_of_folded_images_is_cut_off_where_it_was_put_on(shape: tuple[int, ...]) -> None:
    ndim = len(shape)
    grid = Grid(shape, np.eye(ndim + 1))
    values = np.random.default_rng(0).random((1, *shape)).astype(np.float32)
    pair = Image(values, grid), Image(np.zeros_like(values), grid)
    description = replace(
        FLAT, ndim=ndim, channels=(1,) * 6, half_resolution=False, fold=2, intensity={"method": "none"}
    )

    def network(both: torch.Tensor) -> torch.Tensor:
        assert all(count % 8 == 0 for count in both.shape[2:])
        # The first sample of each block of the fixed image.
        first = both[:, 2**ndim : 2**ndim + 1]
        return first.expand(-1, ndim, *both.shape[2:])

    given = predict(network, description, pair, options(symmetric=False))
    every_other = (slice(None), slice(None), *[slice(None, None, 2)] * ndim)
    coarse = normalize_intensity(pair[0], description)[every_other]
    assert torch.equal(given, coarse.expand(-1, ndim, *coarse.shape[2:]))


def test_swapping_turns_the_velocity_around_where_the_network_searches(mni_4mm: Image) -> None:
    fixed, moving, _ = warped_pair(mni_4mm, 9001)
    description = replace(FLAT, fold=2, search=1, half_resolution=False)
    torch.manual_seed(0)
    network = build_network(description).eval()
    there = predict(network, description, (fixed, moving), options())
    back = predict(network, description, (moving, fixed), options())
    assert there.abs().max() > 0
    assert torch.equal(there, -back)


def test_a_second_pass_with_the_same_network_comes_nearer(
    trained: tuple[Path, list[float]], mni_4mm: Image
) -> None:
    network, description = load_network(trained[0], CPU)
    left = []
    for seed in range(9001, 9005):
        fixed, moving, truth = warped_pair(mni_4mm, seed)
        points = fixed.grid.to_world(np.argwhere(fixed.channel > 0.1)[:, ::-1])
        found = [
            ask_one(
                network, replace(description, passes=passes), (fixed, moving), Affine.identity(2), options()
            )
            for passes in ((1.0,), (1.0, 1.0))
        ]
        ends = truth.apply(points)
        left.append([np.linalg.norm(each.apply(points) - ends, axis=1).mean() for each in found])
    once, twice = np.mean(left, axis=0)
    assert twice < 0.97 * once


def test_relaxation_is_how_far_a_pass_goes() -> None:
    """A network that answers 1 sample everywhere moves by what the relaxations add up to."""
    description = replace(SOLID, half_resolution=False, spacing=2.0, passes=(1.0, 1.0), relaxation=(1.0, 1.5))

    def constant(both: torch.Tensor) -> torch.Tensor:
        return torch.ones(len(both), 3, *both.shape[2:])

    request = mixed_requests()[0]
    given = options(symmetric=False)
    found = predict_in_passes(constant, description, [request], effort(description), given)[0].transform
    middle = request.fixed.grid.to_world(np.array([[10.0, 9.0, 12.0]]))
    assert np.allclose(found.apply(middle) - middle, 2.5 * description.spacing, atol=1e-4)


@pytest.mark.parametrize("relaxation", [(1.5,), (1.0, 1.0, 1.0)])
def test_a_file_with_a_relaxation_for_some_passes_is_refused(
    relaxation: tuple[float, ...], tmp_path: Path
) -> None:
    path = tmp_path / "uneven.safetensors"
    save_weights(path, build_network(FLAT), replace(FLAT, passes=(2.0, 1.0), relaxation=relaxation))
    with pytest.raises(InputError, match=f"relaxation: {len(relaxation)} numbers for 2 passes"):
        load_network(path, CPU)


def test_an_answer_worse_than_the_start_is_put_aside(
    mni_4mm: Image, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fixed, moving, truth = warped_pair(mni_4mm, 9001)
    network = build_network(FLAT)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        list(network.parameters())[-1].copy_(torch.tensor([4.0, -4.0]))
    save_weights(tmp_path / "shift.safetensors", network, FLAT)
    given = options(weights=str(tmp_path / "shift.safetensors"), symmetric=False)
    with pytest.raises(RegistrationError, match="less alike"):
        voxelmorph(fixed, moving, Affine.identity(2), {**given, "refinement": "none"}, RunContext())
    result = voxelmorph(fixed, moving, Affine.identity(2), {**given, "refinement": "greedy"}, RunContext())
    assert "the refinement begins at zero" in caplog.text
    points = fixed.grid.to_world(np.argwhere(fixed.channel > 0.1)[:, ::-1])
    before, after = (
        np.linalg.norm(ends - truth.apply(points), axis=1).mean() for ends in (points, result.apply(points))
    )
    assert after < before


def mixed_requests(seed: int = 0) -> list[Pair]:
    """Pairs of which two have one size and all have their own spacing."""
    rng = np.random.default_rng(seed)
    made = []
    for shape, step in (((24, 20, 28), 2.0), ((30, 22, 20), 3.0), ((24, 20, 28), 2.0)):
        grid = Grid(shape, np.diag([step, step, step, 1.0]))
        one, other = (Image(rng.random((1, *shape), dtype=np.float32), grid) for _ in range(2))
        made.append(Pair(one, other, Affine.identity(3)))
    return made


def test_a_pair_gets_the_same_answer_alone_and_among_others() -> None:
    torch.manual_seed(3)
    description = replace(SOLID, fold=2, search=1, half_resolution=False, spacing=2.0, passes=(2.0, 1.0))
    network = build_network(description).eval()
    sizes = []

    def watched(both: torch.Tensor) -> torch.Tensor:
        sizes.append(len(both))
        return network(both) * 10

    requests = mixed_requests()
    alone = [
        predict_in_passes(watched, description, [each], effort(description), options())[0]
        for each in requests
    ]
    assert set(sizes) == {1}
    one_by_one = predict_in_passes(watched, description, requests, effort(description), options())
    stacked = predict_in_passes(watched, description, requests, effort(description, batch=4), options())
    assert max(sizes) == 2
    for single, same, near in zip(alone, one_by_one, stacked, strict=True):
        vectors = [each.transform.parts[0].vectors for each in (single, same, near)]  # type: ignore[attr-defined]
        assert np.abs(vectors[0]).max() > 0.1
        assert np.array_equal(vectors[0], vectors[1])
        np.testing.assert_allclose(vectors[2], vectors[0], atol=1e-3)


def test_with_too_little_memory_less_is_tried_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gpu = torch.device("cuda", 0)
    tried = [(each.batch, each.spacing, each.device.type) for each in _efforts(4, 2.0, gpu)]
    assert tried == [(4, 2.0, "cuda"), (2, 2.0, "cuda"), (1, 2.0, "cuda"), (1, 4.0, "cuda"), (1, 2.0, "cpu")]
    description = replace(SOLID, spacing=2.0)
    save_weights(tmp_path / "solid.safetensors", build_network(description), description)
    seen = []

    def small_memory(*given: Any) -> torch.Tensor:
        seen.append(given[2].shape[2:].numel())
        if len(seen) == 1:
            raise torch.OutOfMemoryError("no more")
        return predict_velocity(*given)

    monkeypatch.setattr("regflow.methods.refine.voxelmorph.predict_velocity", small_memory)
    given = options(weights=str(tmp_path / "solid.safetensors"), symmetric=False)
    found = predict_pairs(mixed_requests()[:1], given, RunContext())
    assert len(found) == 1
    assert seen[1] < seen[0] / 4
    assert "no memory for 1 pairs at a spacing of 2 on cpu" in caplog.text
    monkeypatch.setattr("regflow.methods.refine.voxelmorph._efforts", lambda *given: [])
    with pytest.raises(RegistrationError, match="raise spacing_mm"):
        predict_pairs(mixed_requests()[:1], given, RunContext())


def test_bytes_do_not_depend_on_threads() -> None:
    # Without care they do: oneDNN divides sums among threads, seen in three dimensions.
    torch.manual_seed(2)
    network = build_network(replace(SOLID, channels=(16, 32, 32, 32)))
    grid = Grid((32, 40, 32), np.eye(4))
    rng = np.random.default_rng(2)
    pair = tuple(Image(rng.random((1, *grid.shape), dtype=np.float32), grid) for _ in range(2))

    def work() -> list[torch.Tensor]:
        with open_torch_session(torch.get_num_threads(), seed=0):
            return [predict(network, SOLID, pair, options())]  # type: ignore[arg-type]

    assert len(across_threads(work)) == 1


def test_what_the_network_sees_is_what_it_was_trained_on(mni_4mm: Image) -> None:
    image = replace(mni_4mm, data=mni_4mm.data * 7 + 3)
    seen = normalize_intensity(image, SOLID)
    assert float(seen.min()) == 0
    assert float(seen.max()) == 1
    assert image.mask is not None
    assert torch.all(seen[0, 0][torch.from_numpy(~image.mask)] == 0)


def test_equal_networks_give_equal_bytes_and_come_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_network(FLAT)
    for name in ("a", "b"):
        save_weights(tmp_path / f"{name}.safetensors", network, replace(FLAT, notes={"license": "CC0"}))
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    back, description = load_network(tmp_path / "a.safetensors", CPU)
    assert description == replace(FLAT, notes={"license": "CC0"})
    for name, value in network.state_dict().items():
        assert torch.equal(value, back.state_dict()[name])


def test_missing_weights_let_the_ladder_go_on(
    tmp_path: Path, mni_4mm: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regflow.methods.refine.weights_files.SHIPPED", {})
    with pytest.raises(RegistrationError, match=r"set refine\.options\.voxelmorph\.weights"):
        voxelmorph(mni_4mm, mni_4mm, Affine.identity(3), options(), RunContext())
    with pytest.raises(RegistrationError, match="neither a file nor in resources/weights"):
        find_weights(str(tmp_path / "nothing.safetensors"))


def damaged(path: Path) -> None:
    torch.manual_seed(0)
    save_weights(path, build_network(FLAT), FLAT)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"weight": np.zeros(3)}))


def foreign(path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path)


def misdescribed(path: Path) -> None:
    save_weights(path, build_network(FLAT), replace(FLAT, ndim=7))


def other_network(path: Path) -> None:
    save_weights(path, build_network(FLAT), SOLID)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (damaged, "checksum differs"),
        (pickled, "not a network written by regflow"),
        (foreign, "not a network written by regflow"),
        (misdescribed, r"wrong at \$\.ndim"),
        (other_network, "do not fit"),
    ],
)
def test_bad_weights_are_refused_in_one_sentence(
    write: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "bad.safetensors"
    write(path)
    with pytest.raises(InputError, match=message) as caught:
        load_network(path, CPU)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pair_the_network_is_not_for(trained: tuple[Path, list[float]], mni_4mm: Image) -> None:
    with pytest.raises(RegistrationError, match="2-D images and these are 3-D"):
        voxelmorph(mni_4mm, mni_4mm, Affine.identity(3), options(weights=str(trained[0])), RunContext())
    fixed, moving, _ = warped_pair(mni_4mm, 9001)
    two = fixed.with_data(np.repeat(fixed.data, 2, axis=0))
    with pytest.raises(RegistrationError, match="one channel"):
        voxelmorph(two, two, Affine.identity(2), options(weights=str(trained[0])), RunContext())
    far = Affine.from_parts(np.eye(2), [1e4, 0])
    with pytest.raises(RegistrationError, match="no sample in common"):
        voxelmorph(fixed, moving, far, options(weights=str(trained[0])), RunContext())


def test_the_greedy_engine_goes_on_from_the_network(
    trained: tuple[Path, list[float]], mni_4mm: Image
) -> None:
    fixed, moving, truth = warped_pair(mni_4mm, 9001)
    # The images agree with each other outside the brain; a shift there would be the network's own.
    points = fixed.grid.to_world(np.argwhere(fixed.channel > 0.1)[:, ::-1])
    target = truth.apply(points)
    left = {}
    for refinement in ("none", "greedy"):
        given = options(weights=str(trained[0]), refinement=refinement)
        result = voxelmorph(fixed, moving, Affine.identity(2), given, RunContext())
        assert isinstance(result, Composite)
        assert len(result.parts) == 2
        left[refinement] = np.linalg.norm(result.apply(points) - target, axis=1).mean()
    assert left["greedy"] < 0.9 * left["none"]
    with pytest.raises(InputError, match="no option 'iteration'"):
        voxelmorph(
            fixed, moving, Affine.identity(2), {**given, "refinement_options": {"iteration": 3}}, RunContext()
        )


@pytest.mark.parametrize(("refinement", "passes"), [("greedy", (8.0, 5.0)), ("none", (8.0, 5.0, 1.0, 1.0))])
def test_passes_that_the_refine_repeats_are_left_out(refinement: str, passes: tuple[float, ...]) -> None:
    description = replace(SOLID, fold=2, half_resolution=False, spacing=1.0, passes=(8.0, 5.0, 1.0, 1.0))
    torch.manual_seed(3)
    network = build_network(description).eval()
    asked = []

    def watched(both: torch.Tensor) -> torch.Tensor:
        asked.append(both.shape[2:].numel())
        return network(both)

    request = mixed_requests()[0]
    given = options(refinement=refinement, passes="coarse", symmetric=False)
    found = predict_in_passes(watched, description, [request], effort(description), given)[0]
    assert len(asked) == len(passes)
    assert asked == sorted(asked)
    alone = options(refinement="none", symmetric=False)
    same = predict_in_passes(
        network, replace(description, passes=passes), [request], effort(description), alone
    )[0]
    vectors = [each.transform.parts[0].vectors for each in (found, same)]  # type: ignore[attr-defined]
    assert np.array_equal(*vectors)
    all_of_them = options(refinement=refinement, symmetric=False)
    asked.clear()
    predict_in_passes(watched, description, [request], effort(description), all_of_them)
    assert len(asked) == 4


@pytest.mark.parametrize(("finest", "taken"), [(0.8, 4), (1.0, 4), (1.5, 3), (4.0, 3)])
def test_a_pass_finer_than_the_training_is_for_images_as_fine(finest: float, taken: int) -> None:
    description = replace(SOLID, spacing=2.0, passes=(2.0, 1.0, 1.0, 0.6))
    fixed = Image(np.ones((1, 8, 8, 8), np.float32), Grid((8, 8, 8), np.diag([finest, finest, 5.0, 1.0])))
    assert _passes(description, fixed, 2.0, options(refinement="none")) == description.passes[:taken]


def test_passes_of_a_mixed_batch_follow_each_image_of_its_own() -> None:
    """Of 2 and 3 mm: the finer image is asked about once more, alone or among others."""
    torch.manual_seed(3)
    description = replace(SOLID, fold=2, half_resolution=False, spacing=1.0, passes=(8.0, 5.0))
    network = build_network(description).eval()
    asked = []

    def watched(both: torch.Tensor) -> torch.Tensor:
        asked.append(len(both))
        return network(both) * 10

    requests, given = mixed_requests(), options(passes="coarse", symmetric=False)
    together = predict_in_passes(watched, description, requests, effort(description), given)
    assert len(asked) == 2 + 1 + 2
    for request, among in zip(requests, together, strict=True):
        alone = predict_in_passes(watched, description, [request], effort(description), given)[0]
        first, second = (each.transform.parts[0].vectors for each in (alone, among))  # type: ignore[attr-defined]
        assert np.array_equal(first, second)
        assert alone.gain == among.gain


def used_networks(section: Mapping[str, Any], ndim: int) -> dict[str, str]:
    return find_used_networks({"refine": section}, ["ingest", "refine"], ndim)


def test_networks_that_a_ladder_may_ask_are_known_by_their_bytes(tmp_path: Path) -> None:
    own = tmp_path / "own.safetensors"
    section = {"methods": ["voxelmorph", "greedy"], "options": {"voxelmorph": {"weights": str(own)}}}
    shipped = used_networks({"methods": ["voxelmorph"]}, 3)
    assert list(shipped) == [SHIPPED[3]]
    assert used_networks(section, 3) == shipped
    own.write_bytes(b"one")
    before = used_networks(section, 3)
    own.write_bytes(b"other")
    after = used_networks(section, 3)
    assert set(before) == {str(own), SHIPPED[3]}
    assert before[str(own)] != after[str(own)]
    nested = {"methods": ["dense"], "options": {"dense": {"engine_options": {"weights": str(own)}}}}
    assert set(used_networks(nested, 2)) == {str(own), SHIPPED[2]}
    assert used_networks({**section, "methods": ["greedy"]}, 3) == {}


def test_options_can_be_read_without_torch() -> None:
    import subprocess
    import sys

    program = "import sys, regflow.methods.refine; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
    json.dumps(METHODS["voxelmorph"].options)


@pytest.mark.parametrize("other_contrast", [pytest.param(False, marks=pytest.mark.slow), True])
def test_the_shipped_network_undoes_half_of_a_warp_that_it_never_saw(other_contrast: bool) -> None:
    fixed = coarsen_image(demo.load_example("icbm2009a", None), 2.0)
    fixed = fixed.with_mask(fixed.channel > 0.05 * fixed.channel.max())
    fixed = fixed.with_data(np.where(fixed.mask, fixed.channel, 0))
    source = fixed
    if other_contrast:
        gray, white = (
            coarsen_image(demo.load_example(f"icbm2009a-{name}", None), 2.0).channel for name in ("gm", "wm")
        )
        source = synthetic.simulate_t2(fixed, gray / 255, white / 255)
    pose = synthetic.draw_affine(fixed.grid.center, seed=77)
    truth = synthetic.draw_truth(fixed.grid, seed=77, amplitude_mm=8.0, affine=pose)
    grid = synthetic.make_subject_grid(fixed.grid, truth, 2.0)
    moving = synthetic.make_subject(source, truth, grid, seed=77)
    found = voxelmorph(
        fixed, moving, pose, options(refinement="none", weights=None, spacing_mm=None), RunContext()
    )
    points = fixed.grid.to_world(np.argwhere(fixed.mask)[::29, ::-1])
    wanted = truth.forward.apply(points)
    before, after = (np.linalg.norm(each.apply(points) - wanted, axis=1).mean() for each in (pose, found))
    assert after < 0.5 * before
