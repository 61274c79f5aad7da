"""Results on a server: nothing torn counts, nothing of before is left."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
from s3_server import serving_s3

from regflow.cohort.batches import Batches
from regflow.core.errors import InputError
from regflow.core.files import compute_sha256
from regflow.io import object_store
from regflow.pipeline import stored_results
from regflow.pipeline.cohort_jobs import fetch_results
from regflow.pipeline.stored_results import (
    STORAGE,
    export_storage,
    measure_sample,
    open_results,
    read_batches,
    write_batches,
)

NOWHERE = SimpleNamespace(default_storage_provider=None)
S3 = SimpleNamespace(default_storage_provider="s3", default_storage_prefix="s3://results/study")


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """The folder of the results of a study on a server."""
    (tmp_path / "buckets" / "results").mkdir(parents=True)
    (tmp_path / "buckets" / "results" / "other.txt").touch()
    monkeypatch.delattr(object_store._local, "providers", raising=False)
    monkeypatch.setenv(STORAGE, json.dumps({"provider": "s3", "prefix": "s3://results/study"}))
    with serving_s3(tmp_path / "buckets") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield tmp_path / "buckets" / "results" / "study" / "results"
    monkeypatch.delattr(object_store._local, "providers", raising=False)


def write_stage(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"stage": "{}", **files}.items():
        (folder / f"{name}.json").write_text(text)
    return folder


def test_a_directory_is_sent_whole_and_in_place_of_what_was_there(stored):
    with open_results("results") as results:
        place = write_stage(results.folder / "apply" / "a", old="1")
        results.send(place)
        (place / "old.json").rename(place / "new.json")
        results.send(place)
    assert sorted(path.name for path in (stored / "apply" / "a").iterdir()) == ["new.json", "stage.json"]
    assert measure_sample("results", "a") == pytest.approx(3e-6)
    assert not results.folder.exists()


def test_a_record_is_sent_last_and_what_has_none_does_not_count(stored, monkeypatch):
    sent = []
    send = stored_results.store_object
    monkeypatch.setattr(stored_results, "store_object", lambda *to: (sent.append(to[1]), send(*to)))
    with open_results("results") as results:
        results.send(write_stage(results.folder / "apply" / "a", zeta="1", alpha="2"))
    assert [name.rsplit("/", 1)[1] for name in sent] == ["alpha.json", "zeta.json", "stage.json"]
    with fetch_results("results", ["results/apply/a"]) as locate:
        assert (locate("results/apply/a") / "zeta.json").read_text() == "1"
    object_store.drop_object("s3", "s3://results/study/results/apply/a/stage.json")
    with fetch_results("results", ["results/apply/a"]) as locate:
        assert not locate("results/apply/a").exists()


def test_what_is_removed_here_is_removed_there(stored):
    with open_results("results") as results:
        place = write_stage(results.folder / "apply" / "a", image="1")
        results.send(place)
        results.remove(place / "image.json")
        assert [path.name for path in place.iterdir()] == ["stage.json"]
    assert [path.name for path in (stored / "apply" / "a").iterdir()] == ["stage.json"]


def test_batches_are_found_from_everywhere(stored):
    assert read_batches("results") is None
    batches = Batches({"0001": ["a"]}, {"mni": "0001"}, None, 2, False)
    write_batches("results", batches)
    assert read_batches("results") == batches
    assert (stored / "jobs" / "batches.json").is_file()


def test_an_outline_has_sizes_and_times_but_only_the_content_that_is_read(stored):
    with open_results("results") as results:
        results.send(write_stage(results.folder / "apply" / "a.json", image="12345"))
    with open_results("results", "s3://results/study") as results:
        results.fetch_outline(lambda path: path.name == "stage.json")
        image, record = (results.folder / "apply" / "a.json" / name for name in ("image.json", "stage.json"))
        assert image.read_bytes() == bytes(5)
        assert record.read_text() == "{}"
        there = stored / "apply" / "a.json" / "image.json"
        assert image.stat().st_mtime == pytest.approx(there.stat().st_mtime, abs=2)
        assert results.compute_checksum(image) == compute_sha256(there)
        object_store.drop_object("s3", "s3://results/study/results/apply/a.json/image.json")
        with pytest.raises(OSError, match="this is gone"):
            results.compute_checksum(image)


def test_only_s3_can_be_listed():
    with (
        open_results("results", "gs://results/study") as results,
        pytest.raises(InputError, match="only s3:// addresses can"),
    ):
        results.fetch_outline(bool)


def test_results_of_this_machine_are_in_their_folder(tmp_path, monkeypatch):
    monkeypatch.delenv(STORAGE, raising=False)
    place = write_stage(tmp_path / "apply" / "a", image="1")
    with open_results(tmp_path) as results:
        assert results.folder == tmp_path
        results.send(place)
        assert results.fetch(place)
        assert not results.fetch(tmp_path / "apply" / "b")
        results.remove(place / "image.json")
    with fetch_results(tmp_path, [place]) as locate:
        assert locate(place) == place
    assert measure_sample(tmp_path, "a") is None


@dataclass
class Settings:
    """As a plugin of storage has them."""

    access_key: str | None = field(default=None, metadata={"env_var": True})
    retries: int = field(default=5, metadata={"env_var": False})


def test_jobs_get_settings_by_the_environment_alone(monkeypatch):
    variable = "SNAKEMAKE_STORAGE_S3_ACCESS_KEY"
    for name in (STORAGE, variable):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    export_storage(NOWHERE, None, "results")
    assert STORAGE not in stored_results.os.environ
    export_storage(S3, Settings("key"), "results")
    environment = stored_results.os.environ
    assert json.loads(environment[STORAGE]) == {"provider": "s3", "prefix": "s3://results/study"}
    assert environment[variable] == "key"
    with pytest.raises(InputError, match="absolute path"):
        export_storage(S3, Settings(), "/results")
