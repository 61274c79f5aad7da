"""A job's log holds all that it said: Python's messages, C's output, and the error that ended it."""

import errno
import logging
import subprocess
import sys
import threading
import warnings

import pytest

from regflow.core.logs import drop_time, log_stage, show_progress_log
from regflow.core.progress import StageEvent

SCRIPT = """
import logging, os
from regflow.core.logs import log_stage
with log_stage({path!r}):
    logging.getLogger("regflow.stages.some").info("a step took %d s", 3)
    print("printed")
    os.write(2, b"from C\\n")
    {last}
print("after")
"""


def job(path, last="pass"):
    """Run a job of its own that logs to ``path``."""
    script = SCRIPT.format(path=str(path), last=last)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


def test_messages_prints_and_c_output_land_in_the_file(tmp_path):
    ended = job(tmp_path / "deep" / "stage.log")
    text = (tmp_path / "deep" / "stage.log").read_text(encoding="utf-8")
    assert "INFO    a step took 3 s" in text
    assert "printed\n" in text
    assert "from C\n" in text
    assert (ended.stdout, ended.stderr) == ("after\n", "")


def test_a_failing_import_is_in_the_log_and_on_the_terminal(tmp_path):
    ended = job(tmp_path / "log", last="import regflow.no_such_module")
    assert ended.returncode == 1
    assert "No module named 'regflow.no_such_module'" in ended.stderr
    assert "No module named 'regflow.no_such_module'" in (tmp_path / "log").read_text(encoding="utf-8")


def test_the_error_that_ends_a_job_is_in_its_log_and_goes_on_up(tmp_path):
    with pytest.raises(ZeroDivisionError), log_stage(tmp_path / "log"):
        _ = 1 / 0
    assert "ZeroDivisionError: division by zero" in (tmp_path / "log").read_text(encoding="utf-8")


def test_warnings_are_logged(tmp_path):
    with log_stage(tmp_path / "log"):
        warnings.warn("the field has holes", UserWarning, stacklevel=1)
    assert "the field has holes" in (tmp_path / "log").read_text(encoding="utf-8")


def test_files_without_georeference_are_no_matter_of_warnings_in_any_thread(tmp_path):
    path = tmp_path / "job.log"
    told = "Dataset has no geotransform, gcps, or rpcs. The identity matrix will be returned."
    with log_stage(path):
        with warnings.catch_warnings():
            warnings.simplefilter("always", ResourceWarning)
            thread = threading.Thread(target=warnings.warn, args=(told,))
            thread.start()
            thread.join()
        warnings.warn("another matter", stacklevel=1)
    assert "geotransform" not in path.read_text(encoding="utf-8")
    assert "another matter" in path.read_text(encoding="utf-8")


def test_progress_is_plain_lines_in_a_log(capsys):
    with show_progress_log("register", 1) as progress:
        progress(StageEvent("initialize", "begun"))
        logging.getLogger("regflow.pipeline.pair").info("initialize: 1.2 s")
        progress(StageEvent("initialize", "ended", 1.2))
    logging.getLogger("regflow.pipeline.pair").info("outside")
    said = capsys.readouterr().err
    assert said.endswith("INFO    initialize: 1.2 s\n")


def test_progress_is_a_bar_in_a_terminal_that_moves_by_events_alone(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with show_progress_log("register", 2) as progress:
        progress(StageEvent("initialize", "begun"))
        logging.getLogger("regflow.provenance.run_record").info("initialize: 1.2 s")
        logging.getLogger("regflow.methods").warning("the mask is small")
        before = capsys.readouterr().err
        assert "1/2" not in before
        progress(StageEvent("initialize", "ended", 1.2))
    said = before + capsys.readouterr().err
    assert "initialize" in said
    assert "1/2" in said
    assert "the mask is small\n" in said


def test_a_full_disk_is_logged_in_a_sentence_and_other_errors_with_their_traceback(tmp_path):
    path = tmp_path / "stage.log"
    for error, told in (
        (
            OSError(errno.ENOSPC, "No space left on device", "w.nii.gz"),
            "w.nii.gz: the disk is full",
        ),
        (
            OSError(errno.EROFS, "Read-only file system"),
            "the output: this file system can only be read",
        ),
        (OSError(errno.EIO, "Input/output error"), "Traceback"),
        (ValueError("never"), "Traceback"),
    ):
        with pytest.raises(type(error)), log_stage(path):
            raise error
        text = path.read_text(encoding="utf-8")
        assert told in text
        assert ("Traceback" in text) == (told == "Traceback")


def test_a_line_says_the_same_without_its_time():
    assert drop_time("2026-01-02 03:04:05 WARNING a word") == "a word"
    assert drop_time("OSError: 2026-01-02") == "OSError: 2026-01-02"
