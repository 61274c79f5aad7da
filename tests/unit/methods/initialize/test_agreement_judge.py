"""The judge of maps between scenes: right maps stand out from shifts, whatever the contrast."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.methods.initialize.agreement import NOTHING, Agreement, AgreementJudge

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
