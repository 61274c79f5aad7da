"""MultiQC itself reads the figures of a cohort: its general statistics, a table, and a section per figure."""

import csv
import math
import subprocess
import sys

import pytest

from regflow.core.files import read_json
from regflow.metrics.catalogs import CATALOGS
from regflow.reporting.shared.multiqc import write_multiqc_files

STAGES = ("start", "initialize", "refine")
ROWS = {
    "volumes": (
        "ncc",
        {"sample": "sub-01", **{f"ncc_{stage}": 0.5 for stage in STAGES}, "folding_percent": 2.0},
    ),
    "rasters": ("rmse_px", {"sample": "first", **{f"rmse_px_{stage}": 0.25 for stage in STAGES}}),
}


@pytest.fixture(params=sorted(ROWS))
def written(request, tmp_path):
    """The files of a cohort of two samples, one of which could not be done."""
    name, row = ROWS[request.param]
    done = {**row, "state": "done", "status": "pass", "mi_refine": math.nan}
    failed = {"sample": "bad", "state": "error", "status": "fail"}
    write_multiqc_files(tmp_path / "multiqc", [done, failed], CATALOGS[request.param])
    return tmp_path / "multiqc", name, row


def read_rows(path):
    with path.open(encoding="utf-8") as stream:
        return {row["Sample"]: row for row in csv.DictReader(stream, delimiter="\t")}


def test_multiqc_reads_them(written, tmp_path):
    folder, name, row = written
    program = [sys.executable, "-m", "multiqc", "--no-ansi", "--outdir", str(tmp_path / "out"), str(folder)]
    ended = subprocess.run(program, cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert ended.returncode == 0, ended.stderr
    assert "error" not in ended.stderr.lower()
    assert (tmp_path / "out" / "multiqc_report.html").is_file()
    data = tmp_path / "out" / "multiqc_data"
    for table in ("multiqc_general_stats.txt", "multiqc_regflow_figures_table.txt"):
        found = read_rows(data / table)
        verdicts = {sample: set(cells.values()) & {"pass", "error"} for sample, cells in found.items()}
        assert verdicts == {row["sample"]: {"pass"}, "bad": {"error"}}
    section = read_rows(data / f"multiqc_regflow_{name}_table.txt")
    assert list(section) == [row["sample"]]
    assert [float(value) for key, value in section[row["sample"]].items() if key != "Sample"] == [
        row[f"{name}_{stage}"] for stage in STAGES
    ]


def test_what_is_not_known_is_left_out(written):
    folder, name, row = written
    figures = read_json(folder / "regflow_figures_mqc.json")
    assert f"{name}_refine" in figures["headers"]
    assert "mi_refine" not in figures["headers"]
    assert figures["data"]["bad"] == {"verdict": "error"}
    assert not (folder / "regflow_mi_mqc.json").exists()
    assert read_json(folder / "regflow_general_mqc.json")["data"][row["sample"]]["verdict"] == "pass"
