"""Pages on scenes: of a sample, of one that failed, of a change map, of a cohort."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from dated_scenes import TRANSFORM, later, sentinel, write
from PIL import Image as Pillow
from report_pages import check

from regflow.cohort.rasters.samples import FixedScene, RasterSample, Scene
from regflow.config.loading import load_config
from regflow.core.addresses import keep_addresses
from regflow.core.files import read_json
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine
from regflow.core.warp import PixelMap
from regflow.metrics.raster_catalog import FIGURES, RASTERS
from regflow.reporting.rasters import charts as raster_charts
from regflow.reporting.rasters import pictures as raster_pictures
from regflow.reporting.rasters.views import (
    LAYERS,
    WINDOW_PX,
    choose_windows,
    move_window,
    place_box,
    read_overview,
)
from regflow.stages.pages import report_cohort
from regflow.stages.rasters.apply import apply
from regflow.stages.rasters.assess import assess
from regflow.stages.rasters.detect import detect
from regflow.stages.rasters.ingest import ingest
from regflow.stages.rasters.initialize import initialize
from regflow.stages.rasters.preprocess import preprocess
from regflow.stages.rasters.refine import refine
from regflow.stages.rasters.report import report
from regflow.stages.shell import run_stage_work

SHIFT = (3.0, -2.0)
SECRET = "5ec4e7"


@pytest.fixture(scope="module")
def settings() -> dict:
    return load_config({"kind": "rasters", "samples": "samples.tsv"})


@pytest.fixture(scope="module")
def cohort(tmp_path_factory, settings) -> SimpleNamespace:
    """One sample from ingest to its page: a shifted later date with a change; and one that failed.

    Both scenes have signed addresses, which here lead to files of this machine.
    """
    root = tmp_path_factory.mktemp("scenes")
    after = later(sentinel(), 10)
    after[:, 100:130, 200:260] += 1500
    moved = TRANSFORM @ TRANSFORM.translation(*SHIFT)
    scenes = [write(root / "june.tif", sentinel()), write(root / "july.tif", after, transform=moved)]
    june, july = (f"s3://bucket/{name}.tif?X-Amz-Signature={SECRET}" for name in ("june", "july"))
    fixed = FixedScene("june", Scene(june, ("4",), date="2017-06-16"))
    sample = RasterSample("july", Scene(july, ("4",), date="2018-07-01", sensor="MSI"), fixed, {"b": july})
    keep_addresses({fixed.image: str(scenes[0]), sample.moving: str(scenes[1])})
    names = ("fixed", "moving", "initial", "refined", "applied", "assessed", "detected")
    places = {name: root / name for name in names}
    manifests = (root / "june.json", root / "july.json")
    for manifest, subject in zip(manifests, (fixed, sample), strict=True):
        ingest(manifest, subject=subject)
    run(places, manifests, settings)
    arguments = {
        "manifests": manifests,
        "prepared": (places["fixed"], places["moving"]),
        **{name: places[name] for name in names[2:6]},
    }
    report(
        root / "report/july.html",
        sample="july",
        **arguments,
        detected=places["detected"],
        settings={"changes": 2},
        picture=root / "report/images/july.png",
    )
    return SimpleNamespace(root=root, places=places, arguments=arguments)


def run(places: dict[str, Path], manifests: tuple[Path, Path], settings: dict) -> None:
    """Run every stage on the pair."""
    prepared = (str(places["fixed"]), str(places["moving"]))
    shared = {"sample": "july", "threads": 2}
    preprocess(places["fixed"], sample="june", manifest=manifests[0], settings=settings["preprocess"])
    preprocess(
        places["moving"],
        sample="july",
        manifest=manifests[1],
        settings=settings["preprocess"],
        reference=places["fixed"],
    )
    first = {**settings["initialize"], "methods": ["phase-correlation"]}
    initialize(str(places["initial"]), prepared=prepared, settings=first, **shared)
    refine(
        str(places["refined"]),
        prepared=prepared,
        initial=str(places["initial"]),
        settings=settings["refine"],
        **shared,
    )
    apply(
        str(places["applied"]),
        manifests=tuple(map(str, manifests)),
        prepared=prepared,
        refined=str(places["refined"]),
        settings=settings["apply"],
        **shared,
    )
    assess(
        str(places["assessed"]),
        manifests=manifests,
        prepared=prepared,
        initial=str(places["initial"]),
        refined=str(places["refined"]),
        applied=str(places["applied"]),
        settings=settings["assess"],
        **shared,
    )
    detect(
        places["detected"],
        manifest=manifests[1],
        fixed=manifests[0],
        warped=places["applied"],
        assessed=places["assessed"],
        settings=settings["detect"],
        **shared,
    )


def test_the_detect_stage_compares_the_warped_scene_with_the_reference(cohort):
    record = read_json(cohort.places["detected"] / "detect.json")
    assert record["before"] == {"name": "june", "date": "2017-06-16"}
    assert record["after"] == {"name": "july", "date": "2018-07-01"}
    quality = read_json(cohort.places["assessed"] / "quality.json")
    shown = 2.45 * record["figures"]["registration_noise_px"]
    assert record["residual_px"] == pytest.approx(max(quality["figures"]["ce95_px_refine"], shown))
    assert 0.5 < record["figures"]["changed_percent"] < 3
    stage = read_json(cohort.places["detected"] / "stage.json")
    assert (stage["stage"], stage["state"]) == ("detect", "done")


def test_page_of_a_sample_shows_windows_arrows_residuals_and_change(cohort):
    page = check(cohort.root / "report/july.html")
    shown = [image["alt"] for image in page.images]
    for title in ("worst window", "median window", "best window", "change 1"):
        for layer in LAYERS.values():
            assert sum(alt.startswith(f"{layer}, {title}, column") for alt in shown) == 1, (layer, title)
    for part in ("Tie points", "Check points", "Reference red", "What changed", "Magnitude of change"):
        assert any(alt.startswith(part) for alt in shown), part
    for words in ("RMSE", "CE90", "held out from the fit", "From june (2017-06-16) to july (2018-07-01)"):
        assert words in page.text, words
    for words in ("The largest changes", "ir-mad", "phase-correlation", "tie-points", "Nielsen", "FGDC"):
        assert words in page.text, words
    assert "Jacobian determinant" not in page.text
    assert "index.html" in page.links
    with Pillow.open(cohort.root / "report/images/july.png") as picture:
        assert picture.height == 280


def test_scenes_without_common_bands_skip_detection_with_a_warning(cohort, settings, tmp_path):
    """As the 20 m band of the demo: nothing to compare is no error, and the page says so."""
    applied, detected = tmp_path / "applied", tmp_path / "detected"
    shutil.copytree(cohort.places["applied"], applied)
    with rasterio.open(cohort.places["applied"] / "warped.tif") as product:
        write(applied / "warped.tif", product.read([4]), transform=product.transform, names=["B05"])
    outcome = detect(
        detected,
        sample="july",
        manifest=cohort.arguments["manifests"][1],
        fixed=cohort.arguments["manifests"][0],
        warped=applied,
        assessed=cohort.places["assessed"],
        settings=settings["detect"],
    )
    assert (outcome.state, outcome.verdict.status) == ("skipped", "warn")
    assert [path.name for path in detected.iterdir()] == ["stage.json"]
    report(tmp_path / "july.html", sample="july", **cohort.arguments, detected=detected, settings={})
    page = check(tmp_path / "july.html")
    assert "no change map: " in page.text
    assert "and no names in common; name the bands to compare" in page.text
    assert "an earlier stage could not be done" not in page.text
    named = {**settings["detect"], "bands": ["B05"]}
    again = detect(
        detected,
        sample="july",
        manifest=cohort.arguments["manifests"][1],
        fixed=cohort.arguments["manifests"][0],
        warped=applied,
        settings=named,
    )
    assert again.state == "error"
    assert "there is no band B05" in again.verdict.reason


def test_page_of_a_failed_sample_tells_its_reason_and_nothing_else(cohort):
    def refuse(folder: Path):
        from regflow.core.errors import RegistrationError

        raise RegistrationError("a<b>: nothing to hold on to")

    broken = cohort.root / "broken"
    failed = broken / "initial"
    run_stage_work("initialize", "july", failed, [], refuse)
    folders = {"initial": failed}
    for stage, name in (("refine", "refined"), ("apply", "applied"), ("assess", "assessed")):
        folders[name] = broken / name
        run_stage_work(stage, "july", folders[name], [failed], refuse)
    arguments = {**cohort.arguments, **folders}
    report(broken / "july.html", sample="july", **arguments, settings={}, picture=broken / "july.png")
    page = check(broken / "july.html")
    assert "a<b>: nothing to hold on to" in page.text
    assert "Could not be done" in page.text
    assert page.images == []
    assert (broken / "july.png").is_file()


def test_cohort_page_shows_the_figures_of_scenes(cohort):
    from regflow.stages.gather import write_table

    quality = read_json(cohort.places["assessed"] / "quality.json")["figures"]
    rows = [
        {"sample": name, "state": "done", "status": "pass", "reason": "fine", "outliers": "", **quality}
        for name in ("july", "august")
    ]
    rows[1] |= {"reason": "s3://host/a.tif?sig=SECRET was slow", "group": "s3://me:SECRET@host/b"}
    tables = {"samples": cohort.root / "samples.tsv"}
    write_table(tables["samples"], rows, ("sample",))
    pages = {name: cohort.root / f"report/{name}.html" for name in ("july", "august")}
    images = dict.fromkeys(pages, cohort.root / "report/images/july.png")
    report_cohort(
        cohort.root / "report/index.html",
        kind="rasters",
        tables=tables,
        assessed=[cohort.places["assessed"]],
        pages=pages,
        images=images,
    )
    page = check(cohort.root / "report/index.html")
    for words in ("RMSE", "CE90", "Initial", "Of 2 samples, 2 passed."):
        assert words in page.text, words
    assert "Dice" not in page.text
    assert "s3://host/a.tif was slow" in page.text
    for written in ("report/index.html", "samples.tsv", "samples.parquet"):
        assert b"SECRET" not in (cohort.root / written).read_bytes(), written
        assert b"s3://host/" in (cohort.root / written).read_bytes(), written


@pytest.mark.parametrize(
    "product",
    [
        *("june.json", "july.json", "fixed/view.json", "fixed/overview.tif", "moving/view.json"),
        *(
            "initial/stage.json",
            "initial/transform.json",
            "refined/transform.json",
            "refined/displacement.tif",
        ),
        *("refined/tie_points.gpkg", "applied/warped.tif", "applied/companions/b.tif", "applied/item.json"),
        *("assessed/quality.json", "assessed/check_points.gpkg", "detected/detect.json"),
        *("detected/change.tif", "detected/changes.gpkg", "report/july.html", "report/images/july.png"),
    ],
)
def test_no_product_holds_the_secret_of_an_address(cohort, product):
    content = (cohort.root / product).read_bytes()
    assert content
    assert SECRET.encode() not in content


def test_manifests_pages_and_items_name_files_without_the_secrets_of_their_addresses(cohort):
    for product, name in {
        "july.json": "s3://bucket/july.tif",
        "report/july.html": "s3://bucket/july.tif",
        "applied/item.json": '"regflow:source": "july.tif"',
    }.items():
        assert name in (cohort.root / product).read_text(encoding="utf-8")
    with rasterio.open(cohort.places["applied"] / "warped.tif") as dataset:
        assert dataset.tags()["REGFLOW_REFERENCE"] == "june.tif"


def test_every_figure_of_the_assessment_that_is_shown_is_there(cohort):
    figures = read_json(cohort.places["assessed"] / "quality.json")["figures"]
    optional = {name for name in FIGURES if name.startswith(("truth", "left_out"))}
    for name in set(FIGURES) - optional:
        assert RASTERS.name_final_column(name) in figures, name


def moved_by(x: float, y: float) -> Affine:
    return Affine(np.array([[1, 0, x], [0, 1, y], [0, 0, 1]]))


def test_a_moved_window_shows_what_the_transform_says():
    data = sentinel()[:1]
    grid = Grid(data.shape[1:], np.array([[10.0, 0, 5e5], [0, -10, 5e6], [0, 0, 1]]))
    shifted = moved_by(70.0, -40.0)  # 7 columns right, 4 rows down
    mapped = PixelMap.from_grids(grid, grid, shifted)
    found = move_window(Image(data, grid), mapped, slice(20, 60), slice(30, 90))
    assert found == pytest.approx(data[0, 24:64, 37:97], abs=1e-2)
    outside = move_window(Image(data, grid), mapped, slice(280, 300), slice(480, 500))
    assert np.isnan(outside[:, 13:]).all()
    assert np.isfinite(outside[:15, :12]).all()
    away = PixelMap.from_grids(grid, grid, moved_by(1e6, 0.0))
    assert np.isnan(move_window(Image(data, grid), away, slice(0, 9), slice(0, 9))).all()


def test_windows_are_the_worst_median_and_best_neighborhoods():
    data = sentinel()[:1]
    image = Image(data, Grid(data.shape[1:], np.eye(3)))
    rng = np.random.default_rng(0)
    places = np.concatenate([rng.normal((x, 150), 4, (8, 2)) for x in (60, 250, 440)])
    residuals = np.repeat([0.1, 0.5, 2.0], 8)
    residuals[3] = 50  # one bad match is no bad place
    identity = dict.fromkeys(("start", "initialize", "refine"), Affine.identity(2))
    found = choose_windows(image, image, identity, places, residuals)
    assert [window.title for window in found] == ["Worst window", "Median window", "Best window"]
    assert [window.residual_px for window in found] == pytest.approx([2.0, 0.5, 0.1])
    middles = [(window.cols.start + window.cols.stop) / 2 for window in found]
    assert middles == pytest.approx([500 - WINDOW_PX / 2, 250, WINDOW_PX / 2], abs=12)


def test_boxes_stay_inside_the_scene():
    assert place_box((1000, 800), np.array([5.0, 990.0])) == (slice(776, 1000), slice(0, 224))
    assert place_box((100, 80), np.array([5.0, 90.0])) == (slice(0, 100), slice(0, 80))


def test_overviews_keep_the_place_of_world_points():
    data = np.zeros((1, 2000, 1500), np.float32)
    grid = Grid((2000, 1500), np.array([[10.0, 0, 5e5], [0, -10, 5e6], [0, 0, 1]]))
    overview = read_overview(Image(data, grid), 500)
    assert max(overview.image.grid.shape) == 500
    corner = grid.to_world([[1499.5, 1999.5]])
    assert overview.place(corner)[0] == pytest.approx([375, 500])
    assert overview.scale == pytest.approx((4, 4))


@pytest.mark.parametrize(("value", "expected"), [(0.7, 0.5), (1, 1), (4.9, 2), (5, 5), (9999, 5000)])
def test_scale_bars_are_round(value, expected):
    assert raster_pictures._rounded(value) == expected


def test_scale_bar_and_north_come_from_the_grid():
    utm = pytest.importorskip("pyproj").CRS.from_epsg(32633).to_wkt()
    turned = np.array([[0.0, 10, 5e5], [10, 0, 5e6], [0, 0, 1]])  # north to the right
    assert raster_pictures._north(Grid((10, 10), turned, utm)) == 90
    assert raster_pictures._north(Grid((10, 10), np.diag([10.0, -10, 1]), utm)) == 0
    assert raster_pictures._north(Grid((10, 10), np.eye(3))) is None
    bar = raster_pictures._scale_bar(Grid((500, 1000), np.diag([10.0, -10, 1]), utm))
    assert bar == {"bar": 200.0, "bar_label": "2 km"}
    assert raster_pictures._scale_bar(Grid((500, 1000), np.eye(3)))["bar_label"] == "200 px"


def test_charts_say_in_words_what_they_show():
    rng = np.random.default_rng(0)
    lengths = {"before": rng.rayleigh(2, 300), "after": rng.rayleigh(0.1, 300)}
    chart = raster_charts.draw_histogram(lengths, {"before": "Before", "after": "After"})
    assert f"Before: median {np.median(lengths['before']):.2f} px" in chart
    assert chart.count('class="hist') == 2
    dots = raster_charts.draw_scatter(rng.normal(0, 0.1, (50, 2)), 0.2)
    assert dots.count('class="dot"') == 50
    assert "within 0.20 px" in dots


def test_composites_are_gray_where_scenes_agree_but_for_their_radiometry():
    scene = sentinel()[0]
    picture = raster_pictures.draw_composite(scene, 3 * scene + 500).astype(int)
    assert np.abs(picture[..., 0] - picture[..., 1]).max() <= 1
    changed = scene.copy()
    changed[:20, :20] += 3000
    picture = raster_pictures.draw_composite(scene, changed).astype(int)
    assert (picture[:20, :20, 1] >= picture[:20, :20, 0]).all()
    assert (picture[:20, :20, 1] > picture[:20, :20, 0]).mean() > 0.5  # white is white in both


def test_page_of_a_change_map_alone(cohort, tmp_path):
    from regflow.pipeline.change import detect_series
    from regflow.stages.rasters.detect_inputs import DatedScene
    from regflow.stages.rasters.detect_options import complete_detect_options

    paths = [cohort.root / "june.tif", cohort.places["applied"] / "warped.tif"]
    detect_series(
        [DatedScene(str(p), p.stem, None) for p in paths], tmp_path / "out", complete_detect_options()
    )
    page = check(tmp_path / "out/report.html")
    assert "Change was mapped with regflow" in page.text
    assert "Accuracy and similarity" not in page.text
    assert any(image["alt"].startswith("Second date, change 1") for image in page.images)
    record = json.loads((tmp_path / "out/detect.json").read_text())
    assert record["residual_px"] < 0.5
