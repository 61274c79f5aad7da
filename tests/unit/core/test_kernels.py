"""What numba keeps is safe where several processes compile at once."""

import os
import subprocess
import sys

import pytest
from study import ROOT

from regflow.core.kernels import open_index_alone

KERNEL = """
from regflow.core.kernels import njit


@njit(cache=True)
def double(value):
    return value + value
"""
RUN = """
import numpy as np, sys
from kernel import double
values = {
    "a": 1, "b": 1.5, "c": 2j, "d": np.float32(2.5), "e": np.int16(3), "f": np.arange(3), "g": np.ones(2),
}
order = sys.argv[1]
print(*[double(values[name]) for name in order])
"""


def test_processes_that_compile_at_once_keep_every_form(tmp_path):
    (tmp_path / "kernel.py").write_text(KERNEL)
    (tmp_path / "run.py").write_text(RUN)
    settings = {
        **os.environ,
        "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }

    def start(order: str) -> subprocess.Popen[str]:
        command = [sys.executable, "run.py", order]
        return subprocess.Popen(command, cwd=tmp_path, env=settings, stdout=subprocess.PIPE, text=True)

    both = [start("abcd"), start("gfed")]
    assert [process.communicate()[0].split() for process in both] == [
        ["2", "3.0", "4j", "5.0"],
        ["[2.", "2.]", "[0", "2", "4]", "6", "5.0"],
    ]
    # The next process finds them all, and the right ones.
    after = start("abcdefg")
    assert after.communicate()[0].split()[:5] == ["2", "3.0", "4j", "5.0", "6"]
    assert len(list((tmp_path / "cache").rglob("*.nbc"))) == 7


def test_a_folder_that_cannot_be_written_is_read_without_a_lock(tmp_path):
    with open_index_alone(str(tmp_path / "missing" / "kernel.nbi")):
        assert not (tmp_path / "missing").exists()


def test_a_held_index_makes_the_next_one_wait(tmp_path):
    path = str(tmp_path / "kernel.nbi")
    other = (
        f"from regflow.core.kernels import open_index_alone\nwith open_index_alone({path!r}): print('held')"
    )
    with open_index_alone(path):
        waiting = subprocess.Popen([sys.executable, "-c", other], stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.communicate(timeout=3)
    assert waiting.communicate()[0] == "held\n"


def test_every_kernel_is_compiled_by_the_guarded_compiler():
    sources = {path.relative_to(ROOT / "src").as_posix(): path for path in (ROOT / "src").rglob("*.py")}
    own = [
        name
        for name, path in sources.items()
        if "from numba import" in path.read_text(encoding="utf-8") and name != "regflow/core/kernels.py"
    ]
    assert own == []
