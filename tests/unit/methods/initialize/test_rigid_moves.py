"""What a move of an agent is worth."""

import numpy as np
import pytest

from regflow.methods.initialize.rigid_moves import (
    STRIDES,
    list_moves,
    measure_gains,
    measure_misfit,
    turn_in_plane,
)


@pytest.mark.parametrize(("ndim", "count"), [(2, 6), (3, 12)])
def test_moves_come_in_pairs_that_undo_each_other(ndim: int, count: int) -> None:
    moves, strides = list_moves(ndim)
    assert len(moves) == len(strides) == count * len(STRIDES)
    for move in moves:
        assert np.linalg.det(move) == pytest.approx(1)
        assert sum(np.allclose(move @ other, np.eye(ndim + 1)) for other in moves) == 1


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_move_displaces_about_by_its_stride(ndim: int) -> None:
    moves, strides = list_moves(ndim)
    ratios = np.array([measure_misfit(move) for move in moves]) / strides
    assert (ratios > 0.7).all()
    assert (ratios < 1.2).all()


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_move_that_undoes_a_misfit_is_worth_most(ndim: int) -> None:
    moves, strides = list_moves(ndim)
    for number, move in enumerate(moves):
        values = measure_gains(np.linalg.inv(move), moves, strides) * strides
        assert int(values.argmax()) == number
        assert values[number] == pytest.approx(measure_misfit(move))


def test_no_move_helps_where_nothing_is_amiss() -> None:
    moves, strides = list_moves(3)
    assert (measure_gains(np.eye(4), moves, strides) < 0).all()


def test_the_misfit_of_a_turn_grows_with_its_angle() -> None:
    misfits = [float(measure_misfit(turn_in_plane(3, (0, 2), angle))) for angle in (0.1, 0.2, 0.4)]
    assert misfits == sorted(misfits)
    assert misfits[0] == pytest.approx(0.5 * 0.1, rel=0.01)
