"""Change maps from files: seams, bytes, regions, margins, refusals."""

import json
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from click.testing import CliRunner
from dated_scenes import TRANSFORM, later, sentinel, write
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize
from scipy.ndimage import gaussian_filter, label, map_coordinates, shift

from regflow.commands.cli import main
from regflow.core.chunks import open_workers
from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.methods.detect import METHODS, noise_samples
from regflow.methods.detect.ir_mad import ir_mad
from regflow.methods.detect.maps import CHANGED, EXPLAINED, NODATA
from regflow.methods.detect.polygons import measure_areas
from regflow.methods.detect.regions import RegionMerger, find_regions, label_regions
from regflow.methods.detect.registration_noise import measure_registration_noise
from regflow.methods.detect.scene_pair import DatedScenePair, SceneTiles, sample_pair
from regflow.pipeline.change import detect_series
from regflow.stages.rasters.detect import ChangeInterval, detect_changes, list_date_pairs
from regflow.stages.rasters.detect_inputs import DatedScene, open_pair
from regflow.stages.rasters.detect_options import complete_detect_options

ROWS, COLS = 300, 500


def planted() -> np.ndarray:
    """Return where the second date changed: across the borders of tiles, by a corner, and a speck."""
    where = np.zeros((ROWS, COLS), bool)
    where[40:80, 60:130] = True
    where[240:272, 240:272] = True
    where[100:120, 300:320] = where[120:140, 320:340] = True
    where[5, 5] = True
    return where


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> list[DatedScene]:
    folder = tmp_path_factory.mktemp("scenes")
    before, after = sentinel(), later(sentinel(), 20)
    after[:, planted()] += np.array([500, 400, -350, 900], np.float32)[:, None]
    after[:, 200:220, 400:450] = -9999
    paths = [write(folder / "before.tif", before), write(folder / "after.tif", after, nodata=-9999)]
    dates = ["2017-02-16", "2018-03-01"]
    return [DatedScene(str(path), path.stem, date) for path, date in zip(paths, dates, strict=True)]


@pytest.fixture(scope="module")
def results(scenes, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "whole"
    detect_series(scenes, folder, complete_detect_options(normalized=True), chunk=1024, threads=1)
    return folder


def polygons(folder: Path):
    meta, _, geometry, values = pyogrio.raw.read(str(folder / "changes.gpkg"))
    return shapely.from_wkb(geometry), dict(zip(meta["fields"], values, strict=True)), meta


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read(1)


@pytest.mark.parametrize(("chunk", "threads"), [(256, 2), (500, 1)])
def test_chunks_and_workers_change_no_byte(scenes, results, tmp_path, chunk, threads):
    detect_series(
        scenes, tmp_path / "cut", complete_detect_options(normalized=True), chunk=chunk, threads=threads
    )
    names = sorted(path.name for path in results.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "cut").iterdir())
    for name in set(names) - {"report.html"}:  # which tells the seconds
        assert (results / name).read_bytes() == (tmp_path / "cut" / name).read_bytes(), name


def test_every_pixel_and_chunks_change_no_byte(scenes, tmp_path):
    made = []
    for chunk in (256, 512):
        folder = tmp_path / str(chunk)
        detect_series(scenes, folder, complete_detect_options(pixels=None), chunk=chunk, threads=2)
        made.append([path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix != ".html"])
    assert made[0] == made[1]


@pytest.mark.slow
def test_dask_processes_change_no_byte(scenes, results, tmp_path):
    settings = complete_detect_options()
    pair = open_pair(*scenes, settings["bands"], settings["margin_px"])
    dates = (scenes[0].date, scenes[1].date)
    with open_workers({"scheduler": "processes", "workers": 2, "chunk": 256}) as workers:
        detect_changes(pair, tmp_path, settings, ChangeInterval(("before", "after"), dates), workers)
    for path in tmp_path.iterdir():
        assert path.name == "detect.json" or path.read_bytes() == (results / path.name).read_bytes()


