"""Working images on disk, and those that stay in memory for the next stage."""

import numpy as np
import pytest

from regflow.core.errors import InputError
from regflow.core.files import write_whole_directory
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.stages.volumes.working import read_working, write_working

GRID = Grid.from_geometry((4, 5, 6), (1.0, 2.0, 3.0), (-4.0, 5.0, 6.0))


def image(seed: int) -> Image:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3000, GRID.shape)
    return Image(rng.random((1, *GRID.shape), np.float32), GRID, labels > 700, labels)


def write(folder, held: Image) -> None:
    with write_whole_directory(folder) as part:
        write_working(part, held)


def test_what_is_written_is_read(tmp_path):
    given = image(0)
    write(tmp_path / "one", given)
    found = read_working(tmp_path / "one")
    assert np.array_equal(found.data, given.data)
    assert np.array_equal(found.mask, given.mask)
    assert np.array_equal(found.labels, given.labels)
    assert found.grid.matches(given.grid)


def test_an_image_is_read_once_and_again_when_it_was_made_anew(tmp_path):
    write(tmp_path / "one", image(0))
    first = read_working(tmp_path / "one")
    assert read_working(tmp_path / "one") is first
    write(tmp_path / "one", image(1))
    assert np.array_equal(read_working(tmp_path / "one").data, image(1).data)


def test_no_more_than_a_pair_stays_in_memory(tmp_path):
    for name in ("one", "two", "three"):
        write(tmp_path / name, image(0))
    first = read_working(tmp_path / "one")
    for name in ("two", "three"):
        read_working(tmp_path / name)
    assert read_working(tmp_path / "one") is not first


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none/image\.nii"):
        read_working(tmp_path / "none")
