"""Which pairs of a series are registered."""

from regflow.methods.groupwise.schedule import list_series_pairs


def test_short_series_have_all_pairs_and_long_ones_some():
    assert len(list_series_pairs(5)) == 10
    assert len(list_series_pairs(20)) == 19 + 18 + 16


def test_a_hub_joins_all_and_no_pair_is_there_twice():
    pairs = list_series_pairs(6, [1], hub=2)
    assert pairs == [(0, 1), (0, 2), (1, 2), (2, 3), (2, 4), (2, 5), (3, 4), (4, 5)]


def test_steps_longer_than_the_series_join_nothing():
    assert list_series_pairs(3, [1, 7]) == [(0, 1), (1, 2)]
