import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from regflow.core.transform import Affine
from regflow.datasets.serial_sections import SectionFaults, measure_stack_error, simulate_sections


def make_block():
    rng = np.random.default_rng(0)
    rows, columns = np.indices((60, 70))
    body = np.exp(-(((rows - 30) / 18) ** 4) - ((columns - 34) / 22) ** 4)
    texture = gaussian_filter(rng.standard_normal((8, 60, 70)), (2, 2, 2))
    return (body * (1 + 2 * texture / texture.std() * 0.2)).astype(np.float32)


def test_pictures_show_the_tissue_where_truth_says():
    block = make_block()
    cut = simulate_sections(block, SectionFaults(noise=0, gain=0, warp_width_px=12))
    top = np.percentile(block[block > 0], 99)
    for number in range(len(block)):
        points = cut.list_tissue_points(number, 200)
        places = np.rint(cut.map_points(number, points)).astype(int)
        seen = cut.pictures[number][places[:, 1], places[:, 0]]
        there = block[number][points[:, 1].astype(int), points[:, 0].astype(int)] / top
        assert np.corrcoef(seen, there)[0, 1] > 0.85
        assert np.abs(cut.map_points(number, points) - points).max() > 1


def test_the_error_is_that_of_the_maps_up_to_one_move_of_all():
    cut = simulate_sections(make_block(), SectionFaults(warp_px=0, noise=0))
    turn = np.deg2rad(20)
    move = np.array(
        [[np.cos(turn), -np.sin(turn), 9], [np.sin(turn), np.cos(turn), -4], [0, 0, 1]], np.float64
    )
    true = [Affine(matrix @ np.linalg.inv(move)) for matrix in cut.matrices]
    assert measure_stack_error(cut, true)["mean_percent"] < 1e-6
    # A shift of one section alone, by 3 pixels of a diagonal of 92.2.
    shift = np.eye(3)
    shift[0, 2] = 3
    moved = [true[0], None, *true[2:5], Affine(true[5].matrix @ shift), *true[6:]]
    found = measure_stack_error(cut, moved)
    assert 2.5 < found["worst_percent"] < 3.3
    assert found["shape_worst_percent"] < 1


def test_damages_are_what_they_are_called():
    damages = {1: "missing", 2: "mirrored", 3: "stained", 4: "torn"}
    plain = simulate_sections(make_block(), SectionFaults(noise=0, gain=0))
    cut = simulate_sections(make_block(), SectionFaults(noise=0, gain=0, damages=damages, swaps=((5, 6),)))
    assert not cut.pictures[1].any()
    assert cut.places.tolist() == [0, 1, 2, 3, 4, 6, 5, 7]
    # The cubic spline sees the other side of a pixel's neighborhood.
    np.testing.assert_allclose(cut.pictures[2], plain.pictures[2][:, ::-1], atol=0.02)
    inside = plain.pictures[3] > 0.3
    assert np.corrcoef(cut.pictures[3][inside], plain.pictures[3][inside])[0, 1] < -0.8
    assert np.abs(cut.pictures[4] - plain.pictures[4]).mean() > 0.05
    with pytest.raises(ValueError, match="no such damage: eaten"):
        simulate_sections(make_block(), SectionFaults(damages={0: "eaten"}))
