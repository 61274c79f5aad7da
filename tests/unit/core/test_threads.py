"""How many cores a process has: of the machine, of its scheduler, and of the control groups around it."""

import os

import pytest

from regflow.core import threads
from regflow.core.threads import count_cores


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Eight cores, all lent, and no control group yet; returns a function that makes some."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "CGROUPS", tmp_path)
    monkeypatch.setattr(threads, "OWN_CGROUPS", tmp_path / "own")

    def grouped(own, files):
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return grouped


def test_without_control_groups_the_scheduler_decides(machine):
    assert count_cores() == 8


def test_a_system_without_affinity_counts_all(machine, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert count_cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert count_cores() == 1


@pytest.mark.parametrize(
    ("limit", "count"),
    [
        ("max 100000", 8),
        ("300000 100000", 3),
        ("150000 100000", 2),
        ("5000 100000", 1),
        ("1600000 100000", 8),
    ],
)
def test_a_container_of_version_2_limits_its_processes(machine, limit, count):
    machine("0::/\n", {"cpu.max": f"{limit}\n"})
    assert count_cores() == count


def test_the_least_of_the_groups_around_a_process_counts(machine):
    machine(
        "0::/user/job\n",
        {
            "user/cpu.max": "400000 100000\n",
            "user/job/cpu.max": "max 100000\n",
            "other/cpu.max": "100000 100000\n",
        },
    )
    assert count_cores() == 4


@pytest.mark.parametrize("own", ["/", "/docker/of-the-host"])
@pytest.mark.parametrize(("quota", "count"), [("-1", 8), ("250000", 3)])
def test_a_container_of_version_1_limits_its_processes(machine, own, quota, count):
    machine(
        f"3:cpuset:/\n2:cpu,cpuacct:{own}\n1:name=systemd:/\n",
        {"cpu,cpuacct/cpu.cfs_quota_us": quota, "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
    )
    assert count_cores() == count
