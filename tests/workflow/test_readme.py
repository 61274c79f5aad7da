"""What the README tells a newcomer to type works, as it stands there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.windows import Window
from study import ROOT

from regflow.core.landmarks import Landmarks
from regflow.datasets.packaged import require
from regflow.io.landmarks import write_landmarks

README = (ROOT / "README.md").read_text(encoding="utf-8")
ELSEWHERE = ("git clone", "source ")
"""Commands that make the place in which the tests already are."""
TRAINING = """
train:
  {ndim: 2, shares: {shapes: 1}, channels: [4, 4, 4, 4], side: 32, passes: [1], steps: 2, validation_pairs: 2}
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    lines = [line.partition("  #")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.fixture(scope="module")
def place(tmp_path_factory, volume_file) -> Path:
    """A folder with the files that the README's commands name, small ones."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copyfile(volume_file("mni2009c", 4.0), folder / "atlas.nii.gz")
    for name in ("subject", "subject_flair"):
        shutil.copyfile(volume_file("mni6", 4.0), folder / f"{name}.nii.gz")
    shutil.copyfile(volume_file("neuromorphometrics", 4.0), folder / "subject_labels.nii.gz")
    write_landmarks(folder / "subject_points.csv", Landmarks(("a",), np.zeros((1, 3))))
    write_scenes(folder)
    return folder


def write_scenes(folder: Path) -> None:
    """Cut two scenes of four real bands; the second's pixels lie two rows and three columns off."""
    bands = [rasterio.open(require(f"sentinel2-b{name}")) for name in ("02", "03", "04", "08")]
    rng = np.random.default_rng(0)
    for name, row, column in (("reference", 100, 100), ("scene", 102, 97)):
        values = np.stack([band.read(1, window=Window(column, row, 320, 320)) for band in bands])
        noisy = values + rng.normal(0, 10, values.shape)
        corner = bands[0].transform @ Affine.translation(100, 100)
        kind = {"driver": "GTiff", "dtype": "uint16", "count": 4, "crs": bands[0].crs}
        with rasterio.open(
            folder / f"{name}.tif", "w", width=320, height=320, transform=corner, **kind
        ) as scene:
            scene.write(noisy.round().clip(1).astype(np.uint16))
    write_what_follows(folder)


def write_what_follows(folder: Path) -> None:
    """Write a band of its own, classes and points of the moving scene, and classes of the reference."""
    shutil.copyfile(folder / "scene.tif", folder / "scene_B11.tif")
    for name, source in (("scene_classes", "scene"), ("fields", "reference")):
        with rasterio.open(folder / f"{source}.tif") as scene:
            profile = {**scene.profile, "count": 1, "dtype": "uint8"}
            classes = (scene.read(4) > 2500).astype(np.uint8)
            x, y = scene.transform @ (100.5, 100.5)
        with rasterio.open(folder / f"{name}.tif", "w", **profile) as target:
            target.write(classes, 1)
    (folder / "scene_points.csv").write_text(f"name,x,y\nwell,{x},{y}\n", encoding="utf-8")


def shrink(study: Path, folder: Path) -> None:
    """Put the small volumes in the place of the new study's full ones."""
    sheet, config = study / "config" / "samples.tsv", study / "config" / "config.yaml"
    sheet.write_text(f"sample\tmoving\nsub-01\t{folder / 'subject.nii.gz'}\n")
    text = config.read_text(encoding="utf-8")
    assert "example:mni2009c" in text
    config.write_text(text.replace("example:mni2009c", str(folder / "atlas.nii.gz")) + TRAINING)


def test_every_command_works(place):
    """In order, each in the folder where the last left the reader."""
    bin_folder = Path(sys.executable).parent
    mine = {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    here, typed = place, []
    for command in commands():
        if command.startswith(ELSEWHERE):
            continue
        if command.startswith("cd "):
            here = here / command.removeprefix("cd ")
            continue
        if command.startswith("make "):
            command = command.replace("make", f"make --dry-run --directory {ROOT}", 1)
        if "--profile slurm" in command:
            command += " --dry-run"
        ended = subprocess.run(command, shell=True, cwd=here, env=mine, capture_output=True, text=True)
        assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"
        typed.append(command)
        if command.startswith("regflow init"):
            shrink(here / command.split()[-1], place)
    assert {line.split()[1] for line in typed if line.startswith("regflow")} >= {
        *("register", "apply", "detect", "init", "check", "run", "train", "weights")
    }
    assert (place / "study" / "results" / "report" / "index.html").is_file()
    assert (place / "study" / "results" / "train" / "network.safetensors").is_file()


def test_the_lines_of_python_work(place):
    code = next(block for block in blocks("python") if "SimpleITK" in block)
    if not (place / "aligned").exists():
        register = ["register", "atlas.nii.gz", "subject.nii.gz", "-o", "aligned"]
        subprocess.run([sys.executable, "-m", "regflow", *register], cwd=place, check=True)
    ended = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_files_that_are_named_exist():
    named = re.findall(r"\]\(([^)#:]+)\)|`((?:workflow|config|src|benchmarks)/[\w./]+)`", README)
    for name in {first or second for first, second in named}:
        assert (ROOT / name).exists(), name
