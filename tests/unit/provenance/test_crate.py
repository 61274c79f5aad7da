"""The crate of a run: every file with its checksum, nothing computed twice, no secret, and the profile."""

import json

import pytest
from crate_check import find_issues
from small_run import RECORD, SAMPLES, describe, write_run

from regflow.core.files import compute_sha256, read_json, write_json
from regflow.provenance.crate import find_address
from regflow.provenance.inventory import list_present_files
from regflow.provenance.run_crate import read_crate
from regflow.stages import layout


@pytest.fixture
def results(tmp_path):
    return write_run(tmp_path)


def entities(results) -> dict:
    return {entity["@id"]: entity for entity in read_json(results / layout.CRATE)["@graph"]}


def test_every_file_of_a_run_is_in_its_crate_with_its_checksum(results):
    crate = read_crate(results)
    assert set(crate.files) == set(list_present_files(results))
    assert {"apply/two/warped.nii.gz", "report/one.html", "workflow/Snakefile"} <= set(crate.files)
    assert all(compute_sha256(results / path) == checksum for path, checksum in crate.files.items())
    known = {address.rsplit("/", 1)[1]: checksum for address, checksum in crate.inputs.items()}
    data = results.parent / "data"
    assert known == {path.name: compute_sha256(path) for path in data.iterdir()}


def test_checksums_that_the_records_hold_are_not_computed_again(results):
    asked = []

    def compute(path):
        asked.append(path.relative_to(results).parts[0])
        return compute_sha256(path)

    # The same file under another name, as derivatives have it.
    (results / "derivatives").mkdir()
    (results / "derivatives" / "sub-one.nii.gz").hardlink_to(results / "apply" / "one" / "warped.nii.gz")
    describe(results, compute_checksum=compute)
    assert set(asked) == {"assess", "config.yaml", "provenance.json", "report", "samples.tsv", "workflow"}
    assert asked.count("assess") == asked.count("report") == 1
    assert "derivatives/sub-one.nii.gz" in read_crate(results).files


def test_what_no_record_knows_the_checksum_of_is_read(results):
    """Stages that an earlier version has run recorded none."""
    for path in (results / "refine" / "one" / "stage.json", results / "report" / "records" / "one.json"):
        content = read_json(path)
        del content["files"]
        write_json(path, content)
    found = read_crate(describe(results)).files
    assert found["refine/one/transform.h5"] == compute_sha256(results / "refine/one/transform.h5")
    assert found["report/one.html"] == compute_sha256(results / "report/one.html")


def test_what_is_not_of_the_cohort_is_left_out(results):
    describe(results, SAMPLES[:1])
    assert not [path for path in read_crate(results).files if "two" in path]


def test_a_crate_tells_parameters_versions_hardware_and_times(results):
    found = entities(results)
    assert found["#value/refine.methods"]["value"] == '["greedy"]'
    assert found["#value/seed"]["value"] == 3
    assert found["#software/numpy"]["softwareVersion"] == "2.4.7"
    assert found["#environment/lock.sha256"]["value"] == RECORD["lock"]["sha256"]
    assert found["#environment/lock.other.numpy"]["value"] == "2.4.6"
    assert found["#environment/machine.cores"]["value"] == 2
    assert found["#seconds/report"]["value"] == 2.0 * len(SAMPLES)
    run = found["#run"]
    assert run["startTime"] == "2026-01-01T00:00:01+00:00" < run["endTime"]
    assert run["actionStatus"].endswith("/CompletedActionStatus")


def test_two_crates_of_a_run_differ_in_times_alone(results):
    def without_times():
        told = entities(results)
        for name, key in (("./", "datePublished"), ("#run", "endTime")):
            told[name].pop(key)
        return told

    first = without_times()
    describe(results)
    assert without_times() == first


def test_a_run_in_which_jobs_crashed_says_so(results):
    run = entities(describe(results, failure="some jobs crashed"))["#run"]
    assert run["actionStatus"].endswith("/FailedActionStatus")
    assert run["error"] == "some jobs crashed"


def test_no_crate_holds_a_secret(tmp_path):
    signed = "https://x.org/a.tif?X-Amz-Signature=SECRET"
    results = write_run(tmp_path, command=f"regflow run --set fixed={signed}")
    manifest = results / "ingest" / "moving" / "one.json"
    write_json(manifest, {**read_json(manifest), "paths": {"image": signed}, "sha256": {}})
    describe(results)
    assert "SECRET" not in (results / layout.CRATE).read_text(encoding="utf-8")
    assert read_crate(results).inputs["https://x.org/a.tif"] is None


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("/data/a b.tif", "file:///data/a%20b.tif"),
        ("s3://bucket/a.tif", "s3://bucket/a.tif"),
        ("/vsicurl/https://x.org/a.tif", "https://x.org/a.tif"),
        ("/vsis3/bucket/a.tif", "urn:gdal:/vsis3/bucket/a.tif"),
        ("zip:///data/a.zip!b.tif", "file:///data/a.zip#zip%3A%2F%2F%2Fdata%2Fa.zip%21b.tif"),
    ],
)
def test_inputs_have_addresses(name, address):
    assert find_address(name) == address


def test_a_crate_is_a_workflow_run_crate_and_a_damaged_one_is_none(results, monkeypatch):
    assert find_issues(results, monkeypatch) == []
    content = read_json(results / layout.CRATE)
    content["@graph"] = [entity for entity in content["@graph"] if entity["@id"] != "#run"]
    (results / layout.CRATE).write_text(json.dumps(content), encoding="utf-8")
    assert find_issues(results, monkeypatch) != []
