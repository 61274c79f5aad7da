"""What a run leaves, in small: text files in the places of images, written by the shells of the stages."""

import hashlib
from pathlib import Path
from typing import Any

from regflow.core.files import write_json
from regflow.core.gate import Verdict
from regflow.provenance.crate import write_crate
from regflow.stages import layout
from regflow.stages.checks import Findings, write_manifest
from regflow.stages.freshness import STAGE_FILE
from regflow.stages.shell import FILES, STARTED, make_outcome, run_stage_work

SAMPLES = ("one", "two")
FIXED = "atlas"
SETTINGS = {"kind": "volumes", "seed": 3, "samples": "sheet.tsv", "refine": {"methods": ["greedy"]}}
RECORD = {
    "regflow": "0.1.0",
    "python": "3.11.7",
    "platform": "Linux",
    "processor": {"name": "a processor"},
    "machine": {"cores": 2, "memory_gb": 8.0, "gpus": 0},
    "command": "regflow run",
    "recorded": "2026-01-01T00:00:00+00:00",
    "folder": "..",
    "sources": {"refine": "0.1.0+abc"},
    "lock": {"sha256": "0" * 64, "other": {"numpy": "2.4.6"}},
    "packages": {"numpy": "2.4.7", "snakemake": "9.27.1"},
}
FOLDERS = {"initialize": "transform.h5", "refine": "transform.h5", "apply": "warped.nii.gz"}


class Subject:
    """What a manifest is about."""

    fixed = None

    def __init__(self, name: str) -> None:
        self.name = name


def write_run(folder: Path, samples: tuple[str, ...] = SAMPLES, **record: Any) -> Path:
    """Write a run of some samples, its crate included, below a folder; return that of the results."""
    data, results = folder / "data", folder / "results"
    data.mkdir(parents=True)
    for name in (FIXED, *samples):
        _write_manifest(data, results, name)
    for name in samples:
        for stage, file in FOLDERS.items():
            _write_stage(results, stage, name, file)
        _write_page(results, name)
    write_text(results / layout.COHORT_PAGE, "<p>all</p>")
    write_text(results / "assess" / "cohort.tsv", "sample\tncc_refine\tseconds_refine\none\t0.9\t1.25\n")
    write_text(results / layout.CONFIGURATION, "samples: sheet.tsv\nseed: 3\n")
    write_text(results / layout.SHEET, "sample\tmoving\none\tdata/one.nii\n")
    write_json(results / layout.PROVENANCE, {**RECORD, **record})
    return describe(results, samples)


def describe(results: Path, samples: tuple[str, ...] = SAMPLES, **how: Any) -> Path:
    """Write the crate of a run; return its folder."""
    write_crate(results / layout.CRATE, settings=SETTINGS, samples=samples, fixed=[FIXED], **how)
    return results


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _write_manifest(data: Path, results: Path, name: str) -> None:
    image = data / f"{name}.nii"
    image.write_text(name)
    place = layout.FIXED_MANIFEST.format(fixed=name) if name == FIXED else f"ingest/moving/{name}.json"
    sums = {"image": hashlib.sha256(name.encode()).hexdigest()}
    files = {"image": str(image)}
    write_manifest(results / place, Subject(name), Findings(), {}, files=files, sums=sums)


def _write_stage(results: Path, stage: str, name: str, file: str) -> None:
    def work(folder: Path) -> Any:
        write_text(folder / file, f"{stage} of {name}")
        return make_outcome(Verdict("pass", "good"))

    run_stage_work(stage, name, results / stage / name, [], work)
    assert (results / stage / name / STAGE_FILE).is_file()


def _write_page(results: Path, name: str) -> None:
    page = f"<p>{name}</p>"
    write_text(results / layout.SAMPLE_PAGE.format(sample=name), page)
    sums = {f"../{name}.html": hashlib.sha256(page.encode()).hexdigest()}
    record = {"stage": "report", STARTED: "2026-01-01T00:00:01+00:00", "seconds": 2.0, FILES: sums}
    write_json(results / layout.SAMPLE_RECORD.format(sample=name), record)
