"""Which processor computes: its kind decides the last bits of what libraries choose their code by."""

import platform
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

DESCRIBED = Path("/proc/cpuinfo")
"""Where Linux describes the processor."""


@cache
def read_processor_name() -> str:
    """Return the processor's model, or its architecture where the system does not tell."""
    lines = DESCRIBED.read_text(encoding="utf-8").splitlines() if DESCRIBED.is_file() else []
    told = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(told, "") or platform.processor() or platform.machine()


def read_processor() -> dict[str, str]:
    """Return the processor's ``name`` and the vector instructions that libraries use on it.

    ``numpy`` lists the sets that it has code for and found; ``torch`` gives the one that it computes with,
    and is there only where this process has loaded it, because that takes seconds.
    """
    sets: Any = np.show_config(mode="dicts")
    extensions = sets["SIMD Extensions"]
    found = {"name": read_processor_name(), "numpy": " ".join(extensions["baseline"] + extensions["found"])}
    if "torch" in sys.modules:
        found["torch"] = str(sys.modules["torch"].backends.cpu.get_cpu_capability())
    return found


def describe_processor() -> str:
    """Return the same as lines of text, for a report."""
    return "\n".join(f"{key}: {value}" for key, value in read_processor().items())
