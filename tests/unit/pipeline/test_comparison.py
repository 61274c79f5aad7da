"""Comparisons: which trials there are, and that each runs once, ends, and tells what went wrong."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import yaml

import regflow as rf
from regflow.core.errors import InputError
from regflow.core.files import read_json
from regflow.core.grid import Grid
from regflow.core.transform import Affine
from regflow.datasets.scenes import write_scene
from regflow.io.raster_transforms import write_raster_transform
from regflow.pipeline import comparison
from regflow.pipeline.comparison import (
    ComparedPair,
    ComparisonSettings,
    choose_methods,
    count_trials,
    plan_trials,
    run_trials,
)

GRID = Grid((160, 160), np.array([[10.0, 0, 5e5], [0, -10.0, 4e6], [0, 0, 1]]), "EPSG:32633")
PAIRS = [
    ComparedPair("own pair", "own", "a.tif", "b.tif"),
    ComparedPair("moved 3 px", "moved", "c.tif", "d.tif"),
    ComparedPair("warped 2 px", "warped", "e.tif", "f.tif"),
]


def test_each_method_is_tried_by_itself_where_it_belongs():
    methods = choose_methods("rasters", ["phase-correlation", "tie-points"])
    planned = list(plan_trials(methods, PAIRS, {"seed": 3}))
    told = {(trial.pair.kind, trial.stage, trial.method) for trial in planned}
    assert told == {
        *{
            ("own", "refine", "default"),
            ("own", "initialize", "phase-correlation"),
            ("own", "refine", "tie-points"),
        },
        *{("moved", "initialize", "default"), ("moved", "initialize", "phase-correlation")},
        *{("warped", "refine", "default"), ("warped", "refine", "tie-points")},
    }
    assert len({trial.folder for trial in planned}) == len(planned)
    assert count_trials("rasters", "phase-correlation, tie-points", 1, 1) == len(planned) + 1
    configs = {(trial.pair.kind, trial.method): trial.config for trial in planned}
    assert configs["warped", "tie-points"] == {
        "seed": 3,
        "initialize": {"methods": ["header"]},
        "refine": {"methods": ["tie-points"]},
    }
    assert configs["moved", "phase-correlation"]["refine"] == {"methods": ["none"]}


def test_an_unknown_method_is_refused_by_its_nearest_name():
    with pytest.raises(InputError, match="did you mean 'tie-points'"):
        choose_methods("rasters", ["tie-point"])


def how(folder, time_limit=60.0):
    return ComparisonSettings("rasters", folder, "default", {}, time_limit, 2)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import time; time.sleep(600)", "took longer than 0.5 s"),
        ("import os; os.write(2, b'KeyError: lost'); os._exit(1)", "the program failed: KeyError: lost"),
        ("import os; os.kill(os.getpid(), 9)", "the program failed: it ended with -9"),
    ],
    ids=["time", "program", "killed"],
)
def test_a_trial_that_does_not_end_well_is_a_sentence(tmp_path, monkeypatch, code, reason):
    package = tmp_path / "sources"
    package.mkdir()
    (package / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(package))
    trial = next(plan_trials(choose_methods("rasters", ["tie-points"]), PAIRS, {}))
    limit = 0.5 if "longer" in reason else 60.0
    (found,) = run_trials([trial], how(tmp_path / "out", limit))
    assert (found["state"], found["reason"]) == ("failed", reason)


def write_pair(folder, size=160):
    """Write two scenes of one texture, two pixels apart."""
    rng = np.random.default_rng(0)
    noise = np.fft.fft2(rng.normal(size=(size + 8, size + 8)))
    fy, fx = np.meshgrid(*(np.fft.fftfreq(size + 8),) * 2, indexing="ij")
    texture = np.fft.ifft2(noise * np.exp(-120 * (fx**2 + fy**2))).real
    texture = 1000 + 2000 * (texture - texture.min()) / np.ptp(texture)
    grid = replace(GRID, shape=(size, size))
    for name, shift in (("fixed", 0), ("moving", 2)):
        write_scene(folder / f"{name}.tif", {"B": texture[: size + shift][shift:, :size]}, grid)
    return folder / "fixed.tif", folder / "moving.tif"


def test_failures_are_rows_and_the_others_are_compared(tmp_path, monkeypatch):
    fixed, moving = write_pair(tmp_path)

    def pretend(folder, _limit):
        if folder.name == "initialize-header":
            return {"state": "failed", "status": "error", "reason": "<no> method gave a usable transform"}
        (folder / "result").mkdir(parents=True, exist_ok=True)
        shutil.copy(fixed, folder / "result" / "warped.tif")
        shift = Affine.from_parts(np.eye(2), np.array([20.0, 0.0]))
        write_raster_transform(folder / "result", shift, GRID)
        truth = {"mean": 2.0, "p95": 3.0, "largest": 4.0} if read_json(folder / "trial.json")["truth"] else {}
        return {
            **{"state": "done", "status": "pass", "reason": "every figure is within its limits"},
            **{"figures": {"ncc_refine": 0.9}, "seconds": {"initialize": 1.0, "refine": 1.0, "total": 3.0}},
            **{"truth": truth, "cpu_seconds": 3.0, "peak_mb": 300.0},
        }

    monkeypatch.setattr(comparison, "_run_process", pretend)
    events = []
    found = rf.compare(
        *(fixed, moving),
        output=tmp_path / "out",
        methods="phase-correlation,header,tie-points",
        progress=events.append,
    )
    rows = {(row.stage, row.method): row for row in found.rows}
    assert rows["initialize", "header"].own["state"] == "failed"
    # Scenes are measured in pixels; these have 10 m.
    assert rows["initialize", "phase-correlation"].truth["moved 3 px"]["truth"]["mean"] == pytest.approx(0.2)
    assert rows["initialize", "phase-correlation"].solved == ("moved 3 px", "moved 30 px")
    assert sum(event.state == "ended" for event in events) == count_trials(
        "rasters", "phase-correlation,header,tie-points", 2, 2
    )
    assert (found.facts.shift, found.facts.size) == (pytest.approx(2.0), pytest.approx(160.0))
    assert found.branch.question.startswith("Anything else")
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "shifted by 2 px" in page
    assert "&lt;no&gt; method gave a usable transform" in page
    table = (tmp_path / "out" / "comparison.tsv").read_text().splitlines()
    assert len(table) == 1 + len(found.rows) == 6


@pytest.mark.slow
def test_a_pair_is_compared_and_the_same_command_does_nothing_again(tmp_path, monkeypatch):
    files = write_pair(tmp_path)
    given = {"methods": "phase-correlation,header", "moved": [4.0], "warped": [], "threads": 2}
    found = rf.compare(*files, output=tmp_path / "out", **given)
    rows = {(row.stage, row.method): row for row in found.rows}
    assert rows["initialize", "phase-correlation"].solved == ("moved 4 px",)
    assert rows["initialize", "phase-correlation"].truth["moved 4 px"]["truth"]["mean"] < 0.5
    assert rows["initialize", "header"].solved == ()
    assert yaml.safe_load((tmp_path / "out" / "recommended.yaml").read_text())["initialize"]["methods"]
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert 'href="trials/own-pair/refine-default/result/report.html"' in page
    assert read_json(tmp_path / "out" / "comparison.json")["starts"]["moved 4 px"] == pytest.approx(
        4.0, abs=0.5
    )
    table = (tmp_path / "out" / "comparison.tsv").read_text().splitlines()
    assert len(table) == 1 + len(found.rows)
    monkeypatch.setattr(comparison, "_run_process", lambda *_: pytest.fail("it was run again"))
    assert rf.compare(*files, output=tmp_path / "out", **given).recommendation == found.recommendation


def test_other_files_and_unreadable_images_are_one_sentence(tmp_path):
    fixed, moving = write_pair(tmp_path)
    with pytest.raises(InputError, match="holds other files"):
        rf.compare(fixed, moving, output=tmp_path)
    with pytest.raises(InputError, match="this is a file"):
        rf.compare(fixed, moving, output=fixed)
    with pytest.raises(InputError, match="unknown method"):
        rf.compare(fixed, moving, output=tmp_path / "out", methods="magic")
    moving.write_bytes(moving.read_bytes()[:400])
    with pytest.raises(InputError, match=r"moving\.tif"):
        rf.compare(fixed, moving, output=tmp_path / "out", methods="header")
