"""Objects on a real S3 server of this machine: fetched, stored, removed, and refused in a sentence."""

from pathlib import Path

import pytest
from s3_server import SECRET, serving_s3

from regflow.core.addresses import redact_text
from regflow.core.errors import InputError
from regflow.io import object_store
from regflow.io.object_store import (
    drop_copies,
    drop_object,
    fetch_object,
    find_copy,
    measure_object,
    store_object,
)


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """The folder of the bucket ``data`` on a server that the environment leads to."""
    folder = tmp_path / "buckets" / "data"
    folder.mkdir(parents=True)
    monkeypatch.delattr(object_store._local, "providers", raising=False)
    with serving_s3(folder.parent) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield folder
    monkeypatch.delattr(object_store._local, "providers", raising=False)


def test_objects_come_and_go(bucket, tmp_path):
    source = tmp_path / "a.txt"
    source.write_text("four")
    store_object("s3", "s3://data/deep/a.txt", source)
    assert (bucket / "deep" / "a.txt").read_text() == "four"
    assert measure_object("s3", "s3://data/deep") == 4
    assert fetch_object("s3", "s3://data/deep", tmp_path / "all")
    assert (tmp_path / "all" / "a.txt").read_text() == "four"
    # The plugin drops a bucket with its last object.
    store_object("s3", "s3://data/other.txt", source)
    drop_object("s3", "s3://data/deep/a.txt")
    drop_object("s3", "s3://data/deep/a.txt")
    assert not fetch_object("s3", "s3://data/deep/a.txt", tmp_path / "b.txt")
    assert measure_object("s3", "s3://data/deep/a.txt") == 0


def test_a_copy_goes_by_its_address_and_is_dropped(bucket):
    for name in ("a.hdr", "a.img"):
        (bucket / name).write_text(name)
    address = "s3://data/a.hdr"
    copy = Path(find_copy(address))
    assert find_copy(address) == find_copy(Path(address)) == str(copy)
    assert copy.with_suffix(".img").read_text() == "a.img"
    assert redact_text(f"{copy}: is no volume") == "s3://data/a.hdr: is no volume"
    drop_copies([address, "/data/a.nii"])
    assert not copy.parent.exists()
    assert redact_text(str(copy)) == str(copy)


@pytest.mark.parametrize("name", ["/data/a.nii", "a.nii", "http://host/a.nii", "s3://bucket"])
def test_other_names_stay(name):
    assert find_copy(name) == name


def test_what_cannot_be_fetched_is_told_in_a_sentence_without_credentials(bucket, monkeypatch):
    with pytest.raises(InputError, match=r"^s3://data/no\.nii: there is nothing at this address"):
        find_copy("s3://data/no.nii")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET[::-1])
    monkeypatch.delattr(object_store._local, "providers")
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    with pytest.raises(
        InputError, match=r"s3://data/a\.nii: the server refuses access .*AWS_PROFILE"
    ) as told:
        find_copy("s3://data/a.nii")
    assert SECRET[::-1] not in str(told.value)


def test_a_plugin_that_is_not_there_is_named():
    with pytest.raises(InputError, match="pip install snakemake-storage-plugin-nowhere"):
        fetch_object("nowhere", "nowhere://a/b", Path("b"))
