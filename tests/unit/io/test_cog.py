"""Cloud-optimized GeoTIFFs from blocks."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from raster_files import UTM33, write_raster
from rasterio.enums import ColorInterp

from regflow.core.chunks import split_blocks
from regflow.core.grid import Grid
from regflow.io.cog import CogProfile, CogWriter, copy_profile, describe_gray_bands
from regflow.io.raster_header import BandHeader
from regflow.io.rasters import read_raster_header

GRID = Grid((1100, 1300), np.array([[10.0, 0, 400005], [0, -10, 5799995], [0, 0, 1]]), UTM33)
WALK = np.random.default_rng(0).normal(0, 1, (2, *GRID.shape)).cumsum(axis=1) * 10 + 100


def values_of(dtype: str) -> np.ndarray:
    return WALK.astype(dtype) if np.dtype(dtype).kind == "f" else np.clip(WALK, 1, 120).astype(dtype)


def bands_of(dtype: str) -> tuple[BandHeader, ...]:
    return BandHeader(1, "red", dtype, None, 0.5, -3.0, "gray"), BandHeader(
        2, "nir", dtype, None, 1.0, 0.0, "undefined"
    )


def write(
    path: Path, profile: CogProfile, values, chunk: int = 512, step: int = 1, threads: int = 1
) -> bytes:
    with CogWriter(path, profile, threads=threads) as cog:
        for rows, cols in split_blocks(GRID.shape, chunk)[::step]:
            cog.write(values[:, rows, cols], rows, cols)
    return path.read_bytes()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int8", "int32", "uint64", "float32", "float64"])
def test_every_type_is_kept_with_all_that_belongs_to_it(dtype, tmp_path):
    profile = CogProfile(GRID, dtype, bands_of(dtype), nodata=0, tags={"SENSOR": "MSI"})
    write(tmp_path / "a.tif", profile, values_of(dtype))
    with rasterio.open(tmp_path / "a.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(), values_of(dtype))
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.overviews(1) == dataset.overviews(2) == [2, 4]
        assert dataset.tags()["SENSOR"] == "MSI"
    header = read_raster_header(tmp_path / "a.tif")
    assert header.grid.matches(Grid(GRID.shape, GRID.affine, header.crs))
    assert [(b.name, b.scale, b.offset, b.nodata) for b in header.bands] == [
        ("red", 0.5, -3.0, 0.0),
        ("nir", 1.0, 0.0, 0.0),
    ]


def test_order_and_size_of_blocks_and_threads_change_no_byte(tmp_path):
    profile = CogProfile(GRID, "uint16", bands_of("uint16"), nodata=0)
    ways = [(512, 1, 1), (512, -1, 2), (333, -1, 1), (2000, 1, 2)]
    found = {write(tmp_path / "a.tif", profile, values_of("uint16"), *way) for way in ways}
    assert len(found) == 1


def test_overviews_are_means_of_valid_pixels_and_classes_stay_classes(tmp_path):
    values = np.full((1, *GRID.shape), 100, dtype=np.uint8)
    values[:, ::2, ::2] = 0
    write(
        tmp_path / "mean.tif",
        CogProfile(GRID, "uint8", describe_gray_bands("x", dtype="uint8"), nodata=0),
        values,
    )
    palette = (BandHeader(1, None, "uint8", None, 1.0, 0.0, "palette"),)
    colors = {0: (0, 0, 0, 255), 100: (9, 8, 7, 255)}
    profile = CogProfile(GRID, "uint8", palette, colormap=colors, classes=True)
    write(tmp_path / "classes.tif", profile, values)
    with rasterio.open(tmp_path / "mean.tif", overview_level=0) as dataset:
        assert set(np.unique(dataset.read())) == {100}
    with rasterio.open(tmp_path / "classes.tif", overview_level=0) as dataset:
        assert set(np.unique(dataset.read())) <= {0, 100}
        assert dataset.colorinterp == (ColorInterp.palette,)
        assert dataset.colormap(1)[100] == (9, 8, 7, 255)


def test_overviews_of_classes_without_a_palette_invent_no_class(tmp_path):
    values = np.where(np.indices(GRID.shape).sum(axis=0) % 3 == 0, 40, 200).astype(np.uint8)[None]
    for classes, expected in ((True, {40, 200}), (False, {120, 160, 200, 80})):
        profile = CogProfile(GRID, "uint8", describe_gray_bands("x", dtype="uint8"), classes=classes)
        write(tmp_path / "a.tif", profile, values)
        with rasterio.open(tmp_path / "a.tif", overview_level=0) as dataset:
            assert set(np.unique(dataset.read())) <= expected


def test_colors_and_alpha(tmp_path):
    names = ("red", "green", "blue", "alpha")
    bands = tuple(
        BandHeader(n, None, "uint8", None, 1.0, 0.0, color) for n, color in enumerate(names, start=1)
    )
    values = np.full((4, *GRID.shape), 200, dtype=np.uint8)
    values[3, :600] = 0
    write(tmp_path / "a.tif", CogProfile(GRID, "uint8", bands), values)
    with rasterio.open(tmp_path / "a.tif") as dataset:
        assert [color.name for color in dataset.colorinterp] == list(names)
        assert (dataset.dataset_mask() > 0).sum() == 500 * 1300


def test_a_window_left_out_is_a_defect(tmp_path):
    profile = CogProfile(GRID, "float32", describe_gray_bands("x"), nodata=float("nan"))
    with (
        pytest.raises(ValueError, match="10000 of 1430000 pixels"),
        CogWriter(tmp_path / "a.tif", profile) as cog,
    ):
        cog.write(np.ones((1, 100, 100), np.float32), slice(0, 100), slice(0, 100))
    assert list(tmp_path.iterdir()) == []


def test_what_names_and_tags_may_hold(tmp_path):
    names = ('<B04> & "red"', "Grün")
    bands = tuple(
        BandHeader(n, name, "uint8", None, 1.0, 0.0, "gray") for n, name in enumerate(names, start=1)
    )
    profile = CogProfile(GRID, "uint8", bands, nodata=255, tags={"NOTE": "a < b\nc & d"})
    write(tmp_path / "a.tif", profile, values_of("uint8"))
    with rasterio.open(tmp_path / "a.tif") as dataset:
        assert dataset.descriptions == names
        assert dataset.tags()["NOTE"] == "a < b\nc & d"
        assert dataset.nodata == 255


def test_geographic_coordinates_keep_their_order(tmp_path):
    geographic = rasterio.crs.CRS.from_epsg(4326).to_wkt()
    grid = Grid(GRID.shape, np.array([[1e-4, 0, 15.00005], [0, -1e-4, 52.2], [0, 0, 1]]), geographic)
    write(tmp_path / "a.tif", CogProfile(grid, "uint8", bands_of("uint8")), values_of("uint8"))
    header = read_raster_header(tmp_path / "a.tif")
    np.testing.assert_allclose(header.grid.affine, grid.affine, rtol=0, atol=1e-12)
    assert rasterio.crs.CRS.from_wkt(header.crs).to_epsg() == 4326


def test_pixel_space_gets_no_georeference(tmp_path):
    profile = CogProfile(Grid(GRID.shape, np.eye(3)), "uint8", describe_gray_bands("x", dtype="uint8"))
    write(tmp_path / "a.tif", profile, values_of("uint8")[:1])
    assert read_raster_header(tmp_path / "a.tif").georeference == "none"


def test_a_profile_is_taken_from_a_raster(tmp_path):
    path = write_raster(tmp_path / "a.tif", names=["B04"], nodata=9, tags={"AREA": "Saxony"})
    profile = copy_profile(path, GRID, read_raster_header(path).bands, classes=True)
    assert (profile.dtype, profile.nodata, profile.tags["AREA"], profile.classes) == (
        "uint16",
        9,
        "Saxony",
        True,
    )
    assert profile.bands[0].name == "B04"


def test_an_error_leaves_nothing(tmp_path):
    profile = CogProfile(GRID, "uint8", describe_gray_bands("x", dtype="uint8"))
    with pytest.raises(ZeroDivisionError), CogWriter(tmp_path / "a.tif", profile) as cog:
        cog.write(np.ones((1, 10, 10), np.uint8), slice(0, 10), slice(0, 10))
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


FULL_DISK = """
import resource, signal, sys
import numpy as np
from regflow.core.grid import Grid
from regflow.io.cog import CogProfile, CogWriter, describe_gray_bands

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
values = np.random.default_rng(0).integers(0, 60000, (1, 1500, 1500)).astype(np.uint16)
try:
    profile = CogProfile(Grid((1500, 1500), np.eye(3)), "uint16", describe_gray_bands("x"))
    with CogWriter(sys.argv[1], profile) as cog:
        cog.write(values, slice(0, 1500), slice(0, 1500))
except OSError as error:
    print(error)
    sys.exit(3)
"""


@pytest.mark.parametrize("limit", [1_000_000, 4_500_000, 5_000_000])
def test_a_full_disk_is_told_and_leaves_nothing(limit, tmp_path):
    """Files may grow to a limit only: while blocks are written, and while the COG is made."""
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "a.tif"), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 3, done.stderr
    said = done.stdout.strip()
    assert said.startswith(f"{tmp_path}/a.tif: could not be written")
    assert said.endswith("MB are free on its disk")
    assert "\n" not in said
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_be_written_says_how_much_room_there_is(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=3_217_000_000)
    monkeypatch.setattr("regflow.io.cog.shutil.disk_usage", lambda path: usage)

    def refuse(*block: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("regflow.io.cog.PlainFile.write", refuse)
    profile = CogProfile(GRID, "uint16", bands_of("uint16"))
    with pytest.raises(OSError, match=r"\(No space left on device\); 3,217 MB are free on its disk"):
        write(tmp_path / "a.tif", profile, values_of("uint16"))
    assert not (tmp_path / "a.tif").exists()
