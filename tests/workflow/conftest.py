"""Small studies of real brains at 4 mm that the whole workflow runs through in seconds."""

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from study import FAST, Study


@pytest.fixture(scope="session")
def make_study(
    tmp_path_factory: pytest.TempPathFactory, volume_file: Callable[..., Path]
) -> Callable[..., Study]:
    """``make_study(names, **config) -> Study``: samples named as the sources of regflow.datasets.packaged."""

    def make(names: tuple[str, ...] = ("mni6", "icbm2009a"), **config: Mapping[str, Any]) -> Study:
        rows = [{"sample": name, "moving": volume_file(name, 4.0), "modality": "T1w"} for name in names]
        atlases = {"mni": {"image": str(volume_file("mni2009c", 4.0))}}
        standard = {"samples": "config/samples.tsv", "fixed": "mni", "atlases": atlases, **FAST}
        return Study(tmp_path_factory.mktemp("study"), rows, {**standard, **config}).write()

    return make


@pytest.fixture(scope="session")
def finished(make_study: Callable[..., Study]) -> Study:
    """A study of two samples that has run to its end, on two cores; do not change it."""
    study = make_study()
    ended = study.snakemake()
    assert ended.returncode == 0, ended.stderr
    return study


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """``small_disk(kilobytes) -> Path``: a file system of that size."""
    mounted: list[Path] = []

    def make(kilobytes: int) -> Path:
        place = tmp_path / "disk"
        place.mkdir()
        options = ["-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
        if os.geteuid() != 0 or subprocess.run(["mount", *options], capture_output=True).returncode:
            pytest.skip("mounting a small file system needs root")
        mounted.append(place)
        return place

    yield make
    for place in mounted:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
