"""What files say of themselves, read rightly: transparency, pages, palettes, colors, longitudes, zeros."""

import math
import shutil
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from raster_files import TEXTURE, smooth_texture, write_raster
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.transform import Affine, from_origin

from regflow.cohort.rasters.samples import FixedScene, RasterSample, Scene
from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.io.cog import CogProfile, CogWriter
from regflow.io.raster_names import find_local_file
from regflow.io.rasters import read_raster_header, read_window
from regflow.io.sample_values import apply_stated_scaling, represent_nodata
from regflow.io.scenes import open_scene
from regflow.io.sensor_models import SensorModel, find_sensor_source
from regflow.stages.rasters.ingest import examine_scene

WHOLE = (slice(0, 300), slice(0, 400))
RGBA = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
WGS84 = CRS.from_epsg(4326)


def with_alpha(path, alpha) -> str:
    bands = np.stack([TEXTURE % 250 + 1] * 3 + [alpha]).astype(np.uint8)
    return write_raster(path, bands, colors=RGBA, photometric="RGB")


def test_a_near_infrared_band_that_is_marked_as_alpha_is_a_band(tmp_path):
    infrared = np.clip(smooth_texture(TEXTURE.shape) / 5 - 150, 0, 255)
    assert 0.05 < (infrared == 0).mean() < 0.4
    path = with_alpha(tmp_path / "a.tif", infrared)
    header = read_raster_header(path)
    assert [band.color for band in header.bands] == ["red", "green", "blue", "undefined"]
    assert "band 4 is marked as alpha but holds measurements" in header.notes[0]
    values, valid = read_window(path, [1, 2, 3, 4], *WHOLE)
    assert valid.all()
    assert np.array_equal(values[3], infrared.astype(np.uint8))
    assert read_window(path, [1], *WHOLE)[1].all()
    assert open_scene(path).data.shape[0] == 4


def test_transparency_with_feathered_seams_stays_transparency(tmp_path):
    alpha = np.full(TEXTURE.shape, 255)
    alpha[:, :100], alpha[:, 100:130] = 0, np.arange(0, 240, 8)
    path = with_alpha(tmp_path / "a.tif", alpha)
    assert read_raster_header(path).bands[3].color == "alpha"
    assert read_raster_header(path).notes == ()
    assert np.array_equal(read_window(path, [1], *WHOLE)[1][0], alpha > 0)


def test_pages_that_are_not_read_are_named(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, np.stack([TEXTURE] * 3), metadata={"axes": "CYX"}, photometric="minisblack")
    (note,) = read_raster_header(path).notes
    assert (
        f"holds 2 more images than the first, which alone is read; they are named GTIFF_DIR:2:{path}" in note
    )
    assert read_raster_header(f"GTIFF_DIR:2:{path}").notes == ()


def test_every_color_interpretation_is_kept(tmp_path):
    kinds = [kind.name for kind in ColorInterp if kind.name not in ("palette", "alpha", "undefined")]
    grid = Grid((4, 5), np.eye(3))
    path = write_raster(tmp_path / "a.tif", TEXTURE[:4, :5])
    band = read_raster_header(path).bands[0]
    profile = CogProfile(grid, "uint16", tuple(replace(band, color=kind) for kind in kinds))
    with CogWriter(tmp_path / "out.tif", profile) as cog:
        cog.write(np.ones((len(kinds), 4, 5), np.uint16), slice(0, 4), slice(0, 5))
    written = [item.color for item in read_raster_header(tmp_path / "out.tif").bands]
    assert {"nir", "swir", "rededge", "pan"} <= set(written)
    assert written == kinds


def test_a_palette_is_matched_by_color_and_not_by_number(tmp_path):
    classes = (TEXTURE % 3).astype(np.uint8)
    colors = {0: (10, 20, 30, 255), 1: (200, 100, 0, 255), 2: (255, 255, 255, 255)}
    turned = {2 - value: color for value, color in colors.items()}
    found = []
    for name, values, table in (("a", classes, colors), ("b", 2 - classes, turned)):
        path = write_raster(tmp_path / f"{name}.tif", values)
        with rasterio.open(path, "r+") as file:
            file.write_colormap(1, table)
        found.append(open_scene(path).data.read(*WHOLE).values[0])
    assert np.array_equal(found[0], found[1])
    assert found[0][classes == 1] == pytest.approx(0.299 * 200 + 0.587 * 100, abs=1e-3)


