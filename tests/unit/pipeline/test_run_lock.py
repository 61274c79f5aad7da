"""One run at a time in a folder of results, and order after one that was killed."""

import os
import subprocess
import sys

import psutil
import pytest

from regflow.core.errors import InputError
from regflow.core.files import read_json, write_json
from regflow.pipeline.run_lock import MARK, LeftLockError, keep_results
from regflow.stages import layout

FOR_EVER = "import time\ntime.sleep(1000)"


def test_a_second_run_is_refused_in_a_sentence(tmp_path):
    with keep_results(tmp_path) as held:
        assert not held.after_kill
        with (
            pytest.raises(
                InputError, match=rf"another run has begun here at .* \(process {os.getpid()}\); wait"
            ),
            keep_results(tmp_path),
        ):
            pass
        assert (tmp_path / layout.RUN).is_file()
    assert not (tmp_path / layout.RUN).exists()
    with keep_results(tmp_path):
        pass


def test_a_lock_that_is_left_is_for_the_next_run_to_remove(tmp_path):
    with pytest.raises(LeftLockError), keep_results(tmp_path):
        raise LeftLockError("killed")
    # As if this process had ended.
    record = read_json(tmp_path / layout.RUN)
    write_json(tmp_path / layout.RUN, {**record, "started": record["started"] - 1})
    with keep_results(tmp_path) as held:
        assert held.after_kill
    assert not (tmp_path / layout.RUN).exists()
    with pytest.raises(RuntimeError), keep_results(tmp_path):
        raise RuntimeError("anything else")
    assert not (tmp_path / layout.RUN).exists()


def test_a_run_on_another_machine_is_believed_to_live(tmp_path):
    record = {"host": "node7", "pid": 1, "started": 0.0, "begun": "2026-01-01T00:00:00+00:00", "mark": "x"}
    write_json(tmp_path / layout.RUN, record)
    with pytest.raises(
        InputError, match=r"on node7 and has not ended; wait for it, or remove .*run\.json if"
    ):
        keep_results(tmp_path).__enter__()


def test_what_a_killed_run_left_behind_is_stopped(tmp_path):
    with keep_results(tmp_path):
        record = read_json(tmp_path / layout.RUN)
        child = subprocess.Popen([sys.executable, "-c", FOR_EVER])
        other = subprocess.Popen([sys.executable, "-c", FOR_EVER], env={**os.environ, MARK: "another"})
    try:
        # As if this process had been killed: its record stays, and nobody bears its number since then.
        write_json(tmp_path / layout.RUN, {**record, "started": record["started"] - 1})
        with keep_results(tmp_path) as held:
            assert held.after_kill
            assert not psutil.pid_exists(child.pid)
            assert other.poll() is None
    finally:
        for process in (child, other):
            process.kill()
            process.wait()


def test_the_mark_ends_with_the_run(tmp_path, monkeypatch):
    monkeypatch.delenv(MARK, raising=False)
    with keep_results(tmp_path):
        assert os.environ[MARK] == read_json(tmp_path / layout.RUN)["mark"]
    assert MARK not in os.environ
