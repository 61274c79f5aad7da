"""regflow as a module of another workflow."""

import subprocess
import sys

import pytest
import yaml
from study import WORKFLOW

OUTER = """
configfile: "outer.yaml"


module regflow:
    snakefile:
        {workflow!r}
    config:
        config["registration"]


use rule * from regflow as regflow_*


rule volumes:
    input:
        "results/apply/mni6",
    output:
        "volumes.txt",
    shell:
        "ls {{input}} > {{output}}"
"""


@pytest.mark.slow
def test_another_workflow_uses_the_rules_and_their_results(make_study):
    study = make_study(("mni6",))
    (study.folder / "Snakefile").write_text(OUTER.format(workflow=str(WORKFLOW)))
    (study.folder / "outer.yaml").write_text(yaml.safe_dump({"registration": study.config}))
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "volumes"]
    ended = subprocess.run(command, cwd=study.folder, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "warped.nii.gz" in (study.folder / "volumes.txt").read_text(encoding="utf-8").split()
    assert not study.results("report").exists()
