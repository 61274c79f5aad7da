"""A stage's results depend on the networks that its ladder may ask, of either stage that asks any."""

from pathlib import Path

import pytest

from regflow.methods import initialize, used_networks
from regflow.methods.table import Method
from regflow.methods.used_networks import find_used_networks


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, dict[str, object]]:
    (tmp_path / "given.safetensors").write_bytes(b"given")
    asking = Method("", "", networks={2: "scenes2d"})
    monkeypatch.setitem(used_networks.TABLES, "initialize", {**initialize.METHODS, "asking": asking})
    options = {"asking": {"weights": str(tmp_path / "given.safetensors")}}
    return {
        "initialize": {"methods": ["header", "asking"], "options": options},
        "refine": {"methods": ["greedy"]},
        "detect": {"methods": ["cva"]},
    }


def test_each_stage_has_its_own(config: dict[str, dict[str, object]], tmp_path: Path) -> None:
    given = str(tmp_path / "given.safetensors")
    assert find_used_networks(config, ["initialize"], 2).keys() == {given, "scenes2d"}
    assert find_used_networks(config, ["initialize"], 3).keys() == {given}
    assert find_used_networks(config, ["ingest", "refine", "detect"], 2) == {}


def test_an_edited_file_is_another_network(config: dict[str, dict[str, object]], tmp_path: Path) -> None:
    before = find_used_networks(config, ["initialize"], 2)
    (tmp_path / "given.safetensors").write_bytes(b"other")
    after = find_used_networks(config, ["initialize"], 2)
    assert {name for name in before if before[name] != after[name]} == {str(tmp_path / "given.safetensors")}


def test_a_file_that_is_not_there_is_left_out(config: dict[str, dict[str, object]], tmp_path: Path) -> None:
    (tmp_path / "given.safetensors").unlink()
    assert find_used_networks(config, ["initialize"], 2).keys() == {"scenes2d"}
