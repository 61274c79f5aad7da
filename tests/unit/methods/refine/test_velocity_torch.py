"""Velocity fields in torch; each trap of MONAI's registration blocks has a test that we avoid it."""

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch_bytes import across_threads

from regflow.core.grid import Grid
from regflow.methods.refine import velocity_torch as velocity

SHAPES = [(40, 48), (32, 36, 28)]
IDENTITY_VOXELS = 1e-4
INVERSE_VOXELS = 0.1
HALF_RESOLUTION_VOXELS = 0.2


def smooth_field(shape: tuple[int, ...], longest_voxels: float, seed: int = 0) -> torch.Tensor:
    """A velocity of slow waves that does not vanish at the border, ``(1, d, *shape)``."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*[np.arange(n) / n for n in shape], indexing="ij")
    components = []
    for _ in shape:
        frequency, phase = rng.uniform(0.3, 1.0, len(shape)), rng.uniform(0, 6, 1)
        components.append(
            np.sin(2 * np.pi * sum(f * a for f, a in zip(frequency, axes, strict=True)) + phase)
        )
    field = np.stack(components)
    field *= longest_voxels / np.linalg.norm(field, axis=0).max()
    return torch.tensor(field[None], dtype=torch.float32)


def interior(field: torch.Tensor, margin: int) -> torch.Tensor:
    cut = slice(margin, -margin)
    return field[(slice(None), slice(None), *[cut] * (field.ndim - 2))]


def flow_by_many_steps(field: torch.Tensor, steps: int = 4096) -> torch.Tensor:
    """Euler steps in float64 with scipy: slow, and independent of what is tested."""
    values = field[0].double().numpy()
    index = np.indices(values.shape[1:], dtype=np.float64)
    place = index.copy()
    for _ in range(steps):
        speed = [map_coordinates(part, place, order=1, mode="nearest") for part in values]
        place = place + np.stack(speed) / steps
    return torch.tensor((place - index)[None])


@pytest.mark.parametrize("shape", SHAPES)
def test_sampling_nowhere_returns_the_image(shape: tuple[int, ...]) -> None:
    image = torch.rand(1, 2, *shape)
    still = torch.zeros(1, len(shape), *shape)
    assert torch.abs(velocity.sample_channels(image, still) - image).max() < IDENTITY_VOXELS


def test_sampling_stays_in_single_precision_inside_autocast() -> None:
    # A sampling grid in bfloat16 is off by half a voxel.
    ramp = torch.arange(200.0).view(1, 1, 200, 1).expand(1, 1, 200, 4)
    still = torch.zeros(1, 2, 200, 4, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        moved = velocity.sample_channels(ramp.bfloat16().float(), still)
        flowed = velocity.integrate_velocity(torch.full_like(still, 3.0))
    assert moved.dtype == flowed.dtype == torch.float32
    assert torch.abs(moved - ramp.bfloat16().float()).max() < 0.01
    assert torch.abs(flowed - 3).max() < IDENTITY_VOXELS


@pytest.mark.parametrize("shape", SHAPES)
def test_components_are_in_array_order_and_voxels(shape: tuple[int, ...]) -> None:
    index = torch.tensor(np.indices(shape)[None], dtype=torch.float32)
    shift = torch.tensor([2.0, -1.0, 3.0][: len(shape)]).view(1, -1, *[1] * len(shape))
    moved = velocity.sample_channels(index, shift.expand_as(index))
    assert torch.abs(interior(moved - index - shift, 4)).max() < IDENTITY_VOXELS


@pytest.mark.parametrize("shape", SHAPES)
def test_a_constant_velocity_is_its_own_displacement_up_to_the_border(shape: tuple[int, ...]) -> None:
    # Zeros beyond the border would let a field of 4 voxels decay to 1 there.
    constant = torch.full((1, len(shape), *shape), 4.0)
    assert torch.abs(velocity.integrate_velocity(constant) - 4).max() < IDENTITY_VOXELS


@pytest.mark.parametrize("shape", SHAPES)
def test_integration_follows_the_flow(shape: tuple[int, ...]) -> None:
    field = smooth_field(shape, 3.0)
    difference = interior(velocity.integrate_velocity(field) - flow_by_many_steps(field, 512), 4)
    assert torch.abs(difference).mean() < 0.01
    assert torch.abs(difference).max() < 0.06


@pytest.mark.parametrize("shape", SHAPES)
def test_half_resolution_forward_and_inverse_undo_each_other(shape: tuple[int, ...]) -> None:
    # Scaling before and after integration the wrong way round leaves an error of whole voxels.
    full = smooth_field(shape, 5.0)
    half = velocity.halve_field(full)
    forward = velocity.resize_field(velocity.integrate_velocity(half), shape)
    backward = velocity.resize_field(velocity.integrate_velocity(-half), shape)
    direct = velocity.integrate_velocity(full)
    assert torch.abs(interior(velocity.compose_velocities(forward, backward), 6)).mean() < INVERSE_VOXELS
    assert torch.abs(interior(forward - direct, 6)).mean() < HALF_RESOLUTION_VOXELS


def test_halving_averages_cells_and_keeps_the_world() -> None:
    field = torch.arange(8.0).view(1, 1, 8, 1).expand(1, 2, 8, 4)
    half = velocity.halve_field(field)
    assert half.shape == (1, 2, 4, 2)
    # Cells (0, 1), (2, 3) ... average to 0.5, 2.5 ... fine voxels: half as many coarse ones.
    assert half[0, 0, :, 0].tolist() == [0.25, 1.25, 2.25, 3.25]


@pytest.mark.parametrize("shape", [(7, 9), (5, 7, 9)])
def test_resizing_keeps_cell_centers(shape: tuple[int, ...]) -> None:
    places = torch.tensor(np.indices(shape)[None], dtype=torch.float32)
    larger = tuple(2 * n + 1 for n in shape)
    resized = velocity.resize_channels(places, larger)
    for axis, (new, old) in enumerate(zip(larger, shape, strict=True)):
        centers = ((np.arange(new) + 0.5) * old / new - 0.5).clip(0, old - 1)
        given = resized[0, axis].movedim(axis, 0).reshape(new, -1)
        np.testing.assert_allclose(given, np.broadcast_to(centers[:, None], given.shape), atol=1e-5)
    torch.testing.assert_close(velocity._ordered_resize(places, larger), resized, rtol=0, atol=1e-5)


def test_a_field_becomes_world_displacements_on_an_oblique_grid() -> None:
    turn = np.deg2rad(30)
    direction = [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, -1]]
    grid = Grid.from_geometry((8, 10, 12), (1.5, 2.0, 3.0), (5.0, -7.0, 11.0), direction)
    # One voxel of the HALF grid along z, two along x: array order (z, y, x).
    half = torch.zeros(1, 3, 4, 5, 6)
    half[:, 0], half[:, 2] = 1.0, 2.0
    field = velocity.to_displacement_field(half, grid)
    index = np.array([[5.0, 4.0, 3.0]])
    expected = grid.to_world(index + np.array([4.0, 0.0, 2.0]))
    np.testing.assert_allclose(field.apply(grid.to_world(index)), expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(6, 7), (5, 6, 4)])
def test_the_ordered_backward_pass_equals_torchs(shape: tuple[int, ...]) -> None:
    torch.manual_seed(3)
    image = torch.rand(2, 3, *shape)
    where = torch.randn(2, len(shape), *shape) * 2
    weight = torch.rand(2, 3, *shape)

    def gradients(function: object) -> list[torch.Tensor]:
        inputs = [image.clone().requires_grad_(), where.clone().requires_grad_()]
        (function(*inputs) * weight).sum().backward()  # type: ignore[operator]
        return [value.grad for value in inputs]  # type: ignore[misc]

    for ours, theirs in zip(
        gradients(velocity._OrderedSample.apply), gradients(velocity._sample), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(40, 44), (40, 44, 36)])
def test_bytes_do_not_depend_on_threads(shape: tuple[int, ...]) -> None:
    field = smooth_field(shape, 3.0)

    def work() -> list[torch.Tensor]:
        flow = field.clone().requires_grad_()
        velocity.resize_field(
            velocity.integrate_velocity(flow), [2 * n for n in shape]
        ).square().sum().backward()
        assert flow.grad is not None
        return [velocity.integrate_velocity(field), flow.grad]

    assert len(across_threads(work)) == 1
