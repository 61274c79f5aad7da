"""Jobs of one machine and its GPUs, which CUDA_VISIBLE_DEVICES pretends: torch finds none."""

import re

import pytest
from study import planned

from regflow.core.devices import VISIBLE


@pytest.mark.slow
def test_each_deformable_job_holds_a_device_of_its_own(make_study, finished, tmp_path, monkeypatch):
    monkeypatch.setenv(VISIBLE, "0,1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    study = make_study(jobs={"samples": 1})
    at_once = ("--resources", "gpu=2")
    plan = study.snakemake("--dry-run", *at_once)
    assert planned(plan.stdout)["deform"] == 2
    ended = study.snakemake("results/jobs/deform/0001.json", "results/jobs/deform/0002.json", *at_once)
    assert ended.returncode == 0, ended.stderr
    logs = [study.results("logs", "refine", f"{row['sample']}.log").read_text() for row in study.rows]
    held = [re.findall(r"GPU (\d)$", text, re.MULTILINE) for text in logs]
    assert all(devices in (["0"], ["1"]) for devices in held)
    assert {path.name for path in (tmp_path / "regflow-gpus").iterdir()} >= {"0.lock"}
    assert study.checksums("refine/*/*.h5") == finished.checksums("refine/*/*.h5")
