"""Small studies of real brains at 4 mm that the whole workflow runs through in seconds."""

from collections.abc import Callable, Mapping
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
