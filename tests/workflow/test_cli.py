"""The command line: quick to start, and one sentence for a mistake."""

import subprocess
import sys
from importlib.metadata import packages_distributions

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from regflow import __version__
from regflow.commands.cli import COMMANDS, main
from regflow.config.presets import PRESETS


def regflow(*arguments, folder=None):
    return subprocess.run(
        [sys.executable, "-m", "regflow", *map(str, arguments)], cwd=folder, capture_output=True, text=True
    )


def refused(ended) -> str:
    """Return the one sentence on standard error."""
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("Error: ")
    assert ended.stderr.count("\n") == 1
    return ended.stderr


def test_help_loads_no_library_but_clicks():
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "regflow", "--help"],
        capture_output=True, text=True, check=True,
    ).stderr  # fmt: skip
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in told.splitlines()}
    libraries = packages_distributions().keys() - {"regflow", "_distutils_hack"}
    assert loaded & libraries == {"click"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    told = CliRunner().invoke(main, [command, "--help"])
    assert told.exit_code == 0
    assert len(told.output.splitlines()) > 5
    assert r"\b" not in told.output


def test_examples_in_the_help_are_lines_that_can_be_copied():
    examples = {
        "register": "regflow register reference.tif scene.tif -o aligned --fixed-bands B04 --bands B08",
        "apply": "regflow apply aligned/displacement.tif wells.csv --points -o wells_on_reference.csv",
    }
    for command, line in examples.items():
        told = CliRunner().invoke(main, [command, "--help"]).output
        assert line in [shown.strip() for shown in told.splitlines()]
    assert "  regflow init study          # writes" in CliRunner().invoke(main, ["--help"]).output


@pytest.mark.parametrize("kind", PRESETS)
def test_every_preset_is_in_the_help(kind):
    told = CliRunner().invoke(main, ["register", "--help"]).output
    shown = [line.strip().partition(":")[0] for line in told.splitlines()]
    assert PRESETS[kind].keys() <= set(shown)


def test_version():
    assert CliRunner().invoke(main, ["--version"]).output == f"regflow, version {__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_learn_to_complete(shell):
    told = CliRunner().invoke(main, ["completion", shell])
    assert told.exit_code == 0
    assert "_REGFLOW_COMPLETE" in told.output


def test_completion_offers_commands_and_options():
    asked = {"_REGFLOW_COMPLETE": "bash_complete", "COMP_WORDS": "regflow re", "COMP_CWORD": "1"}
    told = CliRunner().invoke(main, [], env=asked, prog_name="regflow")
    assert "register" in told.output


def test_init_writes_a_study_that_check_understands(tmp_path):
    assert regflow("init", "study", folder=tmp_path).returncode == 0
    config = tmp_path / "study" / "config" / "config.yaml"
    assert "#" in config.read_text(encoding="utf-8")
    assert yaml.safe_load(config.read_text(encoding="utf-8"))["samples"] == "config/samples.tsv"
    assert "exists already" in refused(regflow("init", "study", folder=tmp_path))


def test_check_tells_all_problems_at_once(make_study, tmp_path):
    study = make_study(("mni6", "icbm2009a"))
    (tmp_path / "text.nii.gz").write_text("not an image")
    study.rows[0]["moving"] = tmp_path / "text.nii.gz"
    study.rows[1]["moving"] = tmp_path / "absent.nii.gz"
    ended = study.write().regflow("check")
    assert ended.returncode == 1
    assert "text.nii.gz" in ended.stdout
    assert "absent.nii.gz" in ended.stdout
    assert "Traceback" not in ended.stderr


def test_check_tells_that_nothing_runs_with_a_wrong_sheet(make_study):
    study = make_study(("mni6", "icbm2009a"))
    study.rows[1]["sample"] = study.rows[0]["sample"]
    ended = study.write().regflow("check")
    assert ended.returncode == 1
    assert "is already on line 2" in ended.stdout
    assert "1 problem: mend them, nothing runs before" in ended.stdout


def test_check_is_content_with_good_inputs(make_study):
    ended = make_study().regflow("check")
    assert ended.returncode == 0, ended.stdout


def test_run_without_a_configuration_is_one_sentence(tmp_path):
    assert "config/config.yaml" in refused(regflow("run", folder=tmp_path))


def test_run_shows_plain_lines_in_a_log(make_study):
    ended = make_study().regflow("run", "--dry-run")
    assert ended.returncode == 0, ended.stderr
    assert "register" in ended.stdout


@pytest.fixture(scope="module")
def registered(tmp_path_factory, volume_file):
    """One pair registered by the command line, quickly."""
    folder = tmp_path_factory.mktemp("pair")
    fixed, moving = volume_file("mni2009c", 4.0), volume_file("mni6", 4.0)
    ended = regflow("register", fixed, moving, "-o", folder / "aligned", "--initialize", "moments")
    assert ended.returncode == 0, ended.stderr
    return folder / "aligned"


def test_register_writes_what_it_promises(registered):
    names = {path.name for path in registered.iterdir()}
    assert names >= {"warped.nii.gz", "transform.h5", "inverse.h5", "quality.json", "report.html"}


def test_register_refuses_a_missing_file_in_one_sentence(tmp_path, volume_file):
    ended = regflow("register", volume_file("mni2009c", 4.0), tmp_path / "no.nii.gz", "-o", tmp_path / "out")
    assert "no.nii.gz" in refused(ended)
    assert not (tmp_path / "out").exists()


def test_apply_makes_the_image_that_register_made(registered, volume_file, tmp_path):
    import nibabel as nib

    fixed, moving = volume_file("mni2009c", 4.0), volume_file("mni6", 4.0)
    again = tmp_path / "again.nii.gz"
    ended = regflow("apply", registered / "transform.h5", moving, "-r", fixed, "-o", again)
    assert ended.returncode == 0, ended.stderr
    before, after = (nib.load(path).get_fdata() for path in (registered / "warped.nii.gz", again))
    # The file's displacements are rounded to a thousandth of a sample.
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-3 * before.max())


