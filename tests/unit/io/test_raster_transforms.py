"""Transforms of scenes on disk."""

import json

import numpy as np
import pytest
import rasterio
from raster_files import UTM33, smooth_texture, write_raster
from rasterio.crs import CRS
from scipy.ndimage import map_coordinates

from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.core.reprojection import Reprojection
from regflow.core.transform import Affine, DisplacementField, Homography, compose_transforms
from regflow.io.raster_transforms import (
    SAMPLING_TOLERANCE,
    _covers,
    read_displacement,
    read_raster_transform,
    sample_displacement,
    write_displacement,
    write_raster_transform,
)
from regflow.io.sensor_models import SensorModel

GRID = Grid((400, 500), np.array([[10.0, 0, 400005], [0, -10, 5799995], [0, 0, 1]]), UTM33)
POINTS = GRID.to_world(np.random.default_rng(0).uniform([0, 0], [499, 399], (3000, 2)))

FIELD = DisplacementField(
    np.stack([smooth_texture((60, 70), k, 6) - 1000 for k in (0, 1)]) / 20,
    Grid((60, 70), GRID.affine @ np.array([[8.0, 0, -16], [0, 8, -16], [0, 0, 1]]), UTM33),
)
AFFINE = Affine.from_parts([[1.01, 0.02], [-0.03, 0.99]], [120.0, -45.0], GRID.center)
HOMOGRAPHY = Homography([[1.01, 0.02, 30], [-0.02, 0.99, 20], [1e-6, 2e-6, 1]], tuple(GRID.center))

