"""Small networks as files: rebuilt as they were, refused in a sentence where they do not serve."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from regflow.core.errors import InputError, RegistrationError
from regflow.methods import learned_models
from regflow.methods.learned_models import ModelDescription, is_model, load_model, read_model, save_model
from regflow.methods.weight_files import choose_weights, write_tensors


def build_line(inputs: int, outputs: int = 1) -> nn.Module:
    return nn.Linear(inputs, outputs)


@pytest.fixture(autouse=True)
def line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(learned_models.ARCHITECTURES, "line", f"{__name__}:build_line")


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, nn.Module]:
    torch.manual_seed(0)
    network = build_line(3, 2)
    path = tmp_path / "line.safetensors"
    save_model(path, network, ModelDescription("line", {"inputs": 3, "outputs": 2}, {"title": "a line"}))
    return path, network


def test_a_network_comes_back_as_it_was(saved: tuple[Path, nn.Module]) -> None:
    path, network = saved
    found, description = load_model(path, "line")
    seen = torch.tensor([[1.0, -2.0, 0.5]])
    assert torch.equal(found(seen), network(seen))
    assert description.notes == {"title": "a line"}
    assert not any(parameter.requires_grad for parameter in found.parameters())
    assert is_model(path)


@pytest.mark.parametrize(
    ("description", "sentence"),
    [
        (ModelDescription("circle", {}), "the architecture 'circle' is unknown; update regflow"),
        (ModelDescription("line", {"radius": 1}), "line: .*radius.* do not build it"),
        (ModelDescription("line", {"inputs": 4}), "the weights do not fit the network that their header"),
    ],
)
def test_what_does_not_build_is_an_error_of_the_file(
    tmp_path: Path, description: ModelDescription, sentence: str
) -> None:
    path = tmp_path / "odd.safetensors"
    save_model(path, build_line(3), description)
    with pytest.raises(InputError, match=sentence):
        load_model(path, description.architecture)


def test_a_network_of_another_architecture_lets_the_ladder_go_on(saved: tuple[Path, nn.Module]) -> None:
    with pytest.raises(
        RegistrationError, match="of the architecture 'line', not 'circle'; correct the option"
    ):
        load_model(saved[0], "circle")
    with pytest.raises(RegistrationError, match="'nowhere' is neither a file nor in resources/weights"):
        load_model("nowhere", "line")


def test_a_method_without_a_network_says_how_to_make_one() -> None:
    with pytest.raises(RegistrationError, match="no network of this method comes along; make one"):
        choose_weights(None, "homography-net-that-nobody-made")
    assert choose_weights("mine.safetensors", "scenes2d") == "mine.safetensors"
    assert choose_weights(None, "scenes2d") == "scenes2d"


def test_a_description_that_lacks_something_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bare.safetensors"
    write_tensors(path, build_line(3).state_dict(), {"architecture": "line"})
    with pytest.raises(InputError, match=r"description is wrong at .*'arguments' is a required property"):
        read_model(path)


def test_a_damaged_file_is_refused(saved: tuple[Path, nn.Module], tmp_path: Path) -> None:
    content = bytearray(saved[0].read_bytes())
    content[-1] ^= 1
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(bytes(content))
    with pytest.raises(InputError, match="the network is damaged"):
        read_model(broken)
    broken.write_text(json.dumps({}), encoding="utf-8")
    with pytest.raises(InputError, match="not a network written by regflow"):
        read_model(broken)
