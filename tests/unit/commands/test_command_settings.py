"""Settings on the command line: what overrides what, and each mistake told with where it stands."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from regflow.commands.cli import main
from regflow.commands.pair_settings import read_pair_settings
from regflow.commands.register import register
from regflow.commands.settings import OF_A_STUDY
from regflow.config.loading import list_sections, load_config
from regflow.config.presets import load_preset, merge_settings
from regflow.config.workflow import WORKFLOWS
from regflow.core.errors import InputError
from regflow.methods import initialize, refine
from regflow.methods.table import list_methods_of_kind

FREEDOM = {"volumes": "transform", "rasters": "model"}


def parsed(*options: str) -> dict:
    """Return the options of ``regflow register`` by name, as the command gets them."""
    return register.make_context("register", ["f.nii.gz", "m.nii.gz", "-o", "out", *options]).params


def chosen(*options: str, kind: str = "volumes", preset: str = "default") -> dict:
    """Return the complete configuration that options of ``regflow register`` come to."""
    part = read_pair_settings(parsed(*options), kind, preset)
    return load_config({"kind": kind, "samples": "-", **merge_settings(load_preset(preset, kind), part)})


def settings_file(folder: Path, **content: object) -> str:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return str(path)


def test_each_layer_overrides_those_below_it(tmp_path):
    greedy = {"options": {"greedy": {"iterations": [9, 8, 7]}}}
    file = ("--config", settings_file(tmp_path, refine=greedy, apply={"interpolation": "nearest"}))
    assigned = ("--set", "apply.interpolation=lanczos", "--set", "refine.options.greedy.iterations=[1, 1, 1]")

    def found(*options: str) -> tuple[str, list[int]]:
        config = chosen(*options, preset="fast")
        return config["apply"]["interpolation"], config["refine"]["options"]["greedy"]["iterations"]

    plain = load_config({"samples": "-"})["refine"]["options"]["greedy"]["iterations"]
    assert found() == ("linear", [50, 50, 0])
    assert found()[1] != plain
    assert found(*file) == ("nearest", [9, 8, 7])
    assert found(*file, "--interpolation", "cubic") == ("cubic", [9, 8, 7])
    assert found(*file, "--interpolation", "cubic", *assigned) == ("lanczos", [1, 1, 1])
    assert found(*assigned, "--set", "apply.interpolation=cubic")[0] == "cubic"


def test_neighbors_of_what_is_set_keep_their_values():
    config = chosen("--set", "refine.options.greedy.radius=[5, 5, 7]", preset="fast")
    plain = chosen(preset="fast")
    assert config["refine"]["options"]["greedy"].pop("radius") == [5, 5, 7]
    plain["refine"]["options"]["greedy"].pop("radius")
    assert config == plain


def test_a_section_left_empty_in_a_file_takes_nothing_away(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("refine:\n  options:\napply: {labels: smooth}\n", encoding="utf-8")
    config = chosen("--config", str(path), preset="fast")
    assert config["refine"] == chosen(preset="fast")["refine"]
    assert config["apply"]["labels"] == "smooth"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("refine.options.greedy.radus=3", "did you mean 'refine.options.greedy.radius'?"),
        ("refne.methods=[none]", "unknown key 'refne'; did you mean 'refine'?"),
        ("refine.options.gredy.radius=[3]", "unknown method 'refine.options.gredy'"),
        ("refine.options.greedy.radius=3", "must be a list: write [3]"),
        ("refine.methods=[greedi]", "unknown method 'greedi'; did you mean 'greedy'?"),
        ("refine=null", "refine is null, but must be a section of keys"),
        ("seed=-1", "seed is -1, but must be at least 0"),
        ("seed=1e-3", "must be a whole number"),
        ("seed.x=1", "seed is a section of keys, but must be a whole number"),
        ("refine.options.greedy.radius=[5,", "the value is not valid YAML"),
        ("seed", "must be KEY=VALUE"),
        ("seed=", "must be KEY=VALUE"),
        ("=3", "must be KEY=VALUE"),
        ("refine..methods=[none]", "must be KEY=VALUE"),
        ("output=results", "but not 'output'; leave that out"),
        ("atlases.mni.image=a.nii", "but not 'atlases'; leave that out"),
        ("keep=[all]", "but not 'keep'; leave that out"),
    ],
)
def test_a_mistake_in_an_assignment_is_told_with_it(text, told):
    with pytest.raises(InputError) as caught:
        read_pair_settings(parsed("--set", text), "volumes", "default")
    assert str(caught.value).startswith(f"--set {text}: ")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pair_is_asked_nothing_that_belongs_to_a_study():
    for kind, stages in WORKFLOWS.items():
        others = set(list_sections(kind)) - set(stages.needs) - {"kind", "seed", "dask"}
        assert others <= set(OF_A_STUDY)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("refine: {options: {greedy: {radus: [3]}}}", "did you mean 'refine.options.greedy.radius'?"),
        ("samples: a.tsv\nbids: {path: x}\nrefine: {methods: [none]}", "not 'samples' and 'bids'"),
        ("kind: rasters", "its 'kind' is rasters, but volumes are given"),
        ("refine: {methods: [none", "line 1: not valid YAML"),
        ("- a", "holds no keys"),
        (None, "does not exist; name a YAML file"),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_name(tmp_path, content, told):
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_pair_settings(parsed("--config", str(path)), "volumes", "default")
    assert str(caught.value).startswith(str(path))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--refine", "greedi"), "--refine: "),
        (("--seed", "-1"), "--seed: seed is -1"),
        (("--interpolation", "spline"), "--interpolation: apply.interpolation is 'spline'"),
    ],
)
def test_a_mistake_in_an_option_is_told_with_it(options, told):
    with pytest.raises(InputError, match=told):
        read_pair_settings(parsed(*options), "volumes", "default")


@pytest.mark.parametrize("command", [("register", "a.nii.gz", "b.nii.gz"), ("detect", "a.tif", "b.tif")])
def test_a_mistake_comes_before_any_work_and_is_one_sentence(command, tmp_path):
    ended = CliRunner().invoke(main, [*command, "-o", str(tmp_path / "out"), "--set", "output=x"])
    assert ended.exit_code == 2
    assert ended.output.startswith("Error: --set output=x: regflow ")
    assert ended.output.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["volumes", "rasters"])
def test_every_kind_of_transform_goes_to_every_method_that_offers_it(kind):
    table = list_methods_of_kind(initialize.METHODS, kind)
    option = FREEDOM[kind]
    offered = table["mutual-information"].options[option]["enum"]
    for transform in [*offered, *(["homography"] if kind == "rasters" else [])]:
        config = chosen("--transform", transform, kind=kind)
        ladder = config["initialize"]["methods"]
        plain = chosen(kind=kind)["initialize"]["methods"]
        assert ladder == [name for name in plain if transform in table[name].options[option]["enum"]]
        assert {config["initialize"]["options"][name][option] for name in ladder} == {transform}
        assert config["refine"]["methods"] == ["none"]
        assert chosen("--model", transform, kind=kind) == config


def test_methods_that_cannot_choose_stay_and_a_given_deformation_too():
    config = chosen("--transform", "rigid", "--initialize", "moments,elastix", "--refine", "greedy")
    assert config["initialize"]["methods"] == ["moments", "elastix"]
    assert config["initialize"]["options"]["elastix"]["transform"] == "rigid"
    assert config["refine"]["methods"] == ["greedy"]
    key = "initialize.options.elastix.transform"
    overruled = chosen("--transform", "rigid", "--set", f"{key}=affine")
    assert overruled["initialize"]["options"]["elastix"]["transform"] == "affine"


def test_a_ladder_of_the_users_is_not_shortened(tmp_path):
    ladder = {"methods": ["sift", "elastix"]}
    given = (
        ("--initialize", "sift,elastix"),
        ("--set", "initialize.methods=[sift, elastix]"),
        ("--config", settings_file(tmp_path, initialize=ladder)),
    )
    for options in given:
        with pytest.raises(InputError, match=r"--transform homography: 'elastix' seeks no such"):
            read_pair_settings(parsed("--transform", "homography", *options), "rasters", "default")
    for kind, transform in (("volumes", "homography"), ("rasters", "rigid")):
        with pytest.raises(
            InputError, match=f"--transform {transform}: '.*' seeks no such transform, but one"
        ):
            read_pair_settings(parsed("--transform", transform), kind, "default")


@pytest.mark.parametrize("preset", ["default", "same-sensor", "other-sensor", "microscopy"])
def test_a_preset_keeps_its_own_methods(preset):
    ladder = chosen("--transform", "affine", kind="rasters", preset=preset)["initialize"]["methods"]
    assert ladder == chosen(kind="rasters", preset=preset)["initialize"]["methods"]


@pytest.mark.parametrize("which", ["fixed", "both"])
def test_masks_reach_every_method_that_looks_at_them(which):
    options = chosen("--masks", which)["refine"]["options"]
    table = list_methods_of_kind(refine.METHODS, "volumes")
    looking = [name for name, method in table.items() if "masks" in method.options]
    assert {"greedy", "instance-optimization"} <= set(looking)
    assert {options[name]["masks"] for name in looking} == {which}
    assert options["voxelmorph"]["refinement_options"]["masks"] == which


def test_detection_takes_its_section_by_the_same_rules(tmp_path):
    from regflow.commands.detect import _settings, detect

    def settings(*options: str) -> dict:
        return _settings(detect.make_context("detect", ["a.tif", "b.tif", "-o", "out", *options]).params)

    file = (
        "--config",
        settings_file(tmp_path, detect={"level": 0.9, "margin_px": 3, "pairs": "consecutive"}),
    )
    plain = load_config({"kind": "rasters"}, with_samples=False)["detect"]
    assert settings() == plain
    assert settings(*file) == {**plain, "level": 0.9, "margin_px": 3, "pairs": "consecutive"}
    assert settings(*file, "--level", "0.8")["level"] == 0.8
    assert settings(*file, "--level", "0.8", "--set", "detect.level=0.7")["level"] == 0.7
    assert settings(*file, "--pairs", "reference")["pairs"] == "reference"
    assert settings("--set", "detect.normalized=true")["normalized"] is True
    assert settings("--all-pixels", "--method", "cva")["pixels"] is None
    assert settings("--index", "4,3")["options"]["index-difference"] == {"indices": [[4, 3]]}
    with pytest.raises(InputError, match=r"^--method: detect\.method: unknown method 'cvaa'"):
        settings("--method", "cvaa")
    for key, told in (
        ("detect.levl=0.5", r"did you mean 'detect\.level'\?"),
        ("detect.level=2", "must be less than 1"),
        ("refine.methods=[none]", "regflow detect reads 'detect', but not 'refine'"),
        ("detect.method=null", "name one by --method"),
    ):
        with pytest.raises(InputError, match=told):
            settings("--set", key)


def test_a_training_takes_settings_by_the_same_rules(tmp_path):
    from regflow.commands.train import _configuration

    def found(*texts: str, **given: object) -> dict:
        named = {"device": None, "workers": None, "seed": None, "label_maps": None, **given}
        return _configuration(Path(path), named, texts)

    path = settings_file(tmp_path, train={"steps": 70, "rate": 0.5, "workers": 3}, seed=5)
    plain = load_config(path, with_samples=False)
    assert found() == plain
    assert found(workers=2)["train"] == {**plain["train"], "workers": 2}
    assert found("train.workers=1", "seed=7", workers=2, seed=6)["train"]["workers"] == 1
    assert found("train.workers=1", "seed=7", workers=2, seed=6)["seed"] == 7
    assert found("train.steps=9")["train"] == {**plain["train"], "steps": 9}
    with pytest.raises(InputError, match=r"--set train\.step=9: .*did you mean 'train\.steps'"):
        found("train.step=9")
    Path(path).write_text("train: {step: 9}", encoding="utf-8")
    with pytest.raises(InputError, match=r"mine\.yaml: unknown key 'train\.step'"):
        found()


def test_companions_are_named_once():
    from regflow.cohort.rasters.samples import parse_pairs

    assert parse_pairs(["a=x.tif", "b=y=z.tif"]) == {"a": "x.tif", "b": "y=z.tif"}
    with pytest.raises(InputError, match=r"'a' names x\.tif already"):
        parse_pairs(["a=x.tif", "a=y.tif"])