def test_control_points_are_met_exactly(tmp_path):
    path = write_raster(tmp_path / "a.tif", crs=None, transform=Affine.identity())
    rng = np.random.default_rng(0)
    pixels = np.stack(np.meshgrid(np.linspace(0, 400, 6), np.linspace(0, 300, 5)), -1).reshape(-1, 2)
    ground = [330000, 5822040] + pixels * [10, -10] + rng.normal(0, 60, pixels.shape)
    points = [GroundControlPoint(r, c, x, y) for (c, r), (x, y) in zip(pixels, ground, strict=True)]
    with rasterio.open(path, "r+") as file:
        file.gcps = (points, CRS.from_epsg(32633))
    model = SensorModel(path)
    assert model.apply(ground) + 0.5 == pytest.approx(pixels, abs=1e-3)
    inside = pixels[(pixels % [400, 300] > 0).all(axis=1)]
    assert model.apply(model.inverse().apply(inside)) == pytest.approx(inside, abs=0.02)


@pytest.mark.parametrize(("fixed_west", "moving_west"), [(190.0, -170.0), (-170.0, 190.0), (359.98, -0.02)])
def test_longitudes_from_0_to_360_meet_those_from_minus_180_to_180(fixed_west, moving_west, tmp_path):
    places = [from_origin(west, 10, 1e-4, 1e-4) for west in (fixed_west, moving_west)]
    fixed, moving = (
        write_raster(tmp_path / f"{n}.tif", crs=WGS84, transform=place) for n, place in enumerate(places)
    )
    found = examine_scene(RasterSample("a", Scene(moving), FixedScene("f", Scene(fixed))))
    assert (found.problems, found.warnings) == ([], [])
    grid = read_raster_header(fixed).grid
    image = open_scene(moving, crs=grid.crs, near=grid)
    assert image.grid.center == pytest.approx(grid.center, abs=1e-9)
    assert np.array_equal(image.data.read(*WHOLE).values[0], TEXTURE)


def test_a_map_meets_longitudes_from_0_to_360(tmp_path):
    degrees = from_origin(189.98, 0.02, 1e-4, 1e-4)
    grid = read_raster_header(write_raster(tmp_path / "f.tif", crs=WGS84, transform=degrees)).grid
    header = read_raster_header(
        write_raster(
            tmp_path / "m.tif", crs=CRS.from_epsg(32602), transform=from_origin(609000, 2200, 10, 10)
        )
    )
    image = open_scene(header.path, crs=grid.crs, near=grid)
    assert image.grid.center == pytest.approx(grid.center, abs=0.03)
    source, change = find_sensor_source(header, grid.crs, longitude=grid.center[0])
    back = change[0].inverse().apply(source.center[None])[0]
    assert back[0] == pytest.approx(190, abs=0.05)


@pytest.mark.parametrize(
    ("profile", "scene", "told"),
    [({}, {}, True), ({"nodata": 0}, {}, False), ({}, {"nodata": None}, False), ({}, {"nodata": 0}, False)],
)
def test_undeclared_zeros_in_a_corner_are_told(profile, scene, told, tmp_path):
    values = TEXTURE.copy()
    values[:40, :60] = 0
    found = examine_scene(
        FixedScene("f", Scene(write_raster(tmp_path / "a.tif", values, **profile), **scene))
    )
    assert found.problems == []
    assert any("which looks like nodata" in warning for warning in found.warnings) == told


@pytest.mark.parametrize("dtype", ["complex_int16", "complex64"])
def test_complex_samples_are_refused_at_ingest(dtype, tmp_path):
    path = write_raster(tmp_path / "a.tif", TEXTURE[:50, :50].astype(np.complex64), dtype=dtype)
    plain = Scene(write_raster(tmp_path / "b.tif"))
    for subject in (
        FixedScene("f", Scene(path)),
        RasterSample("s", plain, FixedScene("f", plain), companions={"c": path}),
    ):
        (problem,) = examine_scene(subject).problems
        assert problem == (
            f"{path}: its samples are complex numbers, which cannot be registered or resampled; give their "
            f"magnitude, DERIVED_SUBDATASET:AMPLITUDE:{path}"
        )


