"""The record of a link between two images of a series."""

import numpy as np
import pytest

from regflow.core.gate import Verdict
from regflow.core.transform import Affine
from regflow.stages.series_link import SeriesLink, fit_linear_map, read_link, summarize_points, write_link

POINTS = np.random.default_rng(1).normal(100, [30, 10], (500, 2))


def test_few_points_have_the_middle_and_the_spread_of_many():
    few = summarize_points(POINTS)
    assert few.shape == (5, 2)
    assert np.allclose(few.mean(axis=0), POINTS.mean(axis=0))
    assert np.allclose(np.cov(few.T, bias=True), np.cov(POINTS.T, bias=True))


@pytest.mark.parametrize("model", ["translation", "rigid", "similarity", "affine"])
def test_a_map_of_a_model_is_found_again(model):
    linear = {
        "translation": np.eye(2),
        "rigid": [[0.8, -0.6], [0.6, 0.8]],
        "similarity": [[1.6, -1.2], [1.2, 1.6]],
        "affine": [[1.1, 0.2], [0.0, 0.9]],
    }[model]
    truth = Affine.from_parts(linear, [3.0, -2.0])
    found = fit_linear_map(model, POINTS, truth.apply(POINTS))
    assert np.allclose(found.matrix, truth.matrix)


def test_a_link_is_read_as_it_was_written(tmp_path):
    link = SeriesLink(Verdict("warn", "few"), Affine.identity(2), 0.3, POINTS[:5])
    write_link(tmp_path, link)
    found = read_link(tmp_path)
    assert found.verdict == link.verdict
    assert found.is_usable
    assert np.array_equal(found.points, POINTS[:5])
    assert found.make_link("a", "b").sigma == pytest.approx(0.6)


def test_a_link_that_failed_has_no_map(tmp_path):
    write_link(tmp_path, SeriesLink(Verdict("fail", "nothing in common")))
    assert not read_link(tmp_path).is_usable
