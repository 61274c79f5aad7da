import json
import subprocess
import sys

import numpy as np
import pytest

from regflow.core.files import (
    compute_sha256,
    describe_absence,
    read_json,
    write_json,
    write_whole,
    write_whole_directory,
)


def test_a_failed_write_leaves_nothing(tmp_path):
    target = tmp_path / "out" / "volume.nii.gz"
    with pytest.raises(OSError, match="disk"), write_whole(target) as part:
        assert part.name == target.name
        part.write_bytes(b"half")
        raise OSError("disk full")
    assert list(target.parent.iterdir()) == []


def test_a_failed_rewrite_keeps_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), write_whole(target) as part:
        part.write_text("new")
        raise ZeroDivisionError
    assert target.read_text(encoding="utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_directory_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "stage"
    with write_whole_directory(target) as part:
        (part / "old").write_text("1")
    with write_whole_directory(target) as part:
        (part / "new").write_text("2")
        assert not (target / "new").exists()
    assert [p.name for p in target.iterdir()] == ["new"]
    with pytest.raises(KeyError), write_whole_directory(target) as part:
        (part / "broken").write_text("3")
        raise KeyError
    assert [p.name for p in target.iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["stage"]


@pytest.mark.parametrize("writer", [write_whole, write_whole_directory])
def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path, writer):
    def die(name):
        code = f"import os; from regflow.core.files import {writer.__name__} as write\n"
        code += f"with write({str(tmp_path / name)!r}): os.kill(os.getpid(), 9)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9

    die("sub-1")
    die("sub-1-again")
    left = {path.name.rsplit("-", 1)[0] for path in tmp_path.iterdir()}
    assert left == {".part-sub-1", ".part-sub-1-again"}
    with writer(tmp_path / "sub-1") as part:
        if writer is write_whole:
            part.write_text("done")
    left = {path.name.rsplit("-", 1)[0] for path in tmp_path.iterdir() if path.name != "sub-1"}
    assert left == {".part-sub-1-again"}


def test_a_directory_gets_the_users_permissions(tmp_path):
    with write_whole_directory(tmp_path / "made") as part:
        (part / "x").write_text("x")
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "made").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_json_holds_numpy_paths_and_values_that_are_not_finite(tmp_path):
    path = tmp_path / "a.json"
    write_json(
        path, {"a": np.float32(1.5), "b": np.arange(3), "c": tmp_path, "d": float("nan"), 5: (np.int8(1),)}
    )
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "a": 1.5,
        "b": [0, 1, 2],
        "c": str(tmp_path),
        "d": None,
        "5": [1],
    }
    assert read_json(path)["a"] == 1.5


def test_checksum_of_file_and_folder(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "1.dcm").write_bytes(b"one")
    (tmp_path / "s" / "2.dcm").write_bytes(b"two")
    (tmp_path / "both").write_bytes(b"onetwo")
    assert compute_sha256(tmp_path / "s") == compute_sha256(tmp_path / "both")
    known = "25b6746d5172ed6352966a013d93ac846e1110d5a25e8f183b5931f4688842a1"
    assert compute_sha256(tmp_path / "both") == known


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("/annex/objects/MD5E-s54432--00.nii.gz\n", "has not been fetched; run 'datalad get'"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n", "run 'git lfs pull'"),
    ],
)
def test_a_pointer_is_told_from_its_content(tmp_path, content, told):
    path = tmp_path / "a.nii.gz"
    path.write_text(content)
    assert told in describe_absence(path)
    path.write_text("content")
    assert describe_absence(path) is None


def test_a_link_without_a_target_is_told(tmp_path):
    link = tmp_path / "a.nii.gz"
    assert describe_absence(link) == "this file does not exist; correct the path"
    link.symlink_to("gone.nii.gz")
    assert describe_absence(link) == "this is a link to 'gone.nii.gz', which does not exist; correct the link"
    link.unlink()
    link.symlink_to("../.git/annex/objects/ab/cd/MD5E-s1--00.nii.gz")
    assert (
        describe_absence(link)
        == "its content has not been fetched; run 'datalad get' or 'git annex get' on it"
    )
