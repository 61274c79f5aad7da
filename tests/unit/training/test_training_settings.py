"""The recipes of regflow's own networks: complete configurations, of data whose terms are clear."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from regflow.commands.train import train
from regflow.config.loading import load_config
from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.io.volumes import write_volume
from regflow.methods.refine.weights_files import SHIPPED
from regflow.training.label_maps import read_maps_of_folder
from regflow.training.settings import RECIPES, find_recipe, make_training_settings


@pytest.fixture
def two_maps(tmp_path: Path) -> Path:
    """A folder with two label maps."""
    data = np.zeros((24, 24, 24), np.uint8)
    data[4:20, 4:20, 4:20] = 1
    data[8:16, 8:16, 8:16] = 2
    grid = Grid.from_geometry(data.shape, (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    for name in ("one.nii.gz", "other.nii.gz"):
        write_volume(tmp_path / name, data, grid)
    return tmp_path


@pytest.mark.parametrize(("ndim", "name"), SHIPPED.items())
def test_every_shipped_network_has_a_recipe(ndim: int, name: str) -> None:
    complete = load_config(find_recipe(name), with_samples=False)
    settings = make_training_settings(complete)
    assert (settings["name"], settings["ndim"]) == (name, ndim)
    assert complete["kind"] == {2: "rasters", 3: "volumes"}[ndim]


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_no_recipe_draws_from_data_of_unclear_terms(path: Path) -> None:
    settings = make_training_settings(load_config(path, with_samples=False))
    assert settings["atlases"] is False
    assert not settings["shares"].get("cohort")
    assert settings["start_from"] is None


def test_an_unknown_recipe_names_those_there_are() -> None:
    with pytest.raises(InputError, match=r"scenes2d.*volumes3d"):
        find_recipe("volumes4d")


def test_a_recipe_and_a_configuration_contradict(tmp_path: Path) -> None:
    done = CliRunner().invoke(train, ["--recipe", "scenes2d", "--config", str(tmp_path / "mine.yaml")])
    assert isinstance(done.exception, InputError)
    assert "one of the two" in str(done.exception)


def test_what_is_held_out_is_not_drawn(two_maps: Path) -> None:
    kept = read_maps_of_folder(two_maps, ["other.nii.gz"])
    assert [each.name for each in kept] == ["one.nii.gz"]
    with pytest.raises(InputError, match=r"train: held_out: third\.nii\.gz"):
        read_maps_of_folder(two_maps, ["third.nii.gz"])


def test_a_recipe_of_a_file_trains_and_keeps_a_log(tmp_path: Path) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text(
        "kind: rasters\nseed: 3\ntrain:\n  name: small\n  ndim: 2\n  shares: {shapes: 1}\n  side: 32\n"
        "  channels: [4, 4, 4, 4]\n  passes: [1]\n  steps: 2\n  batch: 1\n  warmup: 1\n  validate_every: 1\n"
        "  validation_pairs: 1\n  workers: 0\n  device: cpu\n  precision: float32\n",
        encoding="utf-8",
    )
    done = CliRunner().invoke(
        train,
        ["--recipe", str(recipe), "-o", str(tmp_path / "out"), "--threads", "1"],
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "small.safetensors").is_file()
    lines = (tmp_path / "out" / "small.training" / "training.log").read_text(encoding="utf-8").splitlines()
    assert [line.split("step ")[1].split(":")[0] for line in lines if "step " in line] == ["1", "2"]
    assert all("loss" in line and "epe" in line for line in lines if "step " in line)
