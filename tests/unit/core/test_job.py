"""A job keeps to its threads, whatever the machine has."""

import os
import subprocess
import sys

import pytest

from regflow.core.threads import count_cores

COUNT = """
import os
from regflow.core.job import run_job
with run_job({log!r}, 1):
    import numba
    import SimpleITK as sitk
    from numba import njit, prange
    import numpy as np

    @njit(parallel=True)
    def total(values):
        sums = np.zeros(8)
        for i in prange(8):
            sums[i] = values.sum()
        return sums.sum()

    a = np.ones((600, 600))
    total(a), a @ a
    sitk.DiscreteGaussian(sitk.GetImageFromArray(a))
    numbers = numba.get_num_threads(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    threads = len(os.listdir("/proc/self/task"))
print(*numbers, threads, os.environ["OPENBLAS_NUM_THREADS"])
"""


@pytest.mark.skipif(count_cores() == 1, reason="one core: nothing to keep from")
@pytest.mark.parametrize("given", [{}, {"OPENBLAS_NUM_THREADS": "2"}])
def test_libraries_take_no_more_threads_than_the_job_has(tmp_path, given):
    # What other tests left in the environment is not the user's: ITK's pool has a thread of its own.
    clean = {k: v for k, v in os.environ.items() if not k.startswith("ITK_") and not k.endswith("_THREADS")}
    code = COUNT.format(log=str(tmp_path / "log"))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**clean, **given}
    )
    numba, itk, threads, openblas = map(int, done.stdout.split())
    assert numba == itk == 1
    # What the user's environment says goes before.
    assert openblas == int(given.get("OPENBLAS_NUM_THREADS", 1))
    assert (threads == 1) == (openblas == 1)


COMMAND = """
import os
import sys
from click.testing import CliRunner
import regflow.commands.cli

loaded = "numpy" in sys.modules
CliRunner().invoke(regflow.commands.cli.main, ["weights"])
print(loaded, os.environ["OPENBLAS_NUM_THREADS"])
"""


@pytest.mark.parametrize("given", [{}, {"OPENBLAS_NUM_THREADS": "2"}])
def test_a_command_keeps_linear_algebra_to_one_thread(given):
    # OpenBLAS reads this when numpy is imported; products of matrices and vectors depend on it.
    clean = {k: v for k, v in os.environ.items() if not k.endswith("_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", COMMAND], capture_output=True, text=True, check=True, env={**clean, **given}
    )
    assert done.stdout.split() == ["False", given.get("OPENBLAS_NUM_THREADS", "1")]
