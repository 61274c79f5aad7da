import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from regflow.core.grid import Grid
from regflow.datasets.scenes import draw_waves, move_scene, rotate_about_center, write_scene, write_truth
from regflow.io.rasters import read_raster_header, read_window

GRID = Grid((300, 400), np.array([[10.0, 0, 5e5], [0, -10.0, 5.8e6], [0, 0, 1]]))


@pytest.fixture(scope="module")
def points():
    return GRID.to_world(np.random.default_rng(0).uniform(0, [399, 299], (500, 2)))


def test_the_inverse_leads_back(points):
    waves = draw_waves(GRID, 5.0, 250.0, seed=1)
    assert np.abs(waves.inverse().apply(waves.apply(points)) - points).max() < 1e-4
    assert 20 < np.linalg.norm(waves.apply(points) - points, axis=1).max() <= 50.1


def test_the_moving_scene_shows_at_a_point_what_the_fixed_one_shows_where_it_came_from(points):
    texture = gaussian_filter(np.random.default_rng(3).normal(size=GRID.shape), 2) * 1000
    waves = draw_waves(GRID, 4.0, 300.0, seed=2)
    moved = move_scene(texture, GRID, waves, GRID, gain=2.0, offset=7.0)
    inner = points[((GRID.to_index(points) > 20) & (GRID.to_index(points) < [379, 279])).all(axis=1)]
    there = GRID.to_index(waves.apply(inner))[:, ::-1].T
    here = GRID.to_index(inner)[:, ::-1].T
    seen = map_coordinates(np.nan_to_num(moved).astype(float), there, order=5)
    assert np.abs(seen - (2 * map_coordinates(texture, here, order=5) + 7)).max() < 1e-3 * np.ptp(texture)


def test_beyond_the_fixed_scene_there_is_nothing():
    shift = rotate_about_center(GRID, 0.0, 1.0, (20.0, 0.0))
    moved = move_scene(np.ones(GRID.shape), GRID, shift, GRID)
    assert np.isnan(moved[:, :20]).all()
    assert np.isfinite(moved[:, 20:]).all()


def test_a_steep_field_is_refused():
    with pytest.raises(ValueError, match="too steep"):
        draw_waves(GRID, 40.0, 60.0, seed=0)


def test_a_written_truth_is_the_field_between_its_samples(tmp_path, points):
    waves = draw_waves(GRID, 5.0, 250.0, seed=1)
    write_truth(tmp_path / "truth.tif", waves, GRID)
    header = read_raster_header(tmp_path / "truth.tif")
    (rows, cols), index = header.shape, header.grid.to_index(points)[:, ::-1].T
    vectors, _ = read_window(tmp_path / "truth.tif", [1, 2], slice(0, rows), slice(0, cols))
    read = np.stack([map_coordinates(band.astype(float), index, order=1) for band in vectors], axis=1)
    assert np.abs(read - (waves.apply(points) - points)).max() < 0.05


def test_a_written_scene_marks_what_is_missing(tmp_path):
    import rasterio

    samples = np.array([[1.4, np.nan], [-3.0, 7e4]])
    grid = Grid((2, 2), np.eye(3))
    write_scene(tmp_path / "a.tif", {"B04": samples}, grid, nodata=0)
    with rasterio.open(tmp_path / "a.tif") as file:
        assert file.read(1).tolist() == [[1, 0], [1, 65535]]
        assert (file.nodata, file.descriptions) == (0, ("B04",))