def test_the_planted_changes_are_the_polygons(results):
    found, columns, meta = polygons(results)
    truth = planted()
    truth[5, 5] = False
    assert len(found) == 3
    assert [shape.is_valid for shape in found] == [True] * 3
    classes = read(results / "change.tif")
    mine = rasterize([(shape, 1) for shape in found], truth.shape, transform=TRANSFORM) == 1
    assert (mine == (classes == CHANGED)).all()
    assert (mine & truth).sum() / (mine | truth).sum() > 0.95
    assert columns["pixels"].sum() == (classes == CHANGED).sum()
    assert columns["area_m2"] == pytest.approx(columns["pixels"] * 100.0)
    assert [shape.area for shape in found] == pytest.approx(columns["area_m2"])
    assert set(columns["date_before"]) == {"2017-02-16"}
    assert set(columns["date_after"]) == {"2018-03-01"}
    assert "32633" in meta["crs"]


def test_columns_are_means_over_the_regions(results):
    found, columns, _ = polygons(results)
    magnitude, probability = (read(results / f"{name}.tif") for name in ("magnitude", "probability"))
    for k, shape in enumerate(found):
        inside = rasterize([(shape, 1)], magnitude.shape, transform=TRANSFORM) == 1
        assert columns["mean_magnitude"][k] == pytest.approx(magnitude[inside].mean(), rel=1e-3)
        assert columns["no_change_probability"][k] == pytest.approx(probability[inside].mean(), abs=1e-6)


def test_maps_lie_on_the_scenes_and_say_what_they_are(results, scenes):
    for name in ("magnitude", "probability", "change", "normalized"):
        with rasterio.open(results / f"{name}.tif") as file, rasterio.open(scenes[0].path) as scene:
            assert (file.crs, file.transform, file.shape) == (scene.crs, scene.transform, scene.shape)
            assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    with rasterio.open(results / "change.tif") as file:
        assert file.nodata == NODATA
        assert file.tags()["DATE_BEFORE"] == "2017-02-16"
        assert file.tags()["CLASS_2"] == "explained by registration error"
    probability = read(results / "probability.tif")
    assert np.nanmin(probability) >= 0
    assert np.nanmax(probability) <= 1
    record = json.loads((results / "detect.json").read_text())
    assert record["figures"]["regions"] == 3
    assert record["normalization"]["gain"] == pytest.approx(1 / np.array([0.8, 1.1, 1.3, 0.9]), rel=0.05)


def test_nodata_and_its_margin_are_left_out(results):
    classes = read(results / "change.tif")
    assert (classes[199:221, 399:451] == NODATA).all()
    assert (classes == NODATA).sum() == 22 * 52
    assert np.isnan(read(results / "magnitude.tif")[199:221, 399:451]).all()


def test_small_groups_are_dropped(results):
    classes = read(results / "change.tif")
    assert classes[5, 5] == 0
    assert read(results / "probability.tif")[5, 5] < 1e-6
    groups, count = label(classes == CHANGED, np.ones((3, 3)))
    assert np.bincount(groups.ravel())[1:].min() >= 4
    assert count == 3


def test_a_mask_hides_its_classes(scenes, tmp_path):
    clouds = np.zeros((1, ROWS, COLS), np.uint8)
    clouds[0, 30:90, 50:140] = 9
    mask = write(tmp_path / "scl.tif", clouds)
    cloudy = DatedScene(scenes[1].path, "after", None, mask=str(mask), mask_values=(8.0, 9.0))
    detect_series([scenes[0], cloudy], tmp_path / "out", complete_detect_options())
    found, columns, _ = polygons(tmp_path / "out")
    assert len(found) == 2
    assert set(columns["date_after"]) == {""}
    assert (read(tmp_path / "out" / "change.tif")[29:91, 49:141] == NODATA).all()


def test_a_known_residual_is_what_edges_are_held_against(scenes, tmp_path):
    moved = later(np.stack([shift(band, (0.1, 0.25), order=3, mode="nearest") for band in sentinel()]), 4)
    path = write(tmp_path / "moved.tif", moved)
    found = {}
    for residual in (0.0, 0.35):
        detect_series(
            [scenes[0], DatedScene(str(path), "moved")],
            tmp_path / str(residual),
            complete_detect_options(residual_px=residual),
        )
        classes = read(tmp_path / str(residual) / "change.tif")
        found[residual] = [(classes == kind).sum() for kind in (CHANGED, EXPLAINED)]
    assert found[0.0][1] == 0
    assert found[0.35][1] > found[0.35][0]
    assert found[0.35][0] < 0.5 * found[0.0][0]


