"""A run's folder held against its crate, two runs held against each other, and crates that lie."""

import json
import shutil

import pytest
from click.testing import CliRunner
from small_run import describe, write_run, write_text

from regflow.commands.cli import main
from regflow.core.errors import InputError
from regflow.core.files import read_json, write_json
from regflow.provenance.comparison import compare_runs
from regflow.provenance.run_crate import read_crate
from regflow.provenance.verification import verify_run
from regflow.stages import layout


@pytest.fixture
def results(tmp_path):
    return write_run(tmp_path)


def test_an_untouched_run_is_as_it_was_left(results):
    for inside in ("logs/a.log", "benchmarks/a.tsv", "jobs/a.json", "apply/one/.snakemake_timestamp"):
        write_text(results / inside, "not of the results")
    found = verify_run(results, inputs=True, threads=2)
    assert found.problems == []
    assert found.checked == len(read_crate(results).files) + 3


def test_what_is_missing_changed_or_added_is_told(results):
    (results / "apply" / "one" / "warped.nii.gz").unlink()
    write_text(results / "refine" / "two" / "transform.h5", "refine of tvo")
    write_text(results / "apply" / "one" / "mine.txt", "new")
    write_text(results.parent / "data" / "one.nii", "another image")
    ended = CliRunner().invoke(main, ["verify", str(results), "--inputs"])
    assert ended.exit_code == 1
    *told, last = ended.output.splitlines()
    assert told == [
        f"{results}/apply/one/warped.nii.gz: is missing",
        f"{results}/refine/two/transform.h5: has changed",
        f"{results.parent}/data/one.nii: has changed",
        f"{results}/apply/one/mine.txt: is not of this run",
    ]
    assert last.startswith("4 files are not as the run left them")
    assert len(verify_run(results).problems) == 3


def test_without_a_crate_there_is_nothing_to_hold_a_folder_against(tmp_path):
    ended = CliRunner().invoke(main, ["verify", str(tmp_path)])
    assert ended.exit_code == 2
    assert "there is no crate; name the folder of results" in ended.output


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "apply/%2e%2e/%2e%2e/secret"])
def test_a_crate_that_names_files_outside_of_its_folder_is_not_trusted(results, name):
    content = read_json(results / layout.CRATE)
    content["@graph"].append({"@id": name, "@type": "File", "sha256": "0"})
    write_json(results / layout.CRATE, content)
    with pytest.raises(InputError, match="outside of its folder; it is not trusted"):
        verify_run(results)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"@graph": 3}', '{"@graph": [3]}', '{"@graph": [{}]}'])
def test_a_damaged_crate_is_told(results, text):
    (results / layout.CRATE).write_text(text)
    with pytest.raises(InputError, match="this is not the crate of a run"):
        verify_run(results)


@pytest.fixture
def again(results, tmp_path):
    """The same run made again: other times, the same content."""
    again = tmp_path / "again"
    shutil.copytree(results, again)
    for record in again.glob("*/*/stage.json"):
        write_json(record, {**read_json(record), "seconds": 99.0, "started": "2027-01-01T00:00:00+00:00"})
    write_text(again / "assess" / "cohort.tsv", "sample\tncc_refine\tseconds_refine\none\t0.9\t7.5\n")
    write_text(again / layout.COHORT_PAGE, "<p>all, in 7.5 s</p>")
    write_text(again / layout.CONFIGURATION, "samples: elsewhere.tsv\nseed: 3\n")
    return describe(again)


def test_a_run_that_came_out_again_is_equal_but_for_times(results, again):
    found = compare_runs(read_crate(results), read_crate(again))
    assert found.is_equal
    records = {"assess/cohort.tsv", "config.yaml"}
    records |= {
        f"{stage}/{name}/stage.json" for stage in ("initialize", "refine", "apply") for name in ("one", "two")
    }
    assert set(found.same_but_for_times) == records
    assert found.pages == [layout.COHORT_PAGE]
    assert found.same == len(read_crate(results).files) - len(records) - 1


def test_what_came_out_otherwise_is_told(results, again):
    write_json(again / "refine" / "one" / "stage.json", {"stage": "refine", "state": "error", "seconds": 1.0})
    write_text(again / "assess" / "cohort.tsv", "sample\tncc_refine\tseconds_refine\none\t0.8\t1.25\n")
    write_text(again / layout.CONFIGURATION, "samples: sheet.tsv\nseed: 4\n")
    (again / "report" / "two.html").unlink()
    write_text(again / "multiqc" / "more.json", "{}")
    write_text(results.parent / "data" / "one.nii", "another image")
    manifest = again / "ingest" / "moving" / "one.json"
    write_json(manifest, {**read_json(manifest), "sha256": {"image": "0" * 64}})
    found = compare_runs(read_crate(results), read_crate(describe(again)))
    assert set(found.different) == {
        *("refine/one/stage.json", "assess/cohort.tsv", "config.yaml", "ingest/moving/one.json")
    }
    assert found.missing == ["report/two.html"]
    assert found.additional == ["multiqc/more.json"]
    assert [address.rsplit("/", 1)[1] for address in found.inputs] == ["one.nii"]
    assert not found.is_equal


def test_a_crate_is_json_that_others_read(results):
    content = json.loads((results / layout.CRATE).read_text(encoding="utf-8"))
    assert content["@context"][0] == "https://w3id.org/ro/crate/1.1/context"
