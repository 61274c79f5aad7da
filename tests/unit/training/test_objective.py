"""What a training asks of a network, on a network of random weights."""

import pytest
import torch
from training_runs import tiny

from regflow.methods.refine.weights import build_network
from regflow.training.objective import predict_pair_velocity
from regflow.training.tasks.registration import describe_network

DESCRIPTION = describe_network(tiny(fold=1))


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    built = build_network(DESCRIPTION)
    with torch.no_grad():
        for weight in built.parameters():
            weight.normal_(0, 0.3)
    return built.eval()


def test_both_orders_of_a_pair_are_asked(network: torch.nn.Module) -> None:
    fixed, moving = torch.rand((2, 2, 1, 32, 32), generator=torch.Generator().manual_seed(1))
    there = predict_pair_velocity(network, DESCRIPTION, fixed, moving)
    back = predict_pair_velocity(network, DESCRIPTION, moving, fixed)
    assert there.shape == (2, 2, 32, 32)
    assert there.abs().max() > 0.01
    assert torch.allclose(there, -back, atol=1e-5)
    assert not predict_pair_velocity(network, DESCRIPTION, fixed, fixed).any()