@pytest.mark.parametrize("sigma", [0.0, 0.15, 0.4])
def test_registration_noise_is_measured_from_the_scenes(sigma):
    rng = np.random.default_rng(2)
    scene = np.stack([gaussian_filter(band, 1) for band in sentinel()])
    rows, cols = np.indices(scene.shape[1:])
    by = [gaussian_filter(rng.normal(size=rows.shape), 12) for _ in (0, 1)]
    by = [sigma * part / part.std() for part in by]
    moved = np.stack([map_coordinates(band, (rows + by[0], cols + by[1]), order=5) for band in scene])
    after = later(moved, 3)
    after[:, 40:80, 60:130] += 700
    grid = Grid(scene.shape[1:], np.eye(3))
    pair = DatedScenePair(Image(scene, grid), Image(after, grid), 1)
    with open_workers({}, threads=2) as workers:
        tiles = sample_pair(pair, workers, 4_000_000)
        model = ir_mad(tiles, METHODS["ir-mad"].complete({})).model
        found = measure_registration_noise(pair, model, workers)
    assert found == pytest.approx(sigma, rel=0.4, abs=0.06)


@pytest.mark.parametrize(
    "touching", [((3, 3), (4, 4)), ((3, 4), (4, 3)), ((3, 1), (4, 2)), ((1, 3), (2, 4)), ((2, 3), (1, 4))]
)
def test_regions_that_touch_by_a_corner_across_a_seam_are_one(touching):
    changed = np.zeros((8, 8), bool)
    changed[tuple(np.transpose(touching))] = True
    merger = RegionMerger(8, 1)
    for row, col in ((0, 0), (0, 4), (4, 0), (4, 4)):
        block = changed[row : row + 4, col : col + 4]
        merger.add(find_regions(block, (row, col), 8, [block.astype(np.float32)], [1.0]))
    found = merger.finish()
    assert (found.pixels.tolist(), found.sums.tolist()) == ([2], [[2]])


@given(st.integers(0, 2**32 - 1), st.sampled_from([3, 5, 8]), st.integers(1, 6), st.floats(0.2, 0.7))
@settings(max_examples=60, deadline=None)
def test_regions_are_those_of_the_whole_scene(seed, side, smallest, share):
    rng = np.random.default_rng(seed)
    changed = rng.random((13, 17)) < share
    values = rng.random(changed.shape).astype(np.float32) * 100
    merger = RegionMerger(17, smallest)
    windows = []
    for row in range(0, 13, side):
        for col in range(0, 17, side):
            window = (slice(row, row + side), slice(col, col + side))
            windows.append(window)
            merger.add(find_regions(changed[window], (row, col), 17, [values[window]], [2.0**-16]))
    found = merger.finish()
    numbers = np.zeros(changed.shape, np.int64)
    for window, table in zip(windows, found.tables, strict=True):
        numbers[window] = table[label_regions(changed[window])[0]]
    groups, _ = label(changed, np.ones((3, 3)))
    sizes = np.bincount(groups.ravel())
    kept = [g for g in range(1, len(sizes)) if sizes[g] >= smallest]  # label counts row by row, as we do
    expected = np.zeros_like(numbers)
    for number, group in enumerate(kept, start=1):
        expected[groups == group] = number
    assert (numbers == expected).all()
    assert found.pixels.tolist() == [sizes[g] for g in kept]
    assert found.dropped_pixels == sizes[1:].sum() - found.pixels.sum()
    sums = [values[groups == g].astype(float).sum() for g in kept]
    assert found.sums[0] * 2.0**-16 == pytest.approx(sums, rel=1e-3) if kept else found.sums.size == 0