@pytest.mark.parametrize(
    ("nodata", "dtype", "expected"),
    [
        (-9999.0, "uint16", None),
        (math.nan, "uint8", None),
        (0.5, "int16", None),
        (255.0, "uint8", 255),
        (float(2**63), "int64", 2**63 - 1),
        (-(2.0**63), "int64", -(2**63)),
        (float(2**64), "uint64", 2**64 - 1),
        (-3.4028234663852886e38, "float32", -3.4028234663852886e38),
        (1e300, "float32", None),
        (math.inf, "float32", math.inf),
        (None, "float32", None),
    ],
)
def test_nodata_as_a_type_holds_it(nodata, dtype, expected):
    assert represent_nodata(nodata, dtype) == expected


@pytest.mark.parametrize("nodata", [-9999.0, math.nan, 70000])
def test_nodata_that_a_scene_cannot_hold_is_refused_at_ingest(nodata, tmp_path):
    path = write_raster(tmp_path / "a.tif")
    (problem,) = examine_scene(FixedScene("f", Scene(path, nodata=nodata))).problems
    assert "its samples are uint16, which cannot hold the nodata value" in problem
    with pytest.raises(InputError, match="give a value of their type, or none"):
        open_scene(path, nodata=nodata)


def test_scale_and_offset_of_a_catalog_hold_where_the_file_declares_none(tmp_path):
    bands = np.stack([TEXTURE, TEXTURE])
    plain = read_raster_header(write_raster(tmp_path / "a.tif", bands))
    own = read_raster_header(
        write_raster(tmp_path / "b.tif", bands, scales=(2.0, 3.0), offsets=(1.0, 1.0), names=["a", "b"])
    )
    stated = ((1e-4, -0.1), (0.5, 0.0))
    assert [(b.scale, b.offset) for b in apply_stated_scaling(plain, stated).bands] == list(stated)
    assert [(b.scale, b.offset) for b in apply_stated_scaling(plain, stated[:1]).bands] == [stated[0]] * 2
    assert apply_stated_scaling(own, stated) == own
    assert apply_stated_scaling(plain, ()) == plain


@pytest.mark.parametrize(
    "name",
    [
        *("zip://S2A & co.zip!IMG DATA/T33 (10m).tif", "/vsizip/S2A & co.zip/IMG DATA/T33 (10m).tif"),
        *("/vsizip/{S2A & co.zip}/IMG DATA/T33 (10m).tif", "tar://a.tar.gz!IMG DATA/T33 (10m).tif"),
        *("GTIFF_DIR:1:a?b.tif", "S2:2020-01-01T10:21:01.tif", "scene#2 100%.tif", "[1] a;b=c.tif"),
    ],
)
def test_relative_names_with_odd_letters_and_members_of_archives(name, tmp_path, monkeypatch):
    member = "IMG DATA/T33 (10m).tif"
    whole = Path(write_raster(tmp_path / "a?b.tif", TEXTURE[:30, :40]))
    for other in ("S2:2020-01-01T10:21:01.tif", "scene#2 100%.tif", "[1] a;b=c.tif"):
        shutil.copy(whole, tmp_path / other)
    with zipfile.ZipFile(tmp_path / "S2A & co.zip", "w") as archive:
        archive.write(whole, member)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(whole, member)
    monkeypatch.chdir(tmp_path)
    assert read_raster_header(name).shape == (30, 40)
    assert find_local_file(name).exists()


@pytest.mark.parametrize("name", ["zip://no.zip!a.tif", "GTIFF_DIR:2:no.tif", "/vsizip/no.zip/a.tif", ""])
def test_a_missing_file_behind_any_name_is_told(name):
    with pytest.raises(InputError, match="this file does not exist"):
        read_raster_header(name)


def test_a_pointer_in_place_of_a_scene_is_told(tmp_path):
    path = tmp_path / "a.tif"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(InputError, match="its content has not been fetched; run 'git lfs pull'"):
        read_raster_header(path)
    path.unlink()
    with pytest.raises(InputError, match="this file does not exist; correct the path"):
        read_raster_header(path)


def test_a_header_that_ends_in_the_midst_is_told(tmp_path):
    path = Path(write_raster(tmp_path / "a.tif"))
    content = bytearray(path.read_bytes())
    start = int.from_bytes(content[4:8], "little")
    entries = int.from_bytes(content[start : start + 2], "little")
    # The list of images goes on where there is none.
    content[start + 2 + 12 * entries : start + 6 + 12 * entries] = (1).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.tif: its header is damaged or cut off \(.*\); fetch it again"):
        read_raster_header(path)
