"""The highest maximum of a surface, and how far it stands out."""

import numpy as np
import pytest

from regflow.methods.initialize.correlation import find_highest_peak

FIRST = np.array([-20, -15], np.intp)


def bump(row: float, column: float, height: float) -> np.ndarray:
    rows, columns = np.mgrid[:30, :40]
    return height * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 2)


def test_the_second_peak_is_told_as_a_share_of_the_first():
    peak = find_highest_peak(bump(10.2, 20.3, 1.0) + bump(22, 33, 0.4), FIRST)
    assert peak.shift == pytest.approx([0.3, -4.8], abs=0.05)
    assert peak.height == pytest.approx(1.0, abs=0.1)
    assert peak.second_peak_ratio * peak.height == pytest.approx(0.4, abs=1e-3)


def test_a_surface_without_a_peak_is_wholly_ambiguous():
    assert find_highest_peak(np.zeros((30, 40)), FIRST).second_peak_ratio == np.inf


@pytest.mark.parametrize(("row", "column"), [(0, 12), (29, 12), (11, 0), (11, 39), (0, 0)])
def test_a_peak_at_the_border_is_told_to_the_pixel(row, column):
    assert find_highest_peak(bump(row, column, 1.0), FIRST).shift.tolist() == [column - 20, row - 15]
