"""Between coordinate systems, and from the ground to pixels by GCPs and RPCs."""

import numpy as np
import pytest
from raster_files import PLACE, UTM33, linear_rpc, write_raster
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.core.reprojection import Reprojection, build_north_up_grid, build_reprojection
from regflow.core.transform import Composite
from regflow.io.rasters import read_raster_header
from regflow.io.sensor_models import SensorModel, find_sensor_source

GEOGRAPHIC = CRS.from_epsg(4326).to_wkt()
LOCAL = 'LOCAL_CS["a workshop",UNIT["metre",1]]'


def utm(zone: int) -> str:
    return CRS.from_epsg(32600 + zone).to_wkt()


def test_a_known_point():
    """Berlin's Fernsehturm, by the Prussian surveyors' successors: 33U 392014 5820085."""
    moved = Reprojection(GEOGRAPHIC, UTM33).apply([[13.409, 52.5208]])
    np.testing.assert_allclose(moved, [[392046, 5820200]], atol=150)


def test_back_and_forth():
    points = np.random.default_rng(0).uniform([12, 50], [18, 55], (100, 2))
    change = Reprojection(GEOGRAPHIC, UTM33)
    np.testing.assert_allclose(change.inverse().apply(change.apply(points)), points, atol=1e-9)


def test_points_without_an_answer_are_nan():
    moved = Reprojection(GEOGRAPHIC, UTM33).apply([[15.0, 95.0], [15.0, 52.0]])
    assert np.isnan(moved[0]).all()
    assert np.isfinite(moved[1]).all()


def test_no_jump_at_the_antimeridian():
    """Longitudes of a scene from 179 to 181 degrees stay in order; so do those of one at -181 to -179."""
    points = Reprojection(GEOGRAPHIC, utm(60)).apply([[179.5, 60.0], [180.5, 60.0]])
    for middle in (180.0, -180.0):
        grid = Grid((200, 200), np.array([[0.01, 0, middle - 1], [0, -0.01, 61], [0, 0, 1]]))
        back = build_reprojection(utm(60), GEOGRAPHIC, grid)
        np.testing.assert_allclose(back.apply(points)[:, 0], middle + np.array([-0.5, 0.5]), atol=1e-9)


def test_no_transformation_is_one_clear_sentence(tmp_path):
    header = read_raster_header(write_raster(tmp_path / "a.tif", crs=LOCAL))
    with pytest.raises(
        InputError, match="no transformation is known between the coordinate systems"
    ) as caught:
        find_sensor_source(header, UTM33)
    assert "a workshop" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_coordinates_without_a_crs_are_refused(tmp_path):
    header = read_raster_header(write_raster(tmp_path / "a.tif", crs=None))
    with pytest.raises(InputError, match="names no CRS"):
        find_sensor_source(header, UTM33)
    assert find_sensor_source(header, None) == (header.grid, ())


def test_the_scenes_own_crs_needs_no_change(tmp_path):
    from pyproj import CRS as PROJ_CRS

    header = read_raster_header(write_raster(tmp_path / "a.tif"))
    assert find_sensor_source(header, PROJ_CRS.from_epsg(32633).to_wkt())[1] == ()


def test_gcps_lead_back_to_their_pixels(tmp_path):
    places = [(r, c) for r in (0, 150, 300) for c in (0, 200, 400)]
    points = [GroundControlPoint(r, c, *(PLACE @ (c + 0.02 * r, r - 0.01 * c))) for r, c in places]
    path = write_raster(tmp_path / "a.tif", transform=None, crs=CRS.from_wkt(UTM33), gcps=points)
    model = SensorModel(path)
    ground = np.array([[point.x, point.y] for point in points])
    # GCPs count from the first pixel's corner.
    np.testing.assert_allclose(model.apply(ground), np.array(places)[:, ::-1] - 0.5, atol=1e-6)
    np.testing.assert_allclose(model.inverse().apply(model.apply(ground)), ground, atol=1e-4)


def test_rpcs_give_the_cameras_pixels(tmp_path):
    path = write_raster(tmp_path / "a.tif", transform=None, crs=None, rpcs=linear_rpc(tilt=0.05))
    points = np.array([[15.0, 52.0], [15.01, 52.0], [15.0, 51.99]])
    expected = np.array([[200.0, 150.0], [300.0, 150.0], [200.0, 250.0]])
    np.testing.assert_allclose(SensorModel(path).apply(points), expected, atol=1e-6)
    aside = expected + np.array([10.0, 0.0])
    higher = SensorModel(path, height=300.0)
    np.testing.assert_allclose(higher.apply(points), aside, atol=1e-6)
    np.testing.assert_allclose(higher.inverse().apply(aside), points, atol=1e-8)


def test_a_north_up_grid_covers_the_scene_with_pixels_of_its_size(tmp_path):
    header = read_raster_header(write_raster(tmp_path / "a.tif"))
    source, change = find_sensor_source(header, GEOGRAPHIC)
    grid = build_north_up_grid("a", source, Composite(change), GEOGRAPHIC)
    corners = np.array([[-0.5, -0.5], [399.5, -0.5], [-0.5, 299.5], [399.5, 299.5]])
    index = grid.to_index(Reprojection(UTM33, GEOGRAPHIC).apply(source.to_world(corners)))
    assert (index >= -0.5 - 1e-6).all()
    assert (index <= np.array(grid.size) - 0.5 + 1e-6).all()
    assert grid.affine[0, 1] == grid.affine[1, 0] == 0
    meters = np.pi / 180 * 6371e3 * grid.spacing * [np.cos(np.deg2rad(52.5)), 1]
    assert np.prod(meters) == pytest.approx(100, rel=0.02)


def test_a_scene_elsewhere_is_refused(tmp_path):
    header = read_raster_header(write_raster(tmp_path / "a.tif"))
    source, change = find_sensor_source(header, GEOGRAPHIC)
    far = Grid((100, 100), np.array([[0.001, 0, -70], [0, -0.001, 10], [0, 0, 1]]), GEOGRAPHIC)
    with pytest.raises(InputError, match="no part of this scene lies near the reference scene"):
        build_north_up_grid("a.tif", source, Composite(change), GEOGRAPHIC, far)
