"""Methods that ask a small network for a displacement come nearer on held-out data; strange networks fail."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from regflow.core import fields
from regflow.core.errors import InputError, RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine, Transform
from regflow.datasets.known_pairs import draw_motions, draw_partners, move_image
from regflow.methods.context import RunContext
from regflow.methods.learned_models import ModelDescription, build_model, save_model
from regflow.methods.refine import METHODS, mode_agent
from regflow.methods.refine.field_networks import sample_spline
from regflow.methods.refine.field_options import ARCHITECTURE_OF, NETWORKS
from regflow.methods.refine.learned_fields import predict_step
from regflow.methods.refine.momentum_network import integrate_momentum, predict_by_patches, smooth_momentum
from regflow.methods.refine.velocity_torch import compose_velocities, resize_channels
from regflow.training.bands import read_sentinel_band
from regflow.training.deformations import draw_velocity
from regflow.training.images import count_learned_rows

ARCHITECTURES = {
    "field-unet": {"channels": [4, 4]},
    "control-points": {"channels": [4, 4, 4], "pools": 2},
    "momenta": {"channels": [4, 4]},
    "mode-values": {"channels": [4, 4], "side": 16, "modes": 5},
}


def refine(method: str, fixed: Image, moving: Image, **given: Any) -> Transform:
    row = METHODS[method]
    found = row.load()(fixed, moving, Affine.identity(fixed.grid.ndim), row.complete(given), RunContext())
    assert isinstance(found, Transform)
    return found


def measure(fixed: Image, shown: Image, size: float, method: str, seed: int) -> tuple[float, float]:
    """Return the mean distance to the truth of a known warp, before and after."""
    (motion,) = draw_motions(fixed.grid, [], [size], seed)
    moving = move_image(shown, motion.back, None, 0.01 * float(np.ptp(shown.channel)), seed)
    points, partners = draw_partners(fixed, motion.back, seed)
    found = refine(method, fixed, moving).apply(points)
    return tuple(float(np.linalg.norm(p - partners, axis=1).mean()) for p in (points, found))  # type: ignore[return-value]


@pytest.mark.parametrize("method", NETWORKS)
def test_a_warped_scene_that_was_never_seen_comes_nearer(method: str) -> None:
    plane = read_sentinel_band("b04")
    plane = plane[count_learned_rows(len(plane)) :][-192:, 300:492]
    fixed = Image(plane.astype(np.float32)[None], Grid(plane.shape, np.eye(3)))
    before, after = measure(fixed, fixed, 6.0, method, 1)
    assert after < 0.75 * before


def test_without_a_network_of_its_dimensions_a_method_says_so(mni_4mm: Image) -> None:
    with pytest.raises(RegistrationError, match="dirnet: no network of 3 dimensions comes along; train one"):
        refine("dirnet", mni_4mm, mni_4mm)


def save_tiny(path: Path, architecture: str, ndim: int) -> str:
    torch.manual_seed(1)
    arguments = {"ndim": ndim, "spacing": 1.0, "passes": [2, 1], **ARCHITECTURES[architecture]}
    description = ModelDescription(architecture, arguments)
    save_model(path, build_model(description), description)
    return str(path)


@pytest.mark.parametrize("method", NETWORKS)
def test_strange_networks_are_refused_in_a_sentence(method: str, tmp_path: Path) -> None:
    picture = Image(np.random.default_rng(0).random((1, 40, 40), np.float32), Grid((40, 40), np.eye(3)))
    own = ARCHITECTURE_OF[method]
    other = next(name for name in ARCHITECTURES if name != own)
    with pytest.raises(RegistrationError, match=f"architecture '{other}', not '{own}'; correct"):
        refine(method, picture, picture, weights=save_tiny(tmp_path / "other.safetensors", other, 2))
    with pytest.raises(
        RegistrationError, match=f"{method}: the network is for images of 3 dimensions, not 2"
    ):
        refine(method, picture, picture, weights=save_tiny(tmp_path / "three.safetensors", own, 3))
    with pytest.raises(RegistrationError, match="network 'nowhere' is neither a file nor in resources/w"):
        refine(method, picture, picture, weights="nowhere")
    with pytest.raises(InputError, match="constant"):
        weights = save_tiny(tmp_path / "own.safetensors", own, 2)
        refine(method, picture.with_data(np.zeros((1, 40, 40), np.float32)), picture, weights=weights)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("shape", [(31, 45), (13, 17, 22)])
def test_images_of_any_size_are_taken(architecture: str, shape: tuple[int, ...]) -> None:
    arguments = {"ndim": len(shape), "spacing": 1.0, "passes": [1], **ARCHITECTURES[architecture]}
    network = build_model(ModelDescription(architecture, arguments))
    with torch.no_grad():
        found = predict_step(network, torch.rand(1, 2, *shape))
    assert found.shape == (1, len(shape), *shape)


def test_a_spline_of_a_slope_is_that_slope() -> None:
    nodes = torch.arange(6.0).view(1, 1, 6, 1).expand(1, 1, 6, 5)
    values = sample_spline(nodes, 4)
    places = (torch.arange(24.0) + 0.5) / 4 - 0.5
    assert values.shape == (1, 1, 24, 20)
    assert torch.allclose(values[0, 0, 10:14], places[10:14, None].expand(4, 20), atol=1e-5)


@pytest.mark.parametrize("shape", [(40, 36), (24, 24, 20)])
def test_shooting_makes_a_diffeomorphism_and_its_inverse(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    rough = torch.randn(1, len(shape), *[count // 5 for count in shape])
    momentum = resize_channels(rough, shape)
    momentum = momentum * (2.5 / smooth_momentum(momentum).norm(dim=1).max())
    forward, inverse = integrate_momentum(momentum)
    assert float(forward.norm(dim=1).max()) > 1.5
    assert fields.compute_jacobian_determinant(forward[0].numpy()).min() > 0
    inner = (..., *(slice(5, -5) for _ in shape))
    assert float(compose_velocities(forward, inverse)[inner].norm(dim=1).max()) < 0.15


def test_the_kernel_of_a_momentum_is_its_own_transpose() -> None:
    one, other = torch.randn(2, 1, 2, 12, 15)
    there, back = (smooth_momentum(one) * other).sum(), (one * smooth_momentum(other)).sum()
    assert float(there) == pytest.approx(float(back), rel=1e-4)


def test_patches_that_overlap_are_averaged() -> None:
    found = predict_by_patches(lambda patches: torch.ones(len(patches), 2, 16, 16), torch.rand(1, 2, 70, 40))  # type: ignore[arg-type]
    assert found.shape == (1, 2, 35, 20)
    assert torch.equal(found, torch.ones_like(found))


def test_coefficients_of_a_sum_of_modes_are_found() -> None:
    rng = np.random.default_rng(0)
    drawn = torch.cat([draw_velocity((32, 32), 5.0, rng) for _ in range(20)])
    network = mode_agent.build_mode_agent(2, 32, [4, 4], 6, 1.0, [1])
    network.get_buffer("modes").copy_(mode_agent.fit_modes(drawn, 6))
    wanted = torch.tensor([[1.0, -0.5, 0.25, 0.0, 2.0, -1.0]])
    field = network.displace(wanted, (8, 8))  # type: ignore[operator]
    assert torch.allclose(
        mode_agent.project_on_modes(field[0], network.get_buffer("modes")), wanted[0], atol=1e-4
    )


def test_the_step_towards_the_truth_is_worth_most() -> None:
    missing = torch.tensor([0.0, 2.0, -0.1])
    worth = mode_agent.compute_step_values(missing)
    assert int(worth.argmax()) == 1
    assert float(worth[1]) == pytest.approx(1.0)
    assert torch.equal(mode_agent.list_steps(3)[4], torch.tensor([0.0, -mode_agent.STRIDE, 0.0]))
    assert float(worth[4]) == pytest.approx(-1.0)
