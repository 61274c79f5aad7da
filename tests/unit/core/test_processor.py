"""The processor that is recorded beside results."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from regflow.core import processor as module
from regflow.core.files import read_json
from regflow.core.gate import Verdict
from regflow.core.processor import describe_processor, read_processor, read_processor_name
from regflow.provenance.provenance import collect_provenance
from regflow.stages.shell import make_outcome, run_stage_work


def test_the_processor_is_named_with_its_vector_instructions() -> None:
    found = read_processor()
    assert found["name"] == read_processor_name() != ""
    assert found["numpy"].split()
    assert found["torch"] == torch.backends.cpu.get_cpu_capability()
    assert describe_processor().splitlines()[0] == f"name: {found['name']}"


def test_torch_is_not_loaded_to_be_asked() -> None:
    program = (
        "import sys; from regflow.core.processor import read_processor\n"
        "print(*read_processor(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["name", "numpy", "False"]


def test_a_system_that_does_not_tell_gives_the_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DESCRIBED", tmp_path / "absent")
    assert read_processor_name.__wrapped__() != ""
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: AMD EPYC 7763\nmodel name\t: other\n")
    monkeypatch.setattr(module, "DESCRIBED", tmp_path / "cpuinfo")
    assert read_processor_name.__wrapped__() == "AMD EPYC 7763"


def test_provenance_and_stages_record_it(tmp_path: Path) -> None:
    settings = {"seed": 0, "samples": None}
    made = collect_provenance(tmp_path / "provenance.json", settings=settings, sources={})
    assert made["processor"] == read_json(tmp_path / "provenance.json")["processor"] == read_processor()
    run_stage_work(
        "refine", "one", tmp_path / "out", [], lambda folder: make_outcome(Verdict("pass", "nothing"))
    )
    assert read_json(tmp_path / "out" / "stage.json")["processor"] == read_processor_name()
