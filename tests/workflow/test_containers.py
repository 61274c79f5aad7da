"""What the Dockerfile installs, and jobs in an image: docker and apptainer are not needed for it."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from stand_ins import APPTAINER, write_program
from study import ROOT

FROM_THE_SYSTEM = {"libexpat1", "libgomp1", "make"}
"""What the wheels and ``make install`` take from Debian beyond the base image's own."""
BASE = {"libc6", "libgcc-s1", "libstdc++6", "zlib1g"}


def read_steps() -> list[tuple[str, str]]:
    """Return instruction and arguments of each step, continued lines joined, comments left out."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, " ".join(rest.split())) for word, _, rest in (line.partition(" ") for line in lines)]


def copied(folder: Path) -> Path:
    """Copy what the image's build copies."""
    folder.mkdir()
    for instruction, arguments in read_steps():
        if instruction == "COPY":
            *sources, target = arguments.split()
            for source in sources:
                place = folder / target / source if target == "./" else folder / target
                if (ROOT / source).is_dir():
                    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
                    shutil.copytree(ROOT / source, place, ignore=unwanted)
                else:
                    shutil.copy2(ROOT / source, place)
    return folder


def test_the_base_has_the_python_of_the_environments():
    steps = dict(read_steps())
    version = re.fullmatch(r"python:(\d+\.\d+)-slim-bookworm", steps["FROM"])
    assert version is not None
    for env in (ROOT / "envs").glob("*.yaml"):
        assert f"python={version[1]}" in yaml.safe_load(env.read_text(encoding="utf-8"))["dependencies"]


def test_the_system_s_packages_are_those_that_wheels_need():
    runs = [shlex.split(arguments) for instruction, arguments in read_steps() if instruction == "RUN"]
    installed = runs[0][runs[0].index("install") + 1 :]
    names = {word for word in installed[: installed.index("&&")] if not word.startswith("-")}
    assert names == FROM_THE_SYSTEM
    assert runs[1][:2] == ["make", "install"]


@pytest.mark.parametrize("package", ["numba", "rasterio"])
def test_wheels_find_their_libraries_in_the_image(package):
    if not (shutil.which("ldd") and shutil.which("dpkg")):
        pytest.skip("needs ldd and dpkg, as Debian has them")
    folder = Path(__import__(package).__file__).parent
    files = [str(path) for path in folder.parent.glob(f"{package}*/**/*.so*")]
    told = subprocess.run(["ldd", *files], capture_output=True, text=True).stdout
    paths = set(re.findall(r"=> (/(?:usr/)?lib/x86_64-linux-gnu/\S+)", told))
    asked = ["dpkg", "-S", *{Path(path).name for path in paths}]
    owners = subprocess.run(asked, capture_output=True, text=True).stdout
    needed = {line.split(":")[0] for line in owners.splitlines() if line.split()[-1] in paths}
    assert needed <= FROM_THE_SYSTEM | BASE


def test_what_is_copied_is_enough_to_install_and_begin(tmp_path):
    place = copied(tmp_path / "image")
    plan = subprocess.run(["make", "-n", "install"], cwd=place, capture_output=True, text=True, check=True)
    assert "--no-deps -r requirements.lock" in plan.stdout
    assert "--no-build-isolation -e ." in plan.stdout
    told = {**os.environ, "PYTHONPATH": f"{place / 'src'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    begin = [sys.executable, "-m", "regflow", "init", "study"]
    subprocess.run(begin, cwd=tmp_path, env=told, capture_output=True, check=True)
    metadata = [sys.executable, "setup.py", "--version"]
    found = subprocess.run(metadata, cwd=place, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\d+\.\d+\S*", found.stdout.split()[-1])


@pytest.mark.slow
def test_jobs_run_in_the_image_of_the_configuration(make_study, tmp_path, monkeypatch):
    write_program(tmp_path / "bin", "apptainer", APPTAINER, tmp_path / "images.log")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    study = make_study(("mni6",), jobs={"container": "regflow.sif", "each_stage": True})
    (study.folder / "regflow.sif").touch()
    target = "results/ingest/moving/mni6.json"
    ended = study.snakemake(target, "--software-deployment-method", "apptainer")
    assert ended.returncode == 0, ended.stderr
    images = (tmp_path / "images.log").read_text(encoding="utf-8").split()
    assert {Path(image).name for image in images} == {"regflow.sif"}
    assert all((study.folder / image).is_file() for image in images)
    assert study.results("ingest", "moving", "mni6.json").is_file()
