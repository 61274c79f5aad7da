"""The judge of maps between scenes: right maps stand out from shifts, whatever the contrast."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.methods.initialize import hypotheses
from regflow.methods.initialize.agreement import NOTHING, Agreement, AgreementJudge
from regflow.methods.initialize.hypotheses import Hypothesis, _distinct

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


def test_what_mutual_information_makes_of_a_hypothesis_is_one_itself(monkeypatch):
    found, climbed, finer = (Hypothesis(np.eye(3) * k, name, 1.0) for k, name in enumerate("abc", 1))
    monkeypatch.setattr(hypotheses, "_climbed", lambda *arguments: [("a, climbed", climbed.matrix)])
    monkeypatch.setattr(hypotheses, "refine_linear", lambda *arguments, seed: finer)
    image = Image(np.zeros((1, 4, 4), np.float32), Grid((4, 4), np.eye(3)))
    improved = hypotheses._improved(image, image, found, {"model": "affine"}, 0)
    assert [(origin, matrix[0, 0]) for origin, matrix in improved] == [
        ("a, windows", 3.0),
        ("a, climbed", 2.0),
        ("a, climbed, windows", 3.0),
    ]
