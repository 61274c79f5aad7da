"""The target `compare_methods`: methods on the first samples of a study, apart from its run."""

import pytest
import yaml
from study import FAST, planned


def test_the_first_samples_are_compared_when_asked(make_study):
    study = make_study(compare={"samples": 1})
    assert planned(study.snakemake("--dry-run", "compare_methods").stdout) == {
        "compare_methods": 1,
        "compare_sample": 1,
    }


@pytest.mark.slow
def test_a_sample_is_compared_with_the_settings_of_its_study(make_study):
    methods = ["moments", "header", "greedy"]
    given = {"samples": 1, "methods": methods, "moved": [4], "warped": [4]}
    study = make_study(("mni6",), compare=given, **FAST)
    ended = study.regflow("run", "--", "compare_methods")
    assert ended.returncode == 0, ended.stderr
    folder = study.results("compare", "mni6")
    assert set(yaml.safe_load((folder / "recommended.yaml").read_text())) == {"initialize", "refine"}
    rows = (folder / "comparison.tsv").read_text().splitlines()[1:]
    assert [row.split("\t")[1] for row in rows] == ["default", "header", "moments", "default", "greedy"]
    assert not study.results("report", "index.html").exists()
