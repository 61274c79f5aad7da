"""What a run was made from: the environment held against the lock, and the sheet as the run took it."""

import pytest

from regflow.cohort.reading import read_cohort, write_sheet
from regflow.config.loading import load_config
from regflow.core.files import compute_sha256
from regflow.provenance import provenance
from regflow.provenance.provenance import compare_with_lock


def test_packages_of_other_versions_than_the_lock_are_told(tmp_path, monkeypatch):
    lock = tmp_path / "requirements.lock"
    lock.write_text("numpy==2.4.6\nJinja2==3.1.6\nabsent==1\n")
    monkeypatch.setattr(provenance, "find_lock", lambda: lock)
    found = compare_with_lock({"numpy": "2.4.7", "jinja2": "3.1.6", "more": "1"})
    assert found == {"sha256": compute_sha256(lock), "other": {"numpy": "2.4.6"}}
    monkeypatch.setattr(provenance, "find_lock", lambda: None)
    assert compare_with_lock({}) == {"sha256": None, "other": {}}


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        (
            "volumes",
            "sample\tmoving\tcompanions\tgroup\none\tdata/a.nii\tpet=data/p.nii;ct=/c.nii\tdata/a.nii\n",
        ),
        (
            "rasters",
            "sample\tmoving\tclasses\tdate\none\tzip://data/a.zip!b.tif\tscl=data/s.tif\t2024-06-01\n",
        ),
    ],
)
def test_a_sheet_reads_the_same_from_elsewhere(kind, rows, tmp_path, monkeypatch):
    """Its paths count from its own folder, where they lead somewhere."""
    (tmp_path / "config" / "data").mkdir(parents=True)
    (tmp_path / "config" / "s.tsv").write_text(rows, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    named = {"volumes": "atlases", "rasters": "references"}[kind]
    given = {"kind": kind, "samples": "config/s.tsv", "fixed": "a", named: {"a": {"image": "a.nii"}}}
    settings = load_config(given)
    write_sheet(settings, tmp_path / "copy" / "s.tsv")
    (first,), (second,) = read_cohort(settings), read_cohort({**settings, "samples": "copy/s.tsv"})
    assert second == first
    assert "config/data/a" in str(first.list_files())
