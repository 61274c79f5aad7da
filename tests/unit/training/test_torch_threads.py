"""What torch computes on a CPU has the same bytes whatever the number of threads, on any processor."""

import os
import subprocess
import sys

import pytest
import torch_paths
import training_runs

from regflow.training import sources

PROCESSORS = {
    "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    "old": {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"},
}
"""Settings that let torch compute as on processors with fewer vector instructions."""


@pytest.fixture
def few_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_runs.label_maps, "SHAPE_SIDE", training_runs.SMALL_SHAPES["side"])
    monkeypatch.setattr(sources, "SHAPE_MAPS", training_runs.SMALL_SHAPES["maps"])


@pytest.mark.parametrize("name", torch_paths.PATHS)
def test_bytes_do_not_depend_on_threads(few_shapes: None, name: str) -> None:
    assert not torch_paths.differing(torch_paths.PATHS[name])


@pytest.mark.slow
@pytest.mark.parametrize("processor", PROCESSORS)
def test_nor_do_they_on_processors_of_other_kinds(processor: str) -> None:
    done = subprocess.run(
        [sys.executable, torch_paths.__file__],
        env={**os.environ, "OMP_NUM_THREADS": "4", **PROCESSORS[processor]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
