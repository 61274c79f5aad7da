from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as Pillow
from registered import known_pair, write_failure, write_stages
from report_pages import Page, check

from regflow.core.files import write_json
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.landmark_pairs import pair_landmarks
from regflow.core.landmarks import Landmarks
from regflow.metrics.distances import list_mask_points
from regflow.reporting.shared.charts import StripDot, draw_strips
from regflow.reporting.shared.cohort import render_cohort_page
from regflow.reporting.shared.methods_text import write_methods_text
from regflow.reporting.shared.story import format_duration, make_sentence
from regflow.reporting.volumes import pictures
from regflow.stages.gather import gather
from regflow.stages.pages import report_cohort
from regflow.stages.volumes.assess import assess, assess_pair, sample_deformation
from regflow.stages.volumes.report import report, report_pair

SETTINGS = {"slices": 3}


@pytest.fixture(scope="module")
def known(mni_4mm):
    return known_pair(mni_4mm)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory, known):
    """Two samples with landmarks and truth, one that failed, and their pages."""
    root = tmp_path_factory.mktemp("cohort")
    points = list_mask_points(known.pair.fixed.grid, known.pair.fixed.mask, most=5)
    folders = {name: write_stages(root, name, known, points) for name in ("sub-01", "sub-02")}
    folders["sub-03"] = write_failure(root, "sub-03", known, "a<b>&c.nii: the file is empty")
    for name, folder in folders.items():
        assess(folder.assessed, **folder.arguments, settings={})
        report(
            root / f"report/{name}.html",
            **folder.arguments,
            assessed=folder.assessed,
            settings=SETTINGS,
            picture=root / f"report/images/{name}.png",
        )
    tables = {kind: root / f"assess/{kind}.tsv" for kind in ("samples", "labels")}
    assessed = [folder.assessed for folder in folders.values()]
    gather(tables, assessed, {name: {"fixed": "mni", "group": name[-1]} for name in folders})
    run = {"command": "regflow run", "processor": {"name": "AMD EPYC"}, "packages": {"numpy": "2.4"}}
    write_json(root / "provenance.json", run)
    (root / "config.yaml").write_text("seed: 0\n")
    report_cohort(
        root / "report/index.html",
        tables=tables,
        assessed=assessed,
        pages={name: root / f"report/{name}.html" for name in folders},
        images={name: root / f"report/images/{name}.png" for name in folders},
        provenance=root / "provenance.json",
        configuration=root / "config.yaml",
    )
    return root


def test_page_of_a_sample_shows_pictures_figures_stages_and_methods(cohort):
    page = check(cohort / "report/sub-01.html")
    planes = ("axial", "coronal", "sagittal")
    shown = [image["alt"] for image in page.images]
    for plane in planes:
        for layer in pictures.LAYERS.values():
            assert (
                sum(alt.startswith(f"{layer}, {plane} slice at") for alt in shown) == SETTINGS["slices"] + 1
            )
    for part in ("Checkerboard", "Fixed minus", "Local volume change", "The product"):
        assert any(alt.startswith(part) for alt in shown), part
    for words in ("True error", "Landmark error (TRE)", "point 0", "radiological", "50 mm", "n4", "[1]"):
        assert words in page.text, words
    assert "Structures" not in page.text
    assert "index.html" in page.links


def test_page_of_a_failed_sample_tells_its_reason_and_nothing_else(cohort):
    page = check(cohort / "report/sub-03.html")
    assert page.text.count("a<b>&c.nii: the file is empty") == 3
    assert page.text.count("an earlier stage could not be done") == 4
    assert "resampled once" not in page.text
    assert "Could not be done" in page.text
    assert "Skipped" in page.text
    assert page.images == []
    assert "Similarity" not in page.text


def test_cohort_page_names_failures_first_and_links_every_page(cohort):
    page = check(cohort / "report/index.html")
    assert "Of 3 samples, 2 passed, 1 could not be done." in page.text
    assert page.text.index("the file is empty") < page.text.index("A dot is a sample")
    assert {"sub-01.html", "sub-02.html", "sub-03.html"} <= set(page.links)
    assert len(page.images) == 2
    assert "Groups" in page.text
    for words in ("regflow run", "name: AMD EPYC", "numpy: '2.4'", "seed: 0"):
        assert words in page.text, words