def test_sampled_pixels_are_the_same_for_all_chunks():
    grid = Grid((700, 900), np.eye(3))
    data = np.random.default_rng(0).random((2, 700, 900)).astype(np.float32)
    pair = DatedScenePair(Image(data, grid), Image(data[::-1], grid))
    made = []
    for chunk in (256, 512, 2048):
        with open_workers({"chunk": chunk}, threads=2) as workers:
            tiles = sample_pair(pair, workers, 20_000)
            whole = SceneTiles(pair, workers).map(lambda tile: tile.before.sum(dtype=np.float64))
        made.append((np.concatenate([t.before.ravel() for t in tiles.tiles]).tobytes(), whole))
        assert sum(t.valid.size for t in tiles.tiles) <= 20_000
    assert made[0] == made[1] == made[2]


def test_areas_have_their_unit():
    square = shapely.box(10.0, 50.0, 10.01, 50.01)
    degrees = Grid((10, 10), np.diag([0.001, -0.001, 1.0]), rasterio.CRS.from_epsg(4326).to_wkt())
    name, area = measure_areas([square], np.array([100]), degrees)
    assert name == "area_m2"
    assert area[0] == pytest.approx(717.0 * 1112.5, rel=0.01)  # by the lengths of both degrees there
    name, area = measure_areas([square], np.array([100]), Grid((10, 10), np.eye(3)))
    assert (name, area[0]) == ("area_px", 100)
    feet = Grid((10, 10), np.diag([100.0, -100.0, 1.0]), rasterio.CRS.from_epsg(2263).to_wkt())
    assert measure_areas([square], np.array([1]), feet)[1][0] == pytest.approx(1e4 * 0.3048006**2, rel=1e-6)


def test_dates_make_pairs():
    dates = ["2020-05-01", "2018-01-01", "2019-01-01"]
    assert list_date_pairs(dates, "reference") == [(0, 1), (0, 2)]
    assert list_date_pairs(dates, "consecutive") == [(1, 2), (2, 0)]
    assert list_date_pairs([None, None, None], "consecutive") == [(0, 1), (1, 2)]
    with pytest.raises(InputError, match="1 of 3 scenes have no date"):
        list_date_pairs([*dates[:2], None], "consecutive")


def test_scenes_without_georeference_are_compared_in_pixels(tmp_path):
    before, after = sentinel()[:, :100, :120], later(sentinel(), 5)[:, :100, :120]
    after[:, 30:40, 30:40] += 900
    flat = {"crs": None, "transform": rasterio.Affine.identity()}
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        paths = [write(tmp_path / f"{n}.tif", x, **flat) for n, x in (("a", before), ("b", after))]
    detect_series([DatedScene(str(p), p.stem) for p in paths], tmp_path / "out", complete_detect_options())
    _, columns, _ = polygons(tmp_path / "out")
    assert "area_px" in columns
    assert 90 <= columns["area_px"].max() <= 120


def test_scenes_that_do_not_fit_are_refused(scenes, tmp_path):
    elsewhere = write(
        tmp_path / "shifted.tif", sentinel(), transform=TRANSFORM @ TRANSFORM.translation(0.5, 0)
    )
    with pytest.raises(InputError, match=r"does not lie on the pixels of .* regflow register"):
        open_pair(scenes[0], DatedScene(str(elsewhere), "x"), None, 0)
    three = write(tmp_path / "three.tif", sentinel()[:3])
    with pytest.raises(InputError, match=r"has 4 bands and .* 3, and no names in common"):
        open_pair(scenes[0], DatedScene(str(three), "x"), None, 0)
    named = [
        write(tmp_path / "named4.tif", sentinel(), names=["B02", "B03", "B04", "B08"]),
        write(tmp_path / "named2.tif", sentinel()[2:0:-1], names=["B04", "B03"]),
    ]
    pair = open_pair(*(DatedScene(str(path), path.stem) for path in named), None, 0)
    tile = pair.read(slice(0, 9), slice(0, 9))
    assert (tile.before == tile.after).all()


def test_dates_may_count_longitudes_from_0_to_360(tmp_path):
    degrees = TRANSFORM.scale(1e-4, -1e-4)
    scenes = [
        DatedScene(
            str(
                write(
                    tmp_path / f"{n}.tif",
                    sentinel(),
                    transform=TRANSFORM.translation(west, 10) @ degrees,
                    crs="EPSG:4326",
                )
            ),
            str(n),
        )
        for n, west in enumerate((190, -170))
    ]
    tile = open_pair(*scenes, None, 0).read(slice(0, 9), slice(0, 9))
    assert np.array_equal(tile.before, tile.after)


