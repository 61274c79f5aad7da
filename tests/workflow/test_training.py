"""The target `train`: apart from the rest, and never at its beginning again."""

import os
import signal
import subprocess
import time

import pytest
from study import planned

from regflow.methods.refine.weights import read_weights

SETTINGS = {
    **{"name": "tiny", "ndim": 2, "shares": {"shapes": 1}, "channels": [4, 4, 4, 4], "side": 32},
    **{"passes": [1], "batch": 2, "warmup": 2, "validation_pairs": 1, "device": "cpu", "workers": 0},
}
DEADLINE_SECONDS = 900


@pytest.mark.slow
def test_it_is_no_part_of_a_study_but_a_target(make_study):
    study = make_study(("mni6",), train=SETTINGS)
    assert "train" not in planned(study.snakemake("--dry-run").stdout)
    assert planned(study.snakemake("--dry-run", "train").stdout) == {"train": 1}


@pytest.mark.slow
def test_a_cohort_that_is_wrong_is_told_before_any_job(make_study):
    study = make_study(("mni6",), train={**SETTINGS, "shares": {"cohort": 1}, "cohort": "absent.tsv"})
    ended = study.snakemake("--dry-run", "train")
    assert ended.returncode != 0
    assert "absent.tsv: this sample sheet does not exist" in ended.stdout + ended.stderr
    assert study.snakemake("--dry-run").returncode == 0


@pytest.mark.slow
def test_a_killed_job_goes_on_from_its_checkpoint(make_study):
    study = make_study(("mni6",), train={**SETTINGS, "steps": 400, "validate_every": 4})
    checkpoint = study.results("train", "tiny.training", "checkpoint.safetensors")
    running = subprocess.Popen(
        study.command("train"),
        cwd=study.folder,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + DEADLINE_SECONDS
    while not checkpoint.is_file() and running.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert checkpoint.is_file()
    assert not study.results("train", "tiny.safetensors").exists()
    ended = study.snakemake("--rerun-incomplete", "train")
    # The lock of the killed run is Snakemake's, and its own advice removes it.
    if ended.returncode:
        study.snakemake("--unlock")
        ended = study.snakemake("--rerun-incomplete", "train")
    assert ended.returncode == 0, ended.stderr
    assert "going on from step" in study.results("logs", "train", "tiny.log").read_text(encoding="utf-8")
    assert read_weights(study.results("train", "tiny.safetensors"))[1].notes["steps"] == 400
    assert study.results("train", "tiny.md").is_file()
    assert "Nothing to be done" in study.snakemake("train").stderr
