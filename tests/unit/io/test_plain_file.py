"""Samples in a plain file."""

import numpy as np
import pytest

from regflow.io.plain_file import PlainFile

VALUES = np.random.default_rng(0).normal(size=(2, 50, 70)).astype(np.float32)


def test_windows_in_any_order_are_read_again(tmp_path):
    with PlainFile(tmp_path / "a.bin", VALUES.shape, "float32") as file:
        for rows, cols in (
            (slice(20, 50), slice(0, 70)),
            (slice(0, 20), slice(33, 70)),
            (slice(0, 20), slice(0, 33)),
        ):
            file.write(VALUES[:, rows, cols], rows, cols)
        assert file.pixels == 50 * 70
        np.testing.assert_array_equal(file.read(slice(7, 31), slice(11, 64)), VALUES[:, 7:31, 11:64])
    np.testing.assert_array_equal(np.fromfile(tmp_path / "a.bin", "<f4").reshape(VALUES.shape), VALUES)


def test_what_was_never_written_is_zero(tmp_path):
    with PlainFile(tmp_path / "a.bin", VALUES.shape, "float32") as file:
        file.write(VALUES[:, :1, :1], slice(0, 1), slice(0, 1))
        assert np.count_nonzero(file.read(slice(0, 50), slice(0, 70))) == 2


def test_a_window_of_another_shape_is_a_defect(tmp_path):
    with (
        PlainFile(tmp_path / "a.bin", VALUES.shape, "float32") as file,
        pytest.raises(ValueError, match="cannot hold"),
    ):
        file.write(VALUES[:, :3, :3], slice(0, 2), slice(0, 3))
