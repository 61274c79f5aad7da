"""After compilation, no kernel that a method calls is left to compile."""

import subprocess
import sys

import pytest

SCRIPT = """
import importlib
from numba.core.registry import CPUDispatcher
from regflow.examples.compile_kernels import compile_kernels

compile_kernels()
modules = (
    "core.fields",
    "core.sampling_kernels",
    "core.warp_kernels",
    "core.decimation",
    "methods.refine.greedy_force_kernels",
    "methods.refine.greedy_kernels",
    "methods.refine.discrete_kernels",
    "methods.matching.self_similarity_kernels",
    "methods.matching.spline_field",
    "methods.initialize.parzen",
    "methods.initialize.agreement_kernels",
    "methods.initialize.planar_kernels",
    "methods.detect.kernels",
)
for module in map(importlib.import_module, (f"regflow.{name}" for name in modules)):
    for name, kernel in vars(module).items():
        if isinstance(kernel, CPUDispatcher) and not name.startswith("_"):
            print(name, len(kernel.signatures))
# What the windows' kernel calls is part of it and counts no signatures of its own when it is read back.
from regflow.methods.matching.tie_point_windows import match_windows
print("match_windows", len(match_windows.signatures))
"""


@pytest.mark.slow
def test_every_kernel_is_compiled():
    told = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout
    counts = dict(line.split() for line in told.splitlines())
    assert len(counts) > 8
    assert "0" not in counts.values(), counts
