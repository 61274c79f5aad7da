"""A wheel of regflow, not only a clone, has the parameter maps and the networks' folder."""

import shutil
import subprocess
import sys
import zipfile

from study import ROOT

PARTS = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "src", "resources")
LOOK = """
from pathlib import Path
import regflow
from regflow.methods.elastix_run import MAPS
from regflow.methods.refine.weights_files import WEIGHTS_FOLDER
print(Path(regflow.__file__).parent)
print(*sorted(path.name for path in MAPS.iterdir()))
print(MAPS.parent, WEIGHTS_FOLDER.is_dir())
"""


def test_a_wheel_finds_its_resources(tmp_path):
    clone, installed = tmp_path / "clone", tmp_path / "installed"
    clone.mkdir()
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
            )
        else:
            shutil.copy(ROOT / name, clone / name)
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    ended = subprocess.run([*wheel, "--wheel-dir", str(tmp_path), str(clone)], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as packed:
        packed.extractall(installed)
    shutil.rmtree(clone)
    told = subprocess.run(
        [sys.executable, "-c", LOOK], cwd=installed, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert told[0] == str(installed / "regflow")
    assert told[1].split() == ["affine.txt", "bspline.txt", "rigid.txt", "similarity.txt"]
    assert told[2] == f"{installed / 'regflow' / 'resources'} True"
