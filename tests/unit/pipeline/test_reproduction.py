"""A run again from its crate: what is taken from it, what is refused, and what a person is told."""

import shutil
import subprocess

import pytest
import yaml
from click.testing import CliRunner
from small_run import RECORD, describe, write_run, write_text

from regflow.commands.cli import main
from regflow.core.errors import InputError
from regflow.pipeline.reproduction import list_changes, prepare_reproduction
from regflow.provenance.run_crate import read_crate
from regflow.stages import layout


@pytest.fixture
def results(tmp_path):
    return write_run(tmp_path / "study")


def reproduce(results, monkeypatch, edit=lambda folder: None, code=0):
    """Reproduce a run, the second one being a copy of the first."""
    asked = []

    def run(command, *, cwd, check):
        asked.append((command, cwd))
        again = results.parents[1] / "again" / "results"
        shutil.copytree(results, again)
        edit(again)
        describe(again)
        return subprocess.CompletedProcess(command, code)

    monkeypatch.setattr(subprocess, "run", run)
    ended = CliRunner().invoke(main, ["reproduce", str(results), "-o", str(results.parents[1] / "again")])
    return ended, asked


def test_a_run_is_started_where_it_was_with_its_configuration_and_sheet(results, monkeypatch):
    ended, ((command, folder),) = reproduce(results, monkeypatch)
    assert ended.exit_code == 0, ended.output
    assert ended.output.endswith("the run came out again\n")
    assert folder == results.parent
    again = results.parents[1] / "again"
    assert command[2:6] == ["regflow", "run", "--config", str(again / "config.yaml")]
    settings = yaml.safe_load((again / "config.yaml").read_text(encoding="utf-8"))
    assert settings == {"samples": str(again / "samples.tsv"), "seed": 3, "output": str(again / "results")}
    assert (again / "samples.tsv").read_bytes() == (results / "samples.tsv").read_bytes()


def test_what_comes_out_otherwise_is_told(results, monkeypatch):
    def edit(again):
        (again / "apply" / "one" / "warped.nii.gz").write_text("other")
        (again / "apply" / "one" / "stage.json").unlink()
        (again / "apply" / "two" / "stage.json").unlink()

    ended, _ = reproduce(results, monkeypatch, edit)
    assert ended.exit_code == 1
    assert "apply/one/warped.nii.gz: was not made again" in ended.output
    assert ended.output.endswith("4 files differ\n")


def test_a_second_run_that_fails_is_not_compared(results, monkeypatch):
    ended, _ = reproduce(results, monkeypatch, code=3)
    assert ended.exit_code == 3
    assert "the second run did not come to its end" in ended.output


@pytest.mark.parametrize("name", [layout.CONFIGURATION, layout.SHEET, layout.PROVENANCE])
def test_a_run_whose_making_has_changed_is_not_run_again(name, results, tmp_path):
    write_text(results / name, "changed")
    with pytest.raises(InputError, match=f"{name}: is missing or has changed since the run"):
        prepare_reproduction(read_crate(results), tmp_path / "again")


def test_a_folder_that_is_there_is_left_alone(results, tmp_path):
    write_text(tmp_path / "again" / "mine.txt", "mine")
    with pytest.raises(InputError, match="this is there already; name a new folder"):
        prepare_reproduction(read_crate(results), tmp_path / "again")
    assert [path.name for path in (tmp_path / "again").iterdir()] == ["mine.txt"]


def test_what_is_not_as_it_was_is_told():
    told = list(list_changes({**RECORD, "regflow": "0.0.9", "packages": {"numpy": "1.0", "absent": "2.0"}}))
    assert told[0].startswith("regflow was 0.0.9, and is ")
    assert told[1].startswith("numpy was 1.0, and is ")
    assert told[2] == "absent was 2.0, and is not there"
    assert told[3].startswith("the processor was a processor, and is ")
