"""The page of a large cohort: small, and laid out only as far as it is seen."""

import numpy as np
import pytest

from regflow.metrics.catalogs import CATALOGS
from regflow.reporting.shared.cohort import MOST_ROWS, render_cohort_page

VOLUMES = CATALOGS["volumes"]
STAGES = ("start", "initialize", "refine")
MEGABYTE = 1e6


def cohort(count):
    """Return the rows of a table of samples, every figure known."""
    random = np.random.default_rng(0)
    columns = [
        f"{name}_{stage}" if stage else name
        for name in {*VOLUMES.columns, *VOLUMES.watched}
        for stage in (STAGES if VOLUMES.figures[name].staged else ("",))
    ]
    common = {"fixed": "mni", "group": "a", "state": "done", "status": "pass", "reason": "all is well"}
    return [
        {"sample": f"sub-{number:05d}", **common, "outliers": "", "transform_from": "refine"}
        | dict(zip(columns, random.normal(0.8, 0.05, len(columns)), strict=True))
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def page() -> str:
    rows = cohort(2000)
    names = [row["sample"] for row in rows]
    links, pictures = ({name: f"{name}{end}" for name in names} for end in (".html", ".png"))
    return render_cohort_page(
        rows, [], [], links, {names[0]: "data:image/png;base64,AA=="}, pictures=pictures
    )


def test_ten_thousand_samples_fit_into_a_page_of_twenty_megabytes(page):
    assert 5 * len(page.encode()) < 20 * MEGABYTE


def test_rows_out_of_sight_are_not_laid_out(page):
    table, _, rest = page.partition('<template id="rest">')
    assert table.count('<th scope="row"><a href="sub-') == MOST_ROWS
    assert rest.count('<th scope="row"><a href="sub-') == 2000 - MOST_ROWS


def test_pictures_are_loaded_when_they_are_seen(page):
    assert page.count('src="data:image/png;base64,AA=="') == 1
    assert page.count('src="sub-00001.png" alt="" loading="lazy"') == 1


def test_a_small_cohort_has_all_its_rows_at_once():
    page = render_cohort_page(cohort(7), [], [], {}, {})
    assert "<template" not in page
    assert page.count("sub-0000") >= 7


def test_the_page_says_what_a_sample_takes_on_the_disk():
    rows = [{**row, "seconds_refine": 2.0, "stored_mb": 150.0} for row in cohort(3)]
    page = render_cohort_page(rows, [], [], {}, {})
    assert "A sample takes 150 MB on the disk (median), all together 450 MB." in page
