"""Work over blocks: order, memory, and workers that die."""

import io
import os
import re
import signal
import sys
import threading
import time
import urllib.request
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regflow.core.chunks import map_blocks, open_workers, split_blocks
from regflow.core.errors import InputError


def square(number: int) -> int:
    return number * number


def slow_first(number: int) -> int:
    """Later items are ready before earlier ones."""
    time.sleep(0.05 if number % 4 == 0 else 0)
    return number


def refuse(number: int) -> int:
    if number == 3:
        raise InputError("row 3 is wrong")
    return number


def die_once(marker: str, number: int) -> int:
    """Kill the worker's process, the first time that item 5 comes by."""
    if number == 5:
        try:
            Path(marker).touch(exist_ok=False)
        except FileExistsError:
            return number
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40))
def test_blocks_cover_every_pixel_once(height, width, chunk):
    import numpy as np

    seen = np.zeros((height, width), int)
    for rows, cols in split_blocks((height, width), chunk):
        assert max(rows.stop - rows.start, cols.stop - cols.start) <= chunk
        seen[rows, cols] += 1
    assert (seen == 1).all()


def test_results_come_in_the_items_order():
    with open_workers({"workers": 3}) as workers:
        assert list(map_blocks(slow_first, range(40), workers)) == list(range(40))


@pytest.mark.parametrize(("item_bytes", "most"), [(None, 6), (400, 2), (10_000, 1)])
def test_only_a_few_items_are_under_way(item_bytes, most):
    under_way, peak, lock = 0, 0, threading.Lock()

    def work(number):
        nonlocal under_way, peak
        with lock:
            under_way += 1
            peak = max(peak, under_way)
        time.sleep(0.002)
        return number

    with open_workers({"workers": 3, "memory": "1 kB"}) as workers:
        for _ in map_blocks(work, iter(range(30)), workers, item_bytes=item_bytes):
            with lock:
                under_way -= 1
    assert peak <= most
    assert peak > 1 or most == 1


def test_an_items_error_goes_to_the_caller():
    with open_workers({"workers": 2}) as workers, pytest.raises(InputError, match="row 3 is wrong"):
        list(map_blocks(refuse, range(10), workers))


def test_what_is_left_is_given_up_when_nobody_wants_it():
    done = []

    def work(number):
        time.sleep(0.01)
        done.append(number)
        return number

    with open_workers({"workers": 1}) as workers:
        results = map_blocks(work, range(100), workers)
        assert next(results) == 0
        results.close()
    assert len(done) <= 3


def test_an_unknown_scheduler_is_refused():
    with pytest.raises(InputError, match="scheduler 'yarn' is unknown"), open_workers({"scheduler": "yarn"}):
        pass
    with pytest.raises(InputError, match="no address is given"), open_workers({"scheduler": "address"}):
        pass


def test_processes_survive_a_killed_worker(tmp_path, monkeypatch, caplog):
    """The run completes, in order."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    caplog.set_level("INFO", logger="regflow")
    with open_workers({"scheduler": "processes", "workers": 2}) as workers:
        (address,) = re.findall(r"Dask's dashboard: (http://127\.0\.0\.1:\d+)/status", caplog.text)
        assert urllib.request.urlopen(f"{address}/health").read() == b"ok"
        results = list(map_blocks(partial(die_once, str(tmp_path / "died")), list(range(12)), workers))
        assert results == list(range(12))
        assert (tmp_path / "died").exists()
        with pytest.raises(InputError, match="row 3 is wrong"):
            list(map_blocks(refuse, range(10), workers))


def test_an_address_is_used(tmp_path):
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster:
        settings = {"scheduler": "address", "address": cluster.scheduler_address}
        with open_workers(settings) as workers:
            assert workers.count == 2
            assert list(map_blocks(square, range(20), workers)) == [n * n for n in range(20)]


def test_workers_without_regflow_are_refused(monkeypatch):
    from distributed import Client, LocalCluster

    monkeypatch.setattr(Client, "run", lambda *_: {"a": "0.0.1"})
    with LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster:
        settings = {"scheduler": "address", "address": cluster.scheduler_address}
        with pytest.raises(InputError, match=r"have regflow 0\.0\.1, not"), open_workers(settings):
            pass


def test_options_reach_slurms_jobs(monkeypatch):
    from dask_jobqueue import SLURMCluster

    from regflow.core import chunks

    asked = []
    monkeypatch.setattr(SLURMCluster, "scale", lambda _, count: asked.append(count))
    slurm = {"queue": "cpu", "walltime": "01:30:00", "account": "geo"}
    with chunks._slurm_cluster({"memory": "4GB", "slurm": slurm}, 3) as cluster:
        script = cluster.job_script()
    assert asked[0] == 3
    for line in (
        "#SBATCH -p cpu",
        "#SBATCH -t 01:30:00",
        "#SBATCH -A geo",
        "#SBATCH --mem=4G",
        "--nthreads 1",
    ):
        assert line in script


def test_no_one_at_an_address(monkeypatch):
    monkeypatch.setattr("regflow.core.chunks._CONNECT_SECONDS", 1)
    nobody = {"scheduler": "address", "address": "tcp://127.0.0.1:9"}
    with (
        pytest.raises(InputError, match=r"no scheduler answers at tcp://127\.0\.0\.1:9"),
        open_workers(nobody),
    ):
        pass


def test_a_bar_in_a_terminal_and_lines_in_a_log(monkeypatch, caplog):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with open_workers({"workers": 1}) as workers:
        list(map_blocks(square, range(5), workers, describe="warping"))
        assert "warping" in screen.getvalue()
        assert "/5" in screen.getvalue()
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        monkeypatch.setattr("regflow.core.chunks._SECONDS_BETWEEN_LINES", 0.0)
        with caplog.at_level("INFO", logger="regflow"):
            list(map_blocks(square, range(3), workers, describe="warping"))
    assert "warping: 2 of 3 blocks" in caplog.messages


@pytest.mark.parametrize(
    ("written", "size"), [("1.5GB", 1_500_000_000), ("2 GiB", 2**31), ("512mb", 512_000_000), (4096, 4096)]
)
def test_sizes_of_memory_are_read_as_they_are_written(written, size):
    with open_workers({"memory": written, "workers": 1}) as workers:
        assert workers.memory == size


def test_a_size_without_sense_is_one_sentence():
    with pytest.raises(InputError, match="'much' is no size"), open_workers({"memory": "much"}):
        pass
