import numpy as np
import pyarrow.parquet as pq
import pytest

from regflow.core.files import write_json
from regflow.core.gate import Verdict
from regflow.metrics.outliers import compute_robust_scores
from regflow.stages.gather import gather, mark_outliers, read_table
from regflow.stages.shell import make_outcome, run_stage_work


def assessed(root, sample, figures, labels=()):
    quality = {
        "figures": figures,
        "labels": list(labels),
        "stages": [{"stage": "refine", "title": "refine", "seconds": 4.5}],
    }

    def work(folder):
        write_json(folder / "quality.json", quality)
        return make_outcome(Verdict("pass", "every figure is within its limits"))

    run_stage_work("assess", sample, root / sample, [], work)
    return root / sample


@pytest.fixture
def cohort(tmp_path):
    label = {
        "label": 7,
        "fixed_ml": 1.5,
        "dice": {"start": 0.1, "initialize": 0.5, "refine": 0.9},
        "hd95_mm": {"start": 9.0, "initialize": 3.0, "refine": None},
    }
    folders = [
        assessed(tmp_path, "b", {"ncc_refine": 0.9, "folding_percent": 0.0}, [label]),
        assessed(tmp_path, "a", {"ncc_refine": 0.8, "tre_mean_mm_refine": 1.25}),
    ]
    bad = tmp_path / "c"
    run_stage_work("apply", "c", tmp_path / "up", [], _impossible)
    run_stage_work("assess", "c", bad, [tmp_path / "up"], _impossible)
    return [*folders, bad]


def _impossible(_):
    from regflow.core.errors import InputError

    raise InputError("c.nii:\tcut off")


def test_every_sample_has_a_row_failed_ones_with_their_reason(tmp_path, cohort):
    tables = {"samples": tmp_path / "cohort.tsv", "labels": tmp_path / "labels.parquet"}
    rows = gather(tables, cohort, {"b": {"fixed": "mni", "group": "x"}})
    assert [row["sample"] for row in rows] == ["b", "a", "c"]
    assert (rows[2]["state"], rows[2]["status"], rows[2]["reason"]) == ("skipped", "fail", "c.nii:\tcut off")
    lines = (tmp_path / "cohort.tsv").read_text(encoding="utf-8").splitlines()
    cells = [dict(zip(lines[0].split("\t"), line.split("\t"), strict=True)) for line in lines[1:]]
    assert cells[0]["fixed"] == "mni"
    assert cells[0]["ncc_refine"] == "0.9"
    assert cells[1]["folding_percent"] == ""
    assert cells[1]["seconds_refine"] == "4.5"
    assert cells[2]["reason"] == "c.nii: cut off"
    assert read_table(tmp_path / "cohort.tsv")[1]["tre_mean_mm_refine"] == 1.25


def test_labels_have_a_row_per_sample_and_structure(tmp_path, cohort):
    gather({"samples": tmp_path / "cohort.tsv", "labels": tmp_path / "labels.tsv"}, cohort)
    (row,) = pq.read_table(tmp_path / "labels.parquet").to_pylist()
    assert (row["sample"], row["label"], row["dice_refine"], row["hd95_mm_refine"]) == ("b", 7, 0.9, None)


def test_tables_are_the_same_bytes_every_time_and_without_any_label(tmp_path, cohort):
    for place in ("one", "two"):
        tables = {kind: tmp_path / place / f"{kind}.tsv" for kind in ("samples", "labels")}
        gather(tables, cohort[1:])
    for name in ("samples.tsv", "samples.parquet", "labels.tsv", "labels.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert read_table(tmp_path / "one/labels.tsv") == []


def test_only_the_bad_side_of_a_cohort_stands_apart():
    rows = [{"sample": str(n), "ncc_refine": 0.9 + 0.01 * (n % 3), "folding_percent": 0.0} for n in range(12)]
    rows[4]["ncc_refine"] = 0.3
    rows[5]["ncc_refine"] = 0.9999
    rows[6]["folding_percent"] = 0.4
    rows[7]["ncc_refine"] = float("nan")
    rows.append({"sample": "failed"})
    mark_outliers(rows)
    marked = {row["sample"]: row["outliers"] for row in rows if row["outliers"]}
    assert marked == {"4": "ncc_refine", "6": "folding_percent"}


def test_samples_are_compared_within_their_modality_and_group():
    groups = (("T1w", "old", 1, 9), ("T2w", "old", -1, 6), ("T1w", "new", 0.5, 5))
    rows = [
        {"sample": f"{modality}{n}", "modality": modality, "group": group, "ncc_refine": sign + 0.01 * n}
        for modality, group, sign, count in groups
        for n in range(count)
    ]
    mark_outliers(rows)
    assert not [row["sample"] for row in rows if row["outliers"]]
    rows[10]["ncc_refine"] = -1.9
    mark_outliers(rows)
    assert [row["sample"] for row in rows if row["outliers"]] == ["T2w1"]


def test_scenes_get_their_own_columns_and_outliers(tmp_path):
    folders = [assessed(tmp_path, f"s{n}", {"rmse_px_refine": 0.1 + 0.001 * n}) for n in range(9)]
    folders.append(assessed(tmp_path, "off", {"rmse_px_refine": 3.0}))
    subjects = {folder.name: {"fixed": "tile", "date": "2024-06-30", "sensor": "S2"} for folder in folders}
    rows = gather({"samples": tmp_path / "cohort.tsv"}, folders, subjects, kind="rasters")
    assert [row["sample"] for row in rows if row["outliers"]] == ["off"]
    header, first, *_ = (tmp_path / "cohort.tsv").read_text(encoding="utf-8").splitlines()
    assert header.split("\t")[:5] == ["sample", "fixed", "group", "date", "sensor"]
    assert first.split("\t")[3] == "2024-06-30"
    assert read_table(tmp_path / "cohort.tsv")[0]["sensor"] == "S2"


def test_robust_scores_of_a_normal_cohort_are_standard_scores():
    values = np.random.default_rng(0).normal(5, 2, 20_000)
    assert compute_robust_scores(values) == pytest.approx((values - 5) / 2, abs=0.15)
    assert not compute_robust_scores([1, 1, 1, 9]).any()
    assert not compute_robust_scores([3.0] * 9).any()
    assert np.isnan(compute_robust_scores([1, 2, 3, np.nan, 4, 5])[3])
