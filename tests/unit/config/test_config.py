"""The configuration: defaults, refusals in one sentence each, and the files made from its model."""

import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from regflow.cohort.columns import define_samples_schema
from regflow.config import reference
from regflow.config.keys import KINDS, list_leaves
from regflow.config.loading import load_config, load_defaults
from regflow.config.schema import define_config_schema
from regflow.core.errors import InputError
from regflow.methods import initialize, preprocess, refine
from regflow.methods.table import list_methods_of_kind

ROOT = Path(__file__).parents[3]
SAMPLES = {"samples": "samples.tsv"}


def refusal(config) -> list[str]:
    with pytest.raises(InputError) as caught:
        load_config(config)
    return str(caught.value).splitlines()


def nested(path: str, value: object) -> dict:
    """Return ``value`` under the keys of ``path``, and a sample sheet."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return {**SAMPLES, **value}


@pytest.mark.parametrize("kind", KINDS)
def test_every_documented_key_has_its_default(kind):
    complete = load_config({**SAMPLES, "kind": kind})
    for path, entry in list_leaves(define_config_schema(kind)):
        if "NAME" in path or path.startswith(("bids.", "stac.", "samples")):
            continue
        value = complete
        for key in path.split("."):
            value = value[key]
        assert value == entry["default"]


def test_what_is_given_stands_and_its_neighbors_get_defaults():
    complete = load_config(nested("initialize.options.mutual-information.bins", 16))
    options = complete["initialize"]["options"]["mutual-information"]
    assert options["bins"] == 16
    assert options["starts"] == initialize.METHODS["mutual-information"].options["starts"]["default"]
    assert complete["refine"] == load_config(SAMPLES)["refine"]


def test_a_figure_with_new_limits_loses_its_old_ones_and_no_other_does():
    limits = {"folding_percent": {"warn_above": 0.1}, "dice_mean": {"fail_below": 0.5}}
    given = load_config(nested("assess.limits", limits))["assess"]["limits"]
    assert given == {**load_config(SAMPLES)["assess"]["limits"], **limits}


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_configuration_loads_again_to_the_same(kind):
    complete = load_config({**SAMPLES, "kind": kind})
    assert load_config(complete) == complete


def test_defaults_are_not_shared():
    first = load_defaults()
    first["preprocess"]["bias"]["method"] = "spoiled"
    assert load_defaults()["preprocess"]["bias"]["method"] == "n4"


def test_a_section_left_empty_in_yaml_takes_its_defaults(tmp_path):
    (tmp_path / "config.yaml").write_text("samples: a.tsv\ninitialize:\nrefine:\n  options:\n")
    assert load_config(tmp_path / "config.yaml") == load_config({"samples": "a.tsv"})


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("initialise", {}, "unknown key 'initialise'; did you mean 'initialize'?"),
        ("ouput", "x", "unknown key 'ouput'; did you mean 'output'?"),
        ("preprocess.spacing", 2, "unknown key 'preprocess.spacing'; did you mean 'preprocess.spacing_mm'?"),
        (
            "initialize.options.mutual-information.bin",
            16,
            "unknown key 'initialize.options.mutual-information.bin'; "
            "did you mean 'initialize.options.mutual-information.bins'?",
        ),
        (
            "initialize.options.mutual_information",
            {},
            "unknown method 'initialize.options.mutual_information'; "
            "did you mean 'initialize.options.mutual-information'?",
        ),
        ("initialize.methods", ["elastics"], "unknown method 'elastics'; did you mean 'elastix'?"),
        ("refine.methods", ["voxelmorf"], "unknown method 'voxelmorf'; did you mean 'voxelmorph'?"),
        ("preprocess.bias.method", "N3", "preprocess.bias.method: unknown method 'N3'; did you mean 'n4'?"),
        ("apply.interpolation", "Linear", "apply.interpolation is 'Linear'; did you mean 'linear'?"),
        ("seed", "one", "seed is 'one', but must be a whole number"),
        ("seed", 1.5, "seed is 1.5, but must be a whole number"),
        ("seed", -1, "seed is -1, but must be at least 0"),
        ("seed", True, "seed is true, but must be a whole number"),
        ("apply.inverse", "yes please", "apply.inverse is 'yes please', but must be true or false"),
        ("preprocess.spacing_mm", 0, "preprocess.spacing_mm is 0, but must be more than 0"),
        ("preprocess.bias.options.n4.convergence", "1e-3", "must be a number: write 0.001"),
        ("refine.methods", "none", "refine.methods is 'none', but must be a list: write [none]"),
        ("refine", ["none"], "refine is a list, but must be a section of keys"),
        ("refine.gate", {"foldings": {}}, "did you mean 'refine.gate.folding_percent'?"),
        (
            "refine.gate",
            {"folding_percent": {"fail_over": 1}},
            "did you mean 'refine.gate.folding_percent.fail_above'?",
        ),
        ("atlases", {"mni": {"mask": "m.nii"}}, "atlases.mni: the key 'image' is missing"),
        ("atlases", {"my atlas": {"image": "a.nii"}}, "'my atlas' may hold only letters"),
        ("fixed", "mni", "fixed names the atlas 'mni', which 'atlases' does not hold"),
        ("output", "results{x}", "Snakemake takes { } for marks of wildcards; name a folder without them"),
        ("bids", {"path": "x"}, "give either 'samples' (a sheet) or 'bids'"),
    ],
)
def test_each_mistake_gets_one_sentence(path, value, told):
    problems = refusal(nested(path, value))
    assert len(problems) == 1
    assert problems[0].startswith("configuration: ")
    assert told in problems[0]


def test_all_mistakes_are_told_at_once():
    problems = refusal({**SAMPLES, "sed": 1, "output": 3, "refine": {"methods": []}})
    assert len(problems) == 3


def test_a_missing_atlas_names_the_nearest_one():
    config = {**SAMPLES, "fixed": "nmi", "atlases": {"mni": {"image": "a.nii"}, "colin": {"image": "b.nii"}}}
    assert "did you mean 'mni'?" in refusal(config)[0]


def test_a_file_that_cannot_be_read_is_named_with_its_line(tmp_path):
    assert "does not exist" in refusal(tmp_path / "none.yaml")[0]
    path = tmp_path / "config.yaml"
    path.write_text("samples: a.tsv\nrefine: {methods: [none\n")
    assert refusal(path)[0].startswith(f"{path}, line 3: not valid YAML")
    for text in ("[" * 5000, "seed: 2024-13-45\n", "seed: \0\n"):
        path.write_text(text)
        assert refusal(path)[0].startswith(f"{path}: not ")
    path.write_text("- a\n- b\n")
    assert "holds no keys" in refusal(path)[0]
    path.write_text("")
    assert "holds no keys" in refusal(path)[0]


def test_the_schemas_are_valid_and_hold_every_method():
    for kind in KINDS:
        Draft202012Validator.check_schema(define_config_schema(kind))
        Draft202012Validator.check_schema(define_samples_schema(kind))
    properties = define_config_schema()["properties"]
    for stage, whole_table in (("initialize", initialize.METHODS), ("refine", refine.METHODS)):
        table = list_methods_of_kind(whole_table, "volumes")
        assert properties[stage]["properties"]["methods"]["items"]["enum"] == list(table)
        for name, method in table.items():
            if method.options:
                options = properties[stage]["properties"]["options"]["properties"][name]["properties"]
                assert options == method.options
    assert properties["preprocess"] == preprocess.define_preprocess_schema()


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_has_a_description_and_a_default(kind):
    required = ("bids.path", "atlases.NAME.image", "stac.path", "stac.asset", "references.NAME.image")
    for path, entry in list_leaves(define_config_schema(kind)):
        assert entry["description"], path
        assert "default" in entry or path in required, path


@pytest.mark.parametrize("path", sorted(reference.build_schema_files()))
def test_the_committed_schemas_are_those_of_the_model(path):
    committed = (ROOT / path).read_text(encoding="utf-8")
    assert committed == reference.build_schema_files()[path], "run: python -m regflow.config.reference"


@pytest.mark.parametrize("kind", reference.PAGES)
def test_the_reference_pages_have_the_tables_of_the_model(kind):
    page = (ROOT / reference.PAGES[kind]).read_text(encoding="utf-8")
    assert page == reference.fill_tables(page, kind), "run: python -m regflow.config.reference"


@pytest.mark.parametrize(("kind", "path"), [("volumes", "config.yaml"), ("rasters", "rasters/config.yaml")])
def test_the_standard_configurations_say_what_the_defaults_are(kind, path):
    given = load_config(ROOT / "config" / path)
    plain = load_defaults(kind)
    own = {"kind", "samples", "bids", "stac", "output", "seed", "fixed", "atlases", "references"}
    assert len(plain.keys() - own) >= 5
    for section in plain.keys() - own:
        assert given[section] == plain[section], section


def test_reading_configuration_and_sheet_loads_no_heavy_library():
    code = """
import sys
from regflow.config.loading import load_config
from regflow.cohort.volumes.reading import read_samples
read_samples(load_config("config/config.yaml"))
heavy = {"torch", "itk", "SimpleITK", "numba", "matplotlib", "pandas", "nibabel", "scipy"}
print(*heavy & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