def test_apply_carries_labels_without_inventing_any(registered, volume_file, tmp_path):
    import nibabel as nib

    labels, target = volume_file("neuromorphometrics", 4.0), tmp_path / "labels.nii.gz"
    ended = regflow(
        *("apply", registered / "transform.h5", labels, "--labels", "-o", target),
        *("-r", volume_file("mni2009c", 4.0)),
    )
    assert ended.returncode == 0, ended.stderr
    before, after = (set(np.unique(nib.load(path).get_fdata())) for path in (labels, target))
    assert after <= before
    assert len(after) > 50


def test_apply_brings_points_along_with_the_image(registered, tmp_path):
    import SimpleITK as sitk

    from regflow.core.landmarks import Landmarks
    from regflow.io.landmarks import read_landmarks, write_landmarks

    fixed_points = np.array([[0.0, 20.0, 10.0], [-30.0, 0.0, 20.0], [25.0, 30.0, 0.0]])
    transform = sitk.ReadTransform(str(registered / "transform.h5"))
    moving_points = np.array([transform.TransformPoint(point) for point in fixed_points])
    write_landmarks(tmp_path / "moving.csv", Landmarks(("a", "b", "c"), moving_points))
    ended = regflow(
        *("apply", registered / "transform.h5", tmp_path / "moving.csv", "--points"),
        *("-o", tmp_path / "fixed.csv"),
    )
    assert ended.returncode == 0, ended.stderr
    np.testing.assert_allclose(read_landmarks(tmp_path / "fixed.csv").points, fixed_points, atol=0.1)


def test_apply_needs_a_reference_for_an_image(tmp_path):
    said = refused(regflow("apply", "transform.h5", "image.nii.gz", "-o", tmp_path / "out.nii.gz"))
    assert "--reference" in said
