"""One module says where results lie; what spells a path of its own spells one of those."""

import re
from pathlib import Path

import pytest

from regflow.core.resources import find_shipped_folder
from regflow.stages import layout

PATHS = {value for name, value in vars(layout).items() if name.isupper() and isinstance(value, str)}
RULES = sorted((find_shipped_folder() / "workflow").rglob("*.smk"))


def blank(path: str) -> str:
    """Return a path without what its braces hold, and a table's without its ending."""
    return re.sub(r"{+[^}]*}+", "{}", path.replace("{ending}", ""))


@pytest.mark.parametrize("rules", RULES, ids=lambda path: path.relative_to(find_shipped_folder()).as_posix())
def test_rules_name_no_other_place(rules: Path):
    named = set(re.findall(r"<results>/([^\"]*)", rules.read_text(encoding="utf-8")))
    known = {blank(path) for path in PATHS} | {"{}"}
    assert {blank(path) for path in named} <= known


def test_a_job_logs_beside_its_product_whatever_dots_a_name_has():
    assert layout.find_log(layout.MOVING_MANIFEST) == "logs/ingest/moving/{sample}.log"
    assert layout.find_log(layout.REFINED).format(sample="sub-1.5") == "logs/refine/sub-1.5.log"
    assert layout.find_log(layout.SAMPLE_PAGE) == "logs/report/{sample}.log"
    logs = {
        log
        for rules in RULES
        for log in re.findall(r"<logs>/(\w+(?:/moving)?/{sample}\.log)", rules.read_text(encoding="utf-8"))
    }
    wanted = {layout.find_log(path).removeprefix("logs/") for path in layout.OF_A_SAMPLE.values()}
    apart = {"detect/{sample}.log", "compare/{sample}.log"}
    assert not logs or wanted | apart == logs
