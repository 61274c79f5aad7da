"""A series of scenes: known drift is found, outliers are named, steps that are done stay."""

import csv
import shutil

import numpy as np
import pytest
from support.drifting_scenes import cloud, drift, measure_shifts, window

import regflow as rf
from regflow.core.files import list_checksums
from regflow.datasets.modalities import make_linear_truth

DRIFT = [(0.7 * n, -0.4 * n) for n in range(6)]
QUICK = {"initialize": {"methods": ["phase-correlation", "gradient-correlation"]}}
FAST = {**QUICK, "refine": {"methods": ["none"]}}


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """Return six drifting dates and a clouded one, aligned, and their folder."""
    folder = tmp_path_factory.mktemp("series") / "aligned"
    images = {**drift(DRIFT), "t7": cloud()}
    return rf.align_series(images, output=folder, steps=[1, 2, 4], config=QUICK, threads=1)


CUBE = rf.Image(np.ones((1, 9, 9, 9), np.float32), rf.Grid((9, 9, 9), np.eye(4)))


def list_products(folder):
    """Return the checksums of all files but the working images', which name where their files lie."""
    return {path: digest for path, digest in list_checksums(folder).items() if "steps/images" not in path}


def find_truth(shifts):
    """Return known shifts in the directions in which :func:`measure_shifts` finds them."""
    grid = window().grid
    return measure_shifts({str(n): make_linear_truth(grid, shift) for n, shift in enumerate(shifts)})


def test_a_known_drift_is_removed_to_hundredths_of_a_pixel(series):
    found = {name: series.transforms[name] for name in list(series.transforms)[:6]}
    assert np.abs(measure_shifts(found) - find_truth(DRIFT)).max() < 0.03
    inner = (slice(10, -10), slice(10, -10))
    aligned = [series.images[name].channel[inner] for name in found]
    assert (
        np.abs(aligned[0] - aligned[5]).mean()
        < 0.1 * np.abs(aligned[0] - window().channel[inner].mean()).mean()
    )


def test_closures_are_measured_before_the_solution(series):
    assert len(series.closures) >= 6
    assert 0 < series.figures["closure_median_px"] < 0.05


def test_a_date_that_shows_nothing_is_named_and_left_out(series):
    row = series.samples[-1]
    assert (row["image"], row["used"], row["verdict"]) == ("t7", "no", "fail")
    assert row["reason"].startswith("left out: ")
    assert "t7" not in series.images


def test_tables_and_page_tell_of_all_images(series):
    with (series.folder / "series.tsv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert [row["image"] for row in rows] == [f"t{n}" for n in range(1, 8)]
    page = (series.folder / "report.html").read_text(encoding="utf-8")
    assert all(row["image"] in page for row in rows)


def test_what_was_lost_comes_out_again_and_no_order_matters(series):
    before = list_products(series.folder)
    shutil.rmtree(series.folder / "steps" / "links" / "t1--t2")
    shutil.rmtree(series.folder / "aligned" / "t3")
    untouched = series.folder / "steps" / "links" / "t2--t3" / "link.json"
    written = untouched.stat().st_mtime_ns
    images = {**drift(DRIFT), "t7": cloud()}
    turned = dict(reversed(images.items()))
    rf.align_series(turned, output=series.folder, steps=[1, 2, 4], config=QUICK, threads=2)
    assert list_products(series.folder) == before
    assert untouched.stat().st_mtime_ns == written


def test_all_go_onto_a_date_that_is_named():
    found = rf.align_series(drift(DRIFT[:3]), onto="t2", config=FAST)
    center = window().grid.center[None]
    assert np.allclose(found.transforms["t2"].apply(center), center)


def test_slow_motion_is_kept_and_jitter_removed():
    jitter = 0.6 * np.array([1, -1, 1, -1, 1, -1, 1, -1])
    shifts = [(1.5 * n + jitter[n], 0.0) for n in range(8)]
    found = rf.align_series(drift(shifts), motion="smooth", steps=[1, 2], hub=False, config=FAST)
    moved = measure_shifts(found.transforms)
    along = measure_shifts({str(n): make_linear_truth(window().grid, s) for n, s in enumerate(shifts)})
    left = along - moved
    # What is left of the motion grows evenly, and what was taken out is the jitter.
    assert np.abs(np.diff(left[:, 0], n=2)).max() < 0.5
    assert np.ptp(left[:, 0]) > 9
    assert np.abs(moved[2:6, 0] - np.array(jitter[2:6])).max() < 0.25


def test_parts_that_nothing_joins_are_solved_each_and_told_of():
    first, second = drift(DRIFT[:3]), drift(DRIFT[:3])
    elsewhere = {}
    for name, image in second.items():
        affine = image.grid.affine.copy()
        affine[0, 2] += 96 * 10 * 2
        grid = rf.Grid(image.grid.shape, affine, image.grid.crs)
        elsewhere[f"u{name}"] = rf.Image(image.data, grid, image.mask)
    found = rf.align_series({**first, **elsewhere}, steps=[1, 2], hub=False, config=FAST)
    verdicts = {row["image"]: row["verdict"] for row in found.samples}
    assert found.figures["parts"] == 2
    assert [verdicts[name] for name in first] == ["pass"] * 3
    assert [verdicts[name] for name in elsewhere] == ["warn"] * 3
    assert "nothing joins its part" in found.samples[-1]["reason"]


def test_images_that_share_no_ground_are_refused_with_a_sentence():
    one, other = drift(DRIFT[:2]).values()
    affine = other.grid.affine.copy()
    affine[0, 2] += 1e5
    far = rf.Image(other.data, rf.Grid(other.grid.shape, affine, other.grid.crs), other.mask)
    with pytest.raises(rf.RegistrationError, match="no two images of the series"):
        rf.align_series({"a": one, "b": far}, config=FAST)


@pytest.mark.parametrize(
    ("images", "more", "sentence"),
    [
        ({"a": np.zeros((9, 9))}, {}, "a series needs 2 images, and 1 is given"),
        ({"a": np.eye(9), "b": CUBE}, {}, "give images of one kind"),
        ({"a": np.eye(9), "b": np.eye(9)}, {"onto": "c"}, "no image of the series"),
        ({"a": np.eye(9), "b": np.eye(9)}, {"dates": ["2020-01-01", "soon"]}, "its date is 'soon'"),
        ({"a": np.eye(9), "b": np.eye(9)}, {"dates": ["2020-01-01"]}, "1 entries for 2 images"),
        ({"a": np.eye(9), "b": np.eye(9)}, {"model": "rigid"}, "model"),
    ],
)
def test_mistakes_get_a_sentence(images, more, sentence):
    with pytest.raises(rf.InputError, match=sentence):
        rf.align_series(images, **more)
