"""A digest changes with the sources a stage leads to, and with no others."""

import ast
import shutil
from collections.abc import Iterator
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
    digest.compute_source_digest.cache_clear()
    digest._mentions.cache_clear()
    digest._source.cache_clear()


def touched(path: Path, module: str, kind: str) -> bool:
    """Return whether an edit of ``path`` changes the digest of a module."""
    before = digest.compute_source_digest(module, kind)
    path.write_text(path.read_text(encoding="utf-8") + "\n# edited\n")
    forget()
    return digest.compute_source_digest(module, kind) != before


def names(stage: str, kind: str = "volumes") -> set[str]:
    found = digest.find_import_closure([f"regflow.stages.{kind}.{stage}"], kind)
    return {path.relative_to(PACKAGE).as_posix() for path in found}


def test_a_stage_leads_to_its_methods_and_the_core():
    assert names("preprocess") >= {
        "stages/volumes/preprocess.py",
        "methods/preprocess/bias.py",
        "methods/preprocess/denoise.py",
        "core/grid.py",
    }


@pytest.mark.parametrize("kind", ["volumes", "rasters"])
def test_a_stage_does_not_lead_to_the_command_line_the_report_or_the_configuration(kind):
    found = names("preprocess", kind)
    assert not [name for name in found if name.startswith(("commands/", "reporting/", "config/"))]
    assert f"stages/{kind}/report.py" not in found


@pytest.mark.parametrize(
    "stage", ["ingest", "preprocess", "initialize", "refine", "apply", "assess", "report"]
)
def test_stages_of_one_kind_do_not_lead_to_the_other(stage):
    for kind, other in (("volumes", "rasters"), ("rasters", "volumes")):
        assert not [name for name in names(stage, kind) if f"/{other}/" in name]


def test_an_edit_of_a_method_changes_the_stages_of_its_kind_alone(copied):
    bias, phase = (
        copied / "methods" / name for name in ("preprocess/bias.py", "initialize/phase_correlation.py")
    )
    assert touched(bias, "stages.volumes.preprocess", "volumes")
    assert not touched(bias, "stages.rasters.preprocess", "rasters")
    assert touched(phase, "stages.rasters.initialize", "rasters")
    assert not touched(phase, "stages.volumes.initialize", "volumes")


@pytest.mark.parametrize(
    ("reader", "stage", "kind"),
    [
        ("io/nifti.py", "ingest", "volumes"),
        ("io/nifti.py", "apply", "volumes"),
        ("io/rasters.py", "ingest", "rasters"),
        ("io/rasters.py", "apply", "rasters"),
        ("cohort/rasters/samples.py", "ingest", "rasters"),
    ],
)
def test_an_edit_of_a_reader_changes_the_stages_that_read_by_it(copied, reader, stage, kind):
    assert touched(copied / reader, f"stages.{kind}.{stage}", kind)


def test_an_edit_of_the_core_changes_the_stage(copied):
    assert touched(copied / "core" / "resample.py", "stages.volumes.preprocess", "volumes")


def test_an_edit_of_the_command_line_changes_no_stage(copied):
    assert not touched(copied / "commands" / "cli.py", "stages.volumes.preprocess", "volumes")


def imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_no_import_is_overlooked_and_none_is_made_up():
    for path in PACKAGE.rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_bytes()))
        names = {name for node in nodes for name in imported(node) if name.startswith("regflow.")}
        assert set(digest._mentions(path)) == names, path
