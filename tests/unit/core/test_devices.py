"""Leases of GPUs that are not there: lock files and environments stand in for them."""

import os
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from regflow.core import devices
from regflow.core.devices import VISIBLE, enable_half_precision, lease_gpu, list_devices
from regflow.core.errors import RegistrationError


def test_two_jobs_get_two_devices_and_a_third_waits(tmp_path: Path) -> None:
    environments: list[dict[str, str]] = [{}, {}, {}]
    first = lease_gpu(environments[0], ["0", "1"], tmp_path)
    second = lease_gpu(environments[1], ["0", "1"], tmp_path)
    assert first is not None
    assert second is not None
    assert [environment.get(VISIBLE) for environment in environments] == ["0", "1", None]
    with pytest.raises(RegistrationError, match="2 GPUs stayed busy"):
        lease_gpu(environments[2], ["0", "1"], tmp_path, wait_seconds=0)
    assert VISIBLE not in environments[2]
    first.release()
    third = lease_gpu(environments[2], ["0", "1"], tmp_path, wait_seconds=0)
    assert third is not None
    assert third.device == "0"
    second.release()
    third.release()


def test_a_killed_job_gives_its_device_back(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from regflow.core.devices import lease_gpu;"
        "lease_gpu({}, ['0'], Path(sys.argv[1])); print('taken', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == b"taken\n"
        with pytest.raises(RegistrationError):
            lease_gpu({}, ["0"], tmp_path, wait_seconds=0)
        job.kill()
    lease = lease_gpu({}, ["0"], tmp_path, wait_seconds=5)
    assert lease is not None
    lease.release()


HOLD = (
    "import os, sys, time; from pathlib import Path; from regflow.core.devices import lease_gpu, VISIBLE;"
    "lease_gpu(os.environ, [], Path(sys.argv[1])); print(os.environ[VISIBLE], flush=True); time.sleep(60)"
)


def test_jobs_of_one_machine_hold_different_devices_and_a_crash_frees_one(tmp_path: Path) -> None:
    environment = {**os.environ, VISIBLE: "0,1"}
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    jobs = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    try:
        streams = {job.stdout: job for job in jobs}
        holding = {}
        while len(holding) < 2:
            for stream in select.select([s for s in streams if s not in holding], [], [], 30)[0]:
                holding[stream] = stream.readline().strip()
        assert sorted(holding.values()) == ["0", "1"]
        waiting = next(stream for stream in streams if stream not in holding)
        assert not select.select([waiting], [], [], 1)[0]
        killed = next(stream for stream, device in holding.items() if device == "1")
        streams[killed].kill()
        assert waiting.readline().strip() == "1"
    finally:
        for job in jobs:
            job.kill()
            job.communicate()


@pytest.mark.parametrize(
    ("visible", "usable"), [(None, ["0", "1"]), ("1", ["1"]), ("", []), ("NoDevFiles", [])]
)
def test_usable_devices_are_those_that_are_shown(
    visible: str | None, usable: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "list_devices", lambda: ["0", "1"])
    assert devices.list_usable_devices({} if visible is None else {VISIBLE: visible}) == usable


def test_a_waiting_job_goes_on_when_a_device_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = lease_gpu({}, ["0"], tmp_path)
    assert held is not None
    monkeypatch.setattr(time, "sleep", lambda seconds: held.release())
    lease = lease_gpu({}, ["0"], tmp_path)
    assert lease is not None
    lease.release()


@pytest.mark.parametrize(
    ("environment", "installed", "device"),
    [
        ({}, [], None),
        ({VISIBLE: ""}, ["0"], None),
        ({VISIBLE: "-1"}, ["0"], None),
        ({VISIBLE: "NoDevFiles"}, ["0"], None),
        ({VISIBLE: "1,2"}, ["0", "1", "2"], "1"),
        ({VISIBLE: "MIG-5f/3"}, ["0"], "MIG-5f/3"),
        ({"SLURM_JOB_ID": "7"}, ["0"], None),
        ({"SLURM_JOB_ID": "7", VISIBLE: "3"}, ["0"], "3"),
    ],
)
def test_what_the_environment_allows(
    environment: dict[str, str], installed: list[str], device: str | None, tmp_path: Path
) -> None:
    lease = lease_gpu(environment, installed, tmp_path, wait_seconds=0)
    assert (lease and lease.device) == device
    if lease is not None:
        assert environment[VISIBLE] == device
        lease.release()


def test_slurm_needs_no_lock(tmp_path: Path) -> None:
    for _ in range(2):
        assert lease_gpu({"SLURM_JOB_ID": "7", VISIBLE: "0"}, [], tmp_path, wait_seconds=0) is not None
    assert list(tmp_path.iterdir()) == []


def test_installed_devices_are_read_from_their_nodes(tmp_path: Path) -> None:
    for name in ("nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm", "nvidia0"):
        (tmp_path / name).touch()
    assert list_devices(tmp_path) == ["0", "2", "10"]


def test_a_lock_file_is_never_followed_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "0.lock").symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match=r"0\.lock"):
        lease_gpu({}, ["0"], tmp_path, wait_seconds=0)
    assert not (tmp_path / "other").exists()


def test_without_a_gpu_auto_means_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "")
    monkeypatch.setattr(devices, "_held", None)
    assert devices.choose_torch_device("auto") == torch.device("cpu")
    with pytest.raises(RegistrationError, match="set device to cpu or auto"):
        devices.choose_torch_device("cuda")


def test_a_session_restores_what_it_changed() -> None:
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.get_rng_state()
    draws = []
    for _ in range(2):
        with devices.open_torch_session(threads=3, seed=11):
            assert torch.get_num_threads() == 1
            assert devices.count_session_threads() == 3
            assert torch.are_deterministic_algorithms_enabled()
            draws.append(torch.rand(4))
    assert torch.equal(*draws)
    assert devices.count_session_threads() == 1
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before[:2]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_a_session_leaves_torch_s_compilers_out() -> None:
    script = (
        "import sys; from regflow.core.devices import open_torch_session\n"
        "with open_torch_session(1, 0): import torch; assert torch.are_deterministic_algorithms_enabled()\n"
        "assert 'torch._inductor' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_importing_the_module_loads_no_torch() -> None:
    program = "import sys, regflow.core.devices; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], env=dict(os.environ), check=False).returncode == 0


NUMBERS = """
import numpy as np
import torch
from regflow.core.devices import open_torch_session
from regflow.core.sampling_kernels import compute_spline_coefficients

with open_torch_session(1, 0):
    compute_spline_coefficients(np.ones((4, 4, 4), np.float32))
    print(torch.get_num_threads())
"""


def test_numba_s_start_leaves_torch_its_threads() -> None:
    # Numba's OpenMP pool sets the number that torch reads: convolutions then end in other bits.
    done = subprocess.run([sys.executable, "-c", NUMBERS], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


@pytest.mark.parametrize("units", [True, False])
def test_half_precision_is_for_processors_with_units_for_it(monkeypatch, units):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_tile": units})
    a = torch.ones(2, 2)
    types = []
    for wanted in ("auto", "float32", "bfloat16"):
        with enable_half_precision(torch.device("cpu"), wanted):
            types.append((a @ a).dtype)
    assert types == [torch.bfloat16 if units else torch.float32, torch.float32, torch.bfloat16]