TRANSFORMS = {
    "affine": AFFINE,
    "homography": HOMOGRAPHY,
    "field": FIELD,
    "field and affine": compose_transforms(FIELD, AFFINE),
    "affine and field": compose_transforms(Affine.from_parts(np.eye(2), [3.0, 4.0]), FIELD),
    "two fields": compose_transforms(FIELD, FIELD),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_what_is_written_is_read(name, tmp_path):
    transform = TRANSFORMS[name]
    write_raster_transform(tmp_path, transform, GRID)
    read = read_raster_transform(tmp_path)
    np.testing.assert_array_equal(read.apply(POINTS), transform.apply(POINTS))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_displacement_is_the_whole_transform(name, tmp_path):
    """As GDAL and scipy alone read it: linear between nodes, nothing of regflow needed."""
    transform = TRANSFORMS[name]
    write_raster_transform(tmp_path, transform, GRID)
    with rasterio.open(tmp_path / "displacement.tif") as dataset:
        assert dataset.descriptions == ("dx", "dy")
        assert dataset.crs == CRS.from_epsg(32633)
        cols, rows = ~dataset.transform @ tuple(POINTS.T)
        where = np.stack([rows - 0.5, cols - 0.5])
        assert (where >= 0).all()
        assert (where <= np.array(dataset.shape)[:, None] - 1).all()
        found = np.stack([map_coordinates(band, where, order=1) for band in dataset.read()], axis=1)
    error = np.abs(found - (transform.apply(POINTS) - POINTS)).max() / 10
    assert error < 2 * SAMPLING_TOLERANCE


def test_the_fields_own_nodes_are_kept():
    assert sample_displacement(compose_transforms(FIELD, AFFINE), GRID).grid == FIELD.grid


def test_a_displacement_covers_the_footprint_to_its_corners():
    nodes = sample_displacement(AFFINE, GRID).grid
    corners = nodes.to_index(GRID.to_world([[-0.5, -0.5], [499.5, 399.5]]))
    assert (corners > -1e-6).all()
    assert (corners < np.array(nodes.size) - 1 + 1e-6).all()


def test_equal_transforms_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_raster_transform(tmp_path / name, compose_transforms(FIELD, AFFINE), GRID)
    for file in ("transform.json", "field.tif", "displacement.tif"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_change_of_crs_and_a_sensor_model_are_kept(tmp_path):
    from raster_files import linear_rpc

    geographic = CRS.from_epsg(4326).to_wkt()
    change = Reprojection(UTM33, geographic, longitude=15.0)
    scene = write_raster(tmp_path / "a.tif", transform=None, crs=None, rpcs=linear_rpc())
    write_raster_transform(tmp_path, compose_transforms(AFFINE, change, SensorModel(scene, height=5.0)), GRID)
    parts = read_raster_transform(tmp_path).parts
    assert parts[1] == change
    assert parts[2] == SensorModel(scene, height=5.0)


def test_a_displacement_is_read_back(tmp_path):
    write_displacement(tmp_path / "d.tif", FIELD)
    read = read_displacement(tmp_path / "d.tif")
    np.testing.assert_array_equal(read.vectors, FIELD.vectors)
    assert read.grid.matches(Grid(FIELD.grid.shape, FIELD.grid.affine, read.grid.crs))
    with pytest.raises(InputError, match="two bands, dx and dy, not 1"):
        read_displacement(write_raster(tmp_path / "a.tif"))


def test_what_is_not_there_or_not_ours(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_raster_transform(tmp_path)
    for content in ({"parts": [{"type": "magic"}]}, {}, {"parts": [{"type": "affine"}]}):
        (tmp_path / "transform.json").write_text(json.dumps(content))
        with pytest.raises(InputError, match="not a transform that regflow wrote"):
            read_raster_transform(tmp_path)


@pytest.mark.parametrize("name", ["../field.tif", "/etc/hosts", "sub/../field.tif", "..", ""])
def test_a_field_lies_beside_its_transform(tmp_path, name):
    folder = tmp_path / "made"
    folder.mkdir()
    write_raster_transform(folder, FIELD, GRID)
    (tmp_path / "field.tif").write_bytes((folder / "field.tif").read_bytes())
    content = json.loads((folder / "transform.json").read_text())
    content["parts"][0]["file"] = name
    (folder / "transform.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"is not a file beside it|does not exist"):
        read_raster_transform(folder)


def test_a_field_that_has_changed_is_refused(tmp_path):
    write_raster_transform(tmp_path, FIELD, GRID)
    write_displacement(tmp_path / "field.tif", DisplacementField(FIELD.vectors + 1, FIELD.grid))
    with pytest.raises(InputError, match=r"field\.tif: has changed since it was written"):
        read_raster_transform(tmp_path)
    (tmp_path / "field.tif").unlink()
    with pytest.raises(InputError, match="this field of a transform does not exist"):
        read_raster_transform(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        '{"parts": [{"type": "affine", "matrix": [[1, 0, NaN], [0, 1, 0], [0, 0, 1]]}]}',
        '{"parts": [{"type": "affine", "matrix": [[1, 0], [0, 1]]}]}',
        '{"parts": [{"type": "affine", "matrix": [[1, 0, "a"], [0, 1, 0], [0, 0, 1]]}]}',
        '{"parts": []}',
        '{"parts": 3}',
        '{"parts": [3]}',
        "[" * 100_000,
        "{",
        "\0",
    ],
)
def test_whatever_else_the_file_holds_is_one_sentence(tmp_path, text):
    (tmp_path / "transform.json").write_text(text)
    with pytest.raises(InputError, match=r"transform\.json: .*not "):
        read_raster_transform(tmp_path)


def test_an_unknown_part_is_a_defect(tmp_path):
    class Strange:
        def apply(self, points):
            return points

    with pytest.raises(TypeError, match="Strange has no form on disk"):
        write_raster_transform(tmp_path, Strange(), GRID)


def test_a_homography_undoes_itself_and_has_a_horizon():
    np.testing.assert_allclose(HOMOGRAPHY.inverse().apply(HOMOGRAPHY.apply(POINTS)), POINTS, atol=1e-6)
    assert np.isnan(HOMOGRAPHY.apply([GRID.center - 1e6])).all()


def test_a_displacement_of_nothing_is_one_whatever_the_file_calls_nodata(tmp_path):
    vectors = np.zeros((2, 20, 30), np.float32)
    vectors[:, 5:] = 4.0
    path = write_raster(tmp_path / "d.tif", vectors, nodata=0)
    assert np.array_equal(read_displacement(path).vectors, vectors)


@pytest.mark.parametrize(("shape", "covered"), [((41, 51), True), ((41, 20), False), ((20, 51), False)])
def test_nodes_cover_a_grid_along_both_axes_or_not_at_all(shape, covered):
    grid = Grid((40, 50), np.eye(3))
    assert _covers(Grid(shape, np.eye(3)), grid) is covered