def test_pictures_for_snakemake_show_the_brain_or_say_why_not(cohort):
    with Pillow.open(cohort / "report/images/sub-01.png") as picture:
        assert (picture.mode, picture.height) == ("RGB", pictures.SHEET_HEIGHT // 2)
        values = np.asarray(picture).astype(int)
    colored = np.ptp(values, axis=2) > 60
    assert 0.01 < colored.mean() < 0.3
    assert (values.mean(axis=2) > 40).mean() > 0.3
    with Pillow.open(cohort / "report/images/sub-03.png") as picture:
        assert np.asarray(picture).std() > 5


def test_pages_are_the_same_bytes_every_time(cohort, known, tmp_path):
    folders = write_stages(cohort, "sub-01", known)
    arguments = {**folders.arguments, "assessed": folders.assessed, "settings": SETTINGS}
    for name in ("one.html", "two.html"):
        report(tmp_path / name, **arguments)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_pair_in_memory_needs_no_folders(tmp_path, known):
    found = assess_pair(known.pair, {})
    stage = {
        "stage": "refine",
        "state": "done",
        "verdict": found.verdict.to_dict(),
        "steps": [],
        "seconds": 61.5,
    }
    product = Image(found.moved["refine"][None], known.pair.fixed.grid)
    report_pair(
        tmp_path / "report.html",
        sample="a pair",
        pair=known.pair,
        assessment=found,
        stages=[stage],
        settings={"slices": 1, "orientation": "neurological"},
        product=product,
        facts=[("Fixed", "atlas.nii")],
    )
    page = check(tmp_path / "report.html")
    assert "neurological" in page.text
    assert "1 min 1 s" in page.text
    assert "index.html" not in page.links


def test_page_tells_what_labels_and_landmarks_have_against_the_fit(tmp_path, known):
    labels = np.zeros(known.pair.fixed.grid.shape, np.int16)
    labels[24:30, 24:30, 14:20], labels[24:30, 24:30, 30:36], labels[14:18, 20:24, 22:26] = 1, 2, 3
    labeled = known_pair(known.pair.fixed, labels).pair
    swapped = np.array([0, 2, 1, 4])[labeled.moving.labels]
    points = list_mask_points(labeled.fixed.grid, labeled.fixed.mask, most=8)
    fixed = Landmarks(tuple(f"p{k}" for k in range(len(points))), points)
    moving = Landmarks((*fixed.names[:-1], "other"), labeled.forward.apply(points))
    pair = replace(
        labeled,
        moving=replace(labeled.moving, labels=swapped),
        landmarks=pair_landmarks(fixed, moving),
    )
    found = assess_pair(pair, {"surfaces": False})
    report_pair(tmp_path / "r.html", sample="x", pair=pair, assessment=found, stages=[])
    page = check(tmp_path / "r.html")
    assert make_sentence(found.verdict.reason) in page.text
    assert "Left and right seem swapped in one of the label maps" in page.text
    assert "Only in the fixed map, so not compared: 3." in page.text
    assert "lies on 2 (Dice 0." in page.text
    assert f"p{len(points) - 1} of the fixed image and other of the moving image" in page.text


def test_difference_is_left_out_where_contrasts_differ(tmp_path, known):
    inverted = known.pair.moving.with_data(known.pair.moving.channel.max() - known.pair.moving.channel)
    pair = replace(known.pair, moving=inverted)
    report_pair(tmp_path / "r.html", sample="x", pair=pair, assessment=assess_pair(pair, {}), stages=[])
    page = check(tmp_path / "r.html")
    assert "Difference" not in page.text
    assert "No stage left a record." in page.text


def test_affine_result_says_that_nothing_was_deformed(tmp_path, known):
    pair = replace(known.pair, forward=known.pair.initial, backward=known.pair.initial.inverse())
    report_pair(tmp_path / "r.html", sample="x", pair=pair, assessment=assess_pair(pair, {}), stages=[])
    page = check(tmp_path / "r.html")
    assert "nothing was deformed" in page.text
    assert "Local volume change" not in page.text


def test_fold_is_drawn_in_its_own_color_and_anisotropic_slices_keep_their_shape(known):
    fixed = known.pair.fixed
    determinant = np.ones(fixed.grid.shape, dtype=np.float32)
    determinant[fixed.mask] = -1
    scene = pictures.make_rendering(
        fixed, {"refine": fixed.channel}, sample_deformation(known.pair), determinant, slices=1
    )
    cut = pictures.choose_middle_slices(scene)[0]
    from regflow.reporting.volumes.pictures import FOLD_COLOR, _jacobian

    color = _jacobian(scene, cut, 1.0)
    assert (color[color[..., 3] > 0][:, :3] == FOLD_COLOR).all()
    tile = pictures.describe_frame(scene, cut)
    rows, columns = cut.measure_size(scene.mask.shape)
    assert (tile["height_mm"], tile["width_mm"]) == (4 * rows, 4 * columns)


@pytest.mark.parametrize(("factor", "grid", "bar"), [(1.0, 8, 50), (1e-3, 0.008, 0.05), (30.0, 400, 2500)])
def test_pictures_of_a_small_and_a_large_object_are_those_of_a_head(known, factor, grid, bar):
    from regflow.reporting.volumes.sample import _render

    def drawn(size: float) -> pictures.Rendering:
        fixed = known.pair.fixed
        scaled = replace(fixed, grid=Grid(fixed.grid.shape, np.diag([size] * 3 + [1.0]) @ fixed.grid.affine))
        moved = dict.fromkeys(("start", "initialize", "refine"), fixed.channel)
        field = sample_deformation(known.pair) * np.float32(size)
        return pictures.make_rendering(scaled, moved, field, np.ones(fixed.grid.shape, np.float32), slices=1)

    scene = drawn(factor)
    words = _render(scene, None, False)
    assert words["grid_mm"] == f"{grid:g}"
    (plane, *_) = words["planes"]
    (tile,) = plane["tiles"]
    assert tile["bar"] == f"{bar:g} mm"
    assert 100 < tile["width_mm"] < 300
    usual = pictures.draw_overlays(drawn(1.0), pictures.choose_middle_slices(drawn(1.0))[0])["grid"]
    assert 0.3 < tile["grid"].count("M") / usual.count("M") < 3


def test_chart_marks_outliers_links_them_and_says_its_figures():
    from regflow.metrics.catalog import FIGURES

    dots = [StripDot(f"s{n}", 0.9 + n / 100, f"s{n}.html", n == 0) for n in range(6)]
    chart = draw_strips({"start": [], "refine": dots}, FIGURES["ncc"])
    Page(chart)
    assert chart.count("<a ") == 6
    assert chart.count('class="dot out"') == 1
    assert "End median 0.93, 0.90 to 0.95" in chart
    many = [StripDot(f"s{n}", n / 1000, None, n == 999) for n in range(1000)]
    assert draw_strips({"": many}, FIGURES["ncc"]).count("<circle") == 1
    assert "<svg" in draw_strips({"": [StripDot("only", 0.0)]}, FIGURES["folding_percent"])


def test_empty_cohort_has_a_page_with_sentences():
    page = Page(render_cohort_page([], [], [], {}, {}))
    assert page.text.count("The sheet has no samples.") == 2


def test_methods_tell_only_what_ran_with_each_citation_once():
    steps = [{"name": "bias", "method": "n4", "seconds": 1}, {"name": "orient", "seconds": 0}]
    skipped = [{"name": "bias", "method": "n4", "skipped": "CT needs none"}]
    tries = [{"name": "moments", "state": "error", "reason": "no"}]
    stages = [
        {"stage": "preprocess", "state": "done", "steps": steps},
        {"stage": "preprocess", "state": "done", "steps": steps},
        {"stage": "preprocess", "state": "done", "steps": skipped},
        {"stage": "initialize", "state": "done", "steps": tries},
        {"stage": "refine", "state": "error", "steps": []},
        {"stage": "assess", "state": "done", "steps": []},
    ]
    told = write_methods_text(stages, ["dice_mean_refine"])
    assert told["text"].count("n4 (divide by") == 1
    assert "moments" not in told["text"]
    assert len(told["references"]) == 2
    assert "Dice coefficient [2]" in told["text"]
    assert write_methods_text([{**stages[2]}])["references"] == []


def test_words_of_times_and_sentences():
    assert [format_duration(s) for s in (None, 0.4213, 12.34, 125.9)] == ["", "0.42 s", "12.3 s", "2 min 5 s"]
    assert make_sentence("moving too far") == "Moving too far."
    assert (
        make_sentence("folding_percent is 3, above the limit of 1")
        == "folding_percent is 3, above the limit of 1."
    )
    assert make_sentence("a.nii: cut off; copy it again.") == "a.nii: cut off; copy it again."
