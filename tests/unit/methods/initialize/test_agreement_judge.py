"""The judge of maps between scenes: right maps stand out from shifts, whatever the contrast."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.methods.initialize import hypotheses
from regflow.methods.initialize.agreement import NOTHING, Agreement, AgreementJudge
from regflow.methods.initialize.agreement_kernels import compare_at_shifts
from regflow.methods.initialize.hypotheses import Hypothesis, HypothesisSearch, _distinct
from regflow.methods.initialize.information_climb import InformationClimber

GRID = Grid((200, 240), np.diag([10.0, -10.0, 1.0]))
TEXTURE = gaussian_filter(np.random.default_rng(0).normal(size=GRID.shape), 2.0).astype(np.float32)


def picture(values: np.ndarray, valid: bool = True) -> Image:
    return Image(values[None], GRID, np.full(GRID.shape, valid))


def shift(pixels: float) -> np.ndarray:
    return np.array([[1.0, 0, 10 * pixels], [0, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize("shown", [TEXTURE, 5 - 3 * TEXTURE], ids=["alike", "inverted"])
def test_the_right_map_stands_out_from_shifts(shown):
    judge = AgreementJudge(picture(TEXTURE), picture(shown))
    right, wrong = judge(np.eye(3)), judge(shift(30))
    assert min(right.edges, right.information) > 5
    assert right.sigmas > 3 * wrong.sigmas
    assert judge(shift(1000)) == NOTHING


def test_evidence_adds_up_and_none_counts_against():
    assert Agreement(3.0, 4.0).sigmas == 5.0
    assert Agreement(-3.0, 4.0).sigmas == 4.0
    assert Agreement(-3.0, -4.0).sigmas == 0.0


def test_where_nothing_is_shown_nothing_agrees():
    assert AgreementJudge(picture(TEXTURE), picture(TEXTURE, valid=False))(np.eye(3)) == NOTHING
    flat = picture(np.ones_like(TEXTURE))
    assert AgreementJudge(flat, flat)(np.eye(3)) == NOTHING


def test_of_hypotheses_that_agree_the_surest_is_kept():
    grid = Grid((100, 100), np.eye(3))

    def shifted(sigmas: float, x: float) -> Hypothesis:
        return Hypothesis(np.array([[1.0, 0, x], [0, 1, 0], [0, 0, 1]]), f"{sigmas}", sigmas)

    found = [
        shifted(3.0, 0.0),
        shifted(9.0, 0.1),
        shifted(5.0, 60.0),
        shifted(4.0, 60.1),
        shifted(1.0, -60.0),
    ]
    assert [each.origin for each in _distinct(found, grid, 5)] == ["9.0", "5.0", "1.0"]
    assert [each.origin for each in _distinct(found, grid, 2)] == ["9.0", "5.0"]


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> HypothesisSearch:
    """Return a search whose judge likes large numbers, and in which windows and climbs find such."""
    finer = Hypothesis(np.diag([9.0, 1.0, 1.0]), "", 1.0)
    monkeypatch.setattr(hypotheses, "refine_linear", lambda *arguments, seed: finer)
    monkeypatch.setattr(InformationClimber, "__call__", lambda *arguments: np.diag([2.0, 1.0, 1.0]))
    image = Image(np.zeros((1, 4, 4), np.float32), Grid((4, 4), np.eye(3)), np.ones((4, 4), bool))
    judge = lambda matrix: Agreement(matrix[0, 0], 0.0)  # noqa: E731
    return HypothesisSearch(image, image, judge, {"model": "affine", "bins": 8}, 0)


def test_what_windows_and_mutual_information_make_of_a_hypothesis_is_one_itself(search):
    first = search.add_map("a", np.eye(3))
    search.optimize_map(first)
    assert search.best.origin == "a, information of a rigid map"
    assert not search.is_certain
    search.refine_map(search.best)
    assert [each.sigmas for each in search.found] == [1.0, 2.0, 9.0]
    assert search.best.origin == "a, information of a rigid map, windows"


def test_a_homography_is_not_climbed_from(search):
    search.add_map("start", np.eye(3))
    search.optimize_map(search.add_map("a", np.array([[1.0, 0, 0], [0, 1, 0], [1e-3, 0, 1]])))
    assert len(search.found) == 2


@pytest.mark.parametrize("shift", [(0, 0), (3, -2), (-4, 5)])
def test_the_kernel_adds_up_what_both_pictures_show(shift):
    rng = np.random.default_rng(1)
    edges = (rng.normal(size=(2, 20, 24)) + 1j * rng.normal(size=(2, 20, 24))).astype(np.complex64)
    bins = rng.integers(-1, 4, (2, 20, 24)).astype(np.int16)
    sums, joint = compare_at_shifts(edges[0], bins[0], edges[1], bins[1], np.array([shift]), 4)
    total, counts = 0.0, np.zeros((4, 4), int)
    for row, column in np.ndindex(20, 24):
        y, x = row - shift[0], column - shift[1]
        if not (0 <= y < 20 and 0 <= x < 24) or min(bins[0, row, column], bins[1, y, x]) < 0:
            continue
        total += (edges[0, row, column] * edges[1, y, x].conjugate()).real
        counts[bins[0, row, column], bins[1, y, x]] += 1
    assert np.isclose(sums[0], total, rtol=1e-5)
    assert np.array_equal(joint[0], counts)
