"""A digest changes with the sources a stage leads to, and with no others."""

import shutil
from pathlib import Path

import pytest

from regflow.provenance import digests as digest

PACKAGE = digest.PACKAGE


@pytest.fixture
def copied(tmp_path, monkeypatch) -> Path:
    """Let the digests look at a copy of the package that a test may edit."""
    copy = tmp_path / "regflow"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(digest, "PACKAGE", copy)
    forget()
    yield copy
    forget()


def forget() -> None:
    digest.source_digest.cache_clear()
    digest._mentions.cache_clear()


def touched(path: Path, stage: str) -> bool:
    """Return whether an edit of ``path`` changes the digest of ``stage``."""
    before = digest.source_digest(f"stages.{stage}")
    path.write_text(path.read_text(encoding="utf-8") + "\n# edited\n")
    forget()
    return digest.source_digest(f"stages.{stage}") != before


def names(stage: str) -> set[str]:
    return {path.relative_to(PACKAGE).as_posix() for path in digest.closure([f"regflow.stages.{stage}"])}


def test_a_stage_leads_to_its_methods_and_the_core():
    assert names("preprocess") >= {
        "stages/preprocess.py",
        "methods/preprocess/bias.py",
        "methods/preprocess/denoise.py",
        "core/grid.py",
    }


def test_a_stage_does_not_lead_to_the_command_line_or_the_report():
    found = names("preprocess")
    assert "cli.py" not in found
    assert "stages/report.py" not in found


def test_an_edit_of_a_method_changes_its_stage_alone(copied):
    assert touched(copied / "methods" / "preprocess" / "bias.py", "preprocess")
    assert not touched(copied / "stages" / "outcome.py", "no_such_stage")


def test_an_edit_of_the_core_changes_the_stage(copied):
    assert touched(copied / "core" / "resample.py", "preprocess")


def test_an_edit_of_the_command_line_changes_no_stage(copied):
    assert not touched(copied / "cli.py", "preprocess")