def test_bands_are_paired_by_name_in_whatever_order_the_files_have_them(tmp_path, caplog):
    names = ["blue", "green", "red", "nir"]
    files = {
        "before": (sentinel(), names),
        "after": (sentinel()[::-1], [name.upper() for name in names[::-1]]),
        "other": (sentinel()[[3, 0, 1, 2]], ["nir", "blue", "swir", "tir"]),
        "unnamed": (sentinel(), None),
    }
    scenes = {
        name: DatedScene(str(write(tmp_path / f"{name}.tif", bands, names=own)), name)
        for name, (bands, own) in files.items()
    }
    block = slice(0, 9), slice(0, 9)
    tile = open_pair(scenes["before"], scenes["after"], None, 0).read(*block)
    assert np.array_equal(tile.before, tile.after)
    assert caplog.text == ""
    tile = open_pair(scenes["before"], scenes["other"], None, 0).read(*block)
    assert tile.before.shape[0] == 2
    assert np.array_equal(tile.before, tile.after)
    assert "only one scene has green, red, swir, tir" in caplog.text
    tile = open_pair(scenes["before"], scenes["unnamed"], None, 0).read(*block)
    assert np.array_equal(tile.before, tile.after)


def test_a_finer_scene_is_averaged_to_the_coarser(scenes, tmp_path):
    coarse = sentinel().reshape(4, ROWS // 2, 2, COLS // 2, 2).mean(axis=(2, 4))
    path = write(tmp_path / "coarse.tif", coarse, transform=TRANSFORM @ TRANSFORM.scale(2))
    pair = open_pair(scenes[0], DatedScene(str(path), "coarse"), None, 0)
    tile = pair.read(slice(0, ROWS // 2), slice(0, COLS // 2))
    assert tile.before == pytest.approx(tile.after, rel=1e-5)


def test_the_command_writes_each_comparison_or_says_what_is_wrong(scenes, tmp_path):
    run = CliRunner()
    paths = [scenes[0].path, scenes[1].path]
    out = tmp_path / "out"
    done = run.invoke(main, ["detect", *paths, "-o", str(out), "--threshold", "otsu", "--threads", "2"])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("pass: ")
    assert (out / "changes.gpkg").is_file()
    three = ["detect", *paths, paths[0], "-o", str(tmp_path / "series")]
    dates = ["--date", "2017-02-16", "--date", "2018-03-01", "--date", "2019-01-01"]
    done = run.invoke(main, [*three, *dates, "--pairs", "consecutive"])
    assert done.exit_code == 0, done.output
    assert len(list((tmp_path / "series").glob("*/change.tif"))) == 2
    wrong = {
        "two or more": ["detect", paths[0], "-o", str(tmp_path / "x")],
        "--date is given 1 times for 2 scenes": ["detect", *paths, "-o", str(out), "--date", "2017-02-16"],
        "there is no band B99": ["detect", *paths, "-o", str(tmp_path / "x"), "--bands", "B99"],
        "names band 7": [
            *("detect", *paths, "-o", str(tmp_path / "x")),
            *("--method", "index-difference", "--index", "7,3"),
        ],
        "holds other files": ["detect", *paths, "-o", str(Path(paths[0]).parent)],
    }
    for sentence, words in wrong.items():
        told = run.invoke(main, words)
        assert told.exit_code == 2, told.output
        assert sentence in told.output
    assert not (tmp_path / "x").exists()


def test_registration_noise_looks_at_no_more_windows_than_it_says(monkeypatch):
    chosen = []

    def note(work, tiles, workers, describe):
        chosen.extend(tiles)
        return [(np.zeros(1), np.zeros(1))]

    monkeypatch.setattr(noise_samples, "map_blocks", note)
    rows, cols = 13, 22
    shape = rows * noise_samples.TILE, cols * noise_samples.TILE
    scene = Image(np.broadcast_to(np.float32(0), (1, *shape)), Grid(shape, np.eye(3)))
    assert measure_registration_noise(DatedScenePair(scene, scene), None, None) == 0.0
    every = -(-rows * cols // noise_samples.WINDOWS)
    assert len(chosen) == -(-rows * cols // every)
