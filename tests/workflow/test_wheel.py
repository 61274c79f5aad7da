"""A wheel of regflow is whole: without a clone it starts studies, checks and runs them."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from study import ROOT

PARTS = (
    "pyproject.toml",
    "requirements.lock",
    "setup.py",
    "README.md",
    "LICENSE",
    "src",
    "resources",
    "config",
    "envs",
    "workflow",
)
LOOK = """
from pathlib import Path
import regflow
from regflow.methods.elastix_run import MAPS
from regflow.methods.weight_files import WEIGHTS_FOLDER
print(Path(regflow.__file__).parent)
print(*sorted(path.name for path in MAPS.iterdir()))
print(MAPS.parent, WEIGHTS_FOLDER.is_dir())
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder of an installed wheel, whose clone is gone."""
    folder = tmp_path_factory.mktemp("wheel")
    clone, installed = folder / "clone", folder / "installed"
    clone.mkdir()
    for name in PARTS:
        if (ROOT / name).is_dir():
            unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info", "results", ".snakemake")
            shutil.copytree(ROOT / name, clone / name, ignore=unwanted)
        else:
            shutil.copy(ROOT / name, clone / name)
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    ended = subprocess.run([*wheel, "--wheel-dir", str(folder), str(clone)], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as packed:
        packed.extractall(installed)
    shutil.rmtree(clone)
    return installed


def run_installed(installed: Path, folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "regflow", *arguments]
    settings = {**os.environ, "PYTHONPATH": str(installed)}
    ended = subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def test_a_wheel_finds_its_resources(installed):
    told = subprocess.run(
        [sys.executable, "-c", LOOK], cwd=installed, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert told[0] == str(installed / "regflow")
    assert told[1].split() == ["affine.txt", "bspline.txt", "rigid.txt", "similarity.txt"]
    assert told[2] == f"{installed / 'regflow' / 'shipped' / 'resources'} True"


def test_a_wheel_starts_and_plans_a_study(installed, tmp_path):
    run_installed(installed, tmp_path, "init", "study")
    study = tmp_path / "study"
    assert "nothing is wrong" in run_installed(installed, study, "check")
    told = run_installed(installed, study, "run", "--dry-run")
    assert str(installed / "regflow" / "shipped" / "workflow") in told


@pytest.mark.slow
def test_a_wheel_makes_the_demos(installed, tmp_path):
    run_installed(installed, tmp_path, "demo", "scenes", "--rasters", "--build-only")
    assert (tmp_path / "scenes" / "config" / "samples.tsv").is_file()
    assert "report_cohort" in run_installed(installed, tmp_path / "scenes", "run", "--dry-run")
