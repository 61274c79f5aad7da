"""Preprocessing: nothing moves in the world, known shading and noise go, masks fit real brains."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from regflow.core.errors import InputError
from regflow.core.files import read_json, write_json
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.itk_threads import limit_itk_threads
from regflow.core.resample import resample_array
from regflow.core.surroundings import find_otsu_threshold
from regflow.io.volumes import read_volume, write_volume
from regflow.methods.context import RunContext
from regflow.methods.preprocess import TABLES, complete_settings, define_preprocess_schema, load_filter
from regflow.methods.preprocess.atlas_mask import _blank
from regflow.methods.preprocess.denoise import estimate_noise_level
from regflow.methods.preprocess.masks import (
    choose_method,
    fill_holes,
    find_constant_background,
    keep_largest_piece,
)
from regflow.methods.preprocess.orientation import choose_working_spacing, orient_image
from regflow.stages.volumes.preprocess import prepare_pair, prepare_volume, preprocess

QUICK_N4 = {"bias": {"options": {"n4": {"sample_mm": 8.0, "iterations": [20, 20]}}}}
OFF = {kind: {"method": "none"} for kind in ("mask", "denoise", "bias", "intensity")}


def dice(a, b):
    return 2 * np.sum(a & b) / (a.sum() + b.sum())


def option(kind, method, **given):
    return TABLES[kind][method].complete(given)


def run(kind, method, image, reference=None, **given):
    return load_filter(kind, method)(image, reference, option(kind, method, **given), RunContext())


def rotated(shape, degrees, flips, order):
    """Return a grid with permuted, flipped, oblique, anisotropic axes."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    axes = np.eye(3)[:, order] * np.array(flips)
    return Grid.from_geometry(shape, (1.0, 2.0, 3.5), (5, -7, 11), turn @ axes)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2), (2, 1, 0)])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
@pytest.mark.parametrize("degrees", [0, 20])
def test_orientation_moves_no_sample_in_the_world(order, flips, degrees):
    grid = rotated((4, 5, 6), degrees, flips, order)
    data = np.random.default_rng(0).random((1, *grid.shape), dtype=np.float32)
    image = Image(data, grid, data[0] > 0.5, (data[0] * 9).astype(np.int16))
    turned = orient_image(image)
    assert np.all(np.diag(turned.grid.direction) > np.cos(np.deg2rad(46)))
    indices = np.argwhere(np.ones(turned.grid.shape))
    points = turned.grid.to_world(indices[:, ::-1])
    before = np.rint(grid.to_index(points)).astype(int)[:, ::-1]
    assert np.allclose(grid.to_world(before[:, ::-1]), points)
    for part in ("channel", "mask", "labels"):
        assert np.array_equal(
            getattr(turned, part)[tuple(indices.T)], getattr(image, part)[tuple(before.T)]
        ), part
    again = orient_image(turned)
    assert again.grid == turned.grid
    assert np.array_equal(again.data, turned.data)


def test_orientation_agrees_with_nibabel(nibabel_data):
    import nibabel

    path = nibabel_data / "anatomical.nii"
    turned = orient_image(read_volume(path))
    # nibabel's canonical order is RAS, ours LPS: x and y run the other way.
    theirs = np.asarray(nibabel.as_closest_canonical(nibabel.load(path)).dataobj)[::-1, ::-1]
    assert np.array_equal(turned.channel.transpose(2, 1, 0), theirs)


def test_two_dimensional_images_pass_and_georeferenced_ones_keep_their_axes():
    rows, columns = np.mgrid[:40, :50]
    disc = np.hypot(rows - 20, columns - 25) < 12
    grid = Grid(disc.shape, np.array([[-1.0, 0, 0], [0, -1.0, 0], [0, 0, 1]]))
    rng = np.random.default_rng(0)
    data = (disc * rng.uniform(50, 100, disc.shape) + rng.uniform(0, 5, disc.shape)).astype(np.float32)
    settings = {
        "mask": {"method": "foreground", "options": {"foreground": {"opening_mm": 1, "closing_mm": 2}}},
        "denoise": {"method": "curvature"},
    }
    prepared, _ = prepare_volume(Image(data[None], grid), settings)
    assert np.allclose(prepared.grid.direction, np.eye(2))
    assert dice(prepared.mask, disc[::-1, ::-1]) > 0.9
    scene = Image(data[None], Grid(grid.shape, grid.affine, crs="EPSG:32632"))
    assert prepare_volume(scene, OFF)[0].grid == scene.grid


def test_every_step_off_changes_nothing_but_the_type(mni_4mm):
    image = Image((mni_4mm.data * 10).astype(np.int16), mni_4mm.grid)
    prepared, steps = prepare_volume(image, {**OFF, "orient": False})
    assert prepared.data.dtype == np.float32
    assert np.array_equal(prepared.data, image.data)
    assert prepared.mask is None
    assert [step["name"] for step in steps] == ["mask"]


@pytest.mark.parametrize("intensity", ["percentile", "zscore"])
def test_preparing_twice_is_preparing_once(mni_4mm, intensity):
    settings = {"bias": {"method": "none"}, "intensity": {"method": intensity}}
    once, _ = prepare_volume(mni_4mm, settings)
    twice, _ = prepare_volume(once, settings)
    assert twice.grid.matches(once.grid)
    assert np.array_equal(twice.mask, once.mask)
    assert np.allclose(twice.data, once.data, atol=1e-3)


def test_prepared_images_do_not_depend_on_threads(colin_4mm):
    settings = {"denoise": {"method": "median"}, **QUICK_N4}
    results = []
    for threads in (1, 2):
        with limit_itk_threads(threads):
            results.append(prepare_volume(colin_4mm, settings, threads=threads)[0])
    assert results[0].data.tobytes() == results[1].data.tobytes()
    assert results[0].mask.tobytes() == results[1].mask.tobytes()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("head", "given"),
    [
        ("colin_brain_4mm", QUICK_N4),
        ("colin_brain_4mm", {**QUICK_N4, "intensity": {"method": "histogram"}, "spacing_mm": 5.0}),
        ("colin_brain_4mm", {**QUICK_N4, "mask": {"method": "none"}, "denoise": {"method": "nlm"}}),
        ("colin_4mm", QUICK_N4),
    ],
)
def test_a_pair_is_prepared_as_its_images_are_one_by_one(request, mni_4mm, head, given, threads):
    fixed, moving = mni_4mm.with_mask(None), request.getfixturevalue(head).with_mask(None)
    reference, steps = prepare_volume(fixed, given)
    alone, further = prepare_volume(moving, given, reference=reference)
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    both = prepare_pair(fixed, moving, given, threads=threads)
    assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == before
    for made, image, records in zip(both, (reference, alone), (steps, further), strict=True):
        assert made.image.data.tobytes() == image.data.tobytes()
        assert (made.image.mask is None) == (image.mask is None)
        assert image.mask is None or made.image.mask.tobytes() == image.mask.tobytes()
        told = [{key: value for key, value in step.items() if key != "seconds"} for step in records]
        assert [
            {key: value for key, value in step.items() if key != "seconds"} for step in made.steps
        ] == told


@pytest.mark.parametrize(
    ("wanted", "own", "reference", "expected"),
    [
        (None, (1, 1, 5), None, None),
        (None, (1, 1, 5), 1.0, None),
        (None, (0.5, 0.5, 5), 1.0, (1, 1, 5)),
        (None, (0.95, 0.95, 1), 1.0, None),
        (2.0, (1, 1, 5), 1.0, (2, 2, 2)),
        ((1, 2, 3), (1, 1, 5), None, (1, 2, 3)),
        (1.0, (1, 1, 1), None, None),
    ],
)
def test_working_spacing(wanted, own, reference, expected):
    grid = Grid.from_geometry((10, 10, 10), own, (0, 0, 0))
    fixed = None if reference is None else Grid.from_geometry((5, 5, 5), (reference,) * 3, (0, 0, 0))
    spacing = choose_working_spacing(grid, wanted, fixed)
    assert (spacing is None) if expected is None else np.allclose(spacing, expected)


def test_a_coarser_working_grid_keeps_extent_labels_and_does_not_alias():
    grid = Grid.from_geometry((24, 24, 24), (1, 1, 1), (0, 0, 0))
    stripes = (np.indices(grid.shape)[2] % 2).astype(np.float32)
    labels = np.where(np.indices(grid.shape)[0] < 12, 7, 3).astype(np.int16)
    image = Image(stripes[None], grid, np.ones(grid.shape, bool), labels)
    prepared, _ = prepare_volume(image, {**OFF, "mask": {"method": "given"}, "spacing_mm": 2.0})
    assert prepared.grid.shape == (12, 12, 12)
    assert np.allclose(prepared.grid.center, grid.center)
    assert set(np.unique(prepared.labels)) == {3, 7}
    # Every second sample of the stripes would be all 0 or all 1.
    assert np.abs(prepared.channel[3:-3, 3:-3, 3:-3] - 0.5).max() < 0.1


def test_n4_takes_a_known_shading_away(mni_2mm):
    axes = [np.linspace(-1, 1, n) for n in mni_2mm.grid.shape]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    shading = np.exp(0.35 * x + 0.25 * y * z - 0.2 * z**2).astype(np.float32)
    shaded = mni_2mm.with_data(mni_2mm.data * shading)
    # The field N4 finds in the template itself is not what was put on: compare against it.
    clean = run("bias", "n4", mni_2mm, sample_mm=6.0).channel
    corrected = run("bias", "n4", shaded, sample_mm=6.0).channel
    inside = mni_2mm.mask & (mni_2mm.channel > 0.2 * mni_2mm.channel.max())
    log_before = np.log(shaded.channel[inside] / mni_2mm.channel[inside])
    log_after = np.log(corrected[inside] / clean[inside])
    assert log_after.std() < 0.25 * log_before.std()
    assert np.all(corrected[~mni_2mm.mask & (mni_2mm.channel == 0)] == 0)


def test_n4_keeps_the_mean_log_intensity_inside_the_mask(mni_4mm):
    shading = np.exp(np.linspace(-0.5, 0.5, mni_4mm.grid.shape[2], dtype=np.float32))
    shaded = mni_4mm.with_data(mni_4mm.data * shading)
    corrected = run("bias", "n4", shaded, sample_mm=8.0, iterations=[20, 20])
    inside = mni_4mm.mask & (mni_4mm.channel > 0)
    change = np.log(corrected.channel[inside] / shaded.channel[inside])
    assert change.std() > 0.05
    assert change.mean() == pytest.approx(0, abs=0.005)


def test_ct_is_left_without_a_bias_field(mni_4mm):
    ct = Image(mni_4mm.data - 1000, mni_4mm.grid, mni_4mm.mask, modality="CT")
    for image, reason in ((ct, "CT"), (Image(ct.data, ct.grid, ct.mask), "negative")):
        prepared, steps = prepare_volume(image, {})
        record = next(step for step in steps if step["name"] == "bias")
        assert reason in record["skipped"]
        assert 0 <= prepared.data.min() < prepared.data.max() <= 1


@pytest.mark.parametrize(("method", "gain"), [("curvature", 0.8), ("median", 0.85), ("nlm", 0.6)])
def test_denoising_comes_nearer_to_the_clean_image(mni_2mm, method, gain):
    box = (slice(30, 66), slice(40, 80), slice(30, 66))
    clean = mni_2mm.channel[box] / mni_2mm.channel.max()
    grid = Grid.from_geometry(clean.shape, (2, 2, 2), (0, 0, 0))
    noise = np.random.default_rng(0).normal(0, 0.06, clean.shape).astype(np.float32)
    denoised = run("denoise", method, Image((clean + noise)[None], grid)).channel
    assert np.sqrt(np.mean((denoised - clean) ** 2)) < gain * 0.06


def test_noise_level_is_estimated_in_any_dimension():
    rng = np.random.default_rng(0)
    for shape in ((200, 200), (40, 40, 40)):
        ramp = np.indices(shape).sum(axis=0)
        assert estimate_noise_level(ramp + rng.normal(0, 3.0, shape)) == pytest.approx(3.0, rel=0.03)
    assert estimate_noise_level(np.zeros((8, 8, 8))) == 0
    # What bends along no axis is no noise, though it bends along the diagonals.
    assert estimate_noise_level(np.fromfunction(lambda z, y, x: 3 * x * y - z * x, (8, 9, 10))) == 0


def test_percentiles_clip_outliers_and_accept_a_window():
    grid = Grid.from_geometry((10, 10, 10), (1, 1, 1), (0, 0, 0))
    data = np.linspace(-1000, 1000, 1000).reshape(1, 10, 10, 10).astype(np.float32)
    data[0, 0, 0, 0] = 1e6
    scaled = run("intensity", "percentile", Image(data, grid)).data
    assert (scaled.min(), scaled.max()) == (0, 1)
    assert np.median(scaled) == pytest.approx(0.5, abs=0.01)
    windowed = run("intensity", "percentile", Image(data, grid), window=[-100, 300]).data
    assert np.interp(0.0, data.ravel()[1:], windowed.ravel()[1:]) == pytest.approx(0.25, abs=0.01)


def test_zscore_counts_inside_the_mask_alone(mni_4mm):
    scaled = run("intensity", "zscore", mni_4mm)
    inside = scaled.channel[mni_4mm.mask]
    assert inside.mean() == pytest.approx(0, abs=1e-3)
    assert inside.std() == pytest.approx(1, abs=1e-3)


def test_histogram_matching_undoes_a_monotonic_change_of_contrast(mni_4mm):
    reference, _ = prepare_volume(mni_4mm, {"orient": False, "bias": {"method": "none"}})
    changed = mni_4mm.with_data(np.sqrt(mni_4mm.data) * 7 + 30)
    matched = run("intensity", "histogram", changed, reference)
    plain = run("intensity", "percentile", changed)
    inside = mni_4mm.mask

    def error(image):
        return np.abs(image.channel[inside] - reference.channel[inside]).mean()

    assert error(matched) < 0.01 < 0.05 < error(plain)


@pytest.mark.parametrize("method", ["percentile", "zscore"])
def test_a_constant_image_is_refused(method):
    grid = Grid.from_geometry((4, 4, 4), (1, 1, 1), (0, 0, 0))
    with pytest.raises(InputError, match="constant inside its mask"):
        run("intensity", method, Image(np.full((1, 4, 4, 4), 3.0, np.float32), grid))


def test_otsu_parts_two_classes():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(10, 2, 7000), rng.normal(60, 5, 3000)])
    assert 16 < find_otsu_threshold(values) < 50


def test_pieces_and_holes():
    mask = np.zeros((9, 9, 9), bool)
    mask[1:6, 1:6, 1:6] = True
    mask[3, 3, 3] = False
    mask[8, 8, 8] = True
    solid = fill_holes(keep_largest_piece(mask))
    assert solid.sum() == 125
    assert not solid[8, 8, 8]
    tunnel = np.ones((5, 5, 5), bool)
    tunnel[2, 2, :] = False
    assert np.array_equal(fill_holes(tunnel), tunnel)


def test_foreground_of_a_stripped_brain_is_that_brain(mni_4mm, volume):
    brain = volume("mni2009c")
    assert find_constant_background(brain.channel) == 0
    mask = run("mask", "foreground", brain).mask
    assert dice(mask, brain.channel > 0) > 0.99
    shifted = Image(brain.data - 2000, brain.grid)
    assert np.array_equal(run("mask", "foreground", shifted).mask, mask)


def test_foreground_of_a_head_holds_the_head_and_not_the_air(colin_4mm, colin_brain_4mm):
    rng = np.random.default_rng(0)
    noisy = colin_4mm.with_data(colin_4mm.data + rng.normal(0, 3, colin_4mm.data.shape).astype(np.float32))
    assert find_constant_background(noisy.channel) is None
    mask = run("mask", "foreground", noisy).mask
    assert np.mean(mask[colin_brain_4mm.mask]) > 0.995
    bright = colin_4mm.channel > 60
    assert np.mean(mask[bright]) > 0.97
    assert 0.4 < mask.mean() < 0.65
    assert not mask[-1].any()


def test_foreground_leaves_a_thin_bed_behind():
    z, y, x = np.indices((40, 60, 60))
    head = ((z - 20) / 15) ** 2 + ((y - 28) / 22) ** 2 + ((x - 30) / 20) ** 2 < 1
    bed = (y >= 56) & (y < 58)
    grid = Grid.from_geometry(head.shape, (4, 4, 4), (0, 0, 0))
    data = np.where(head, 40, np.where(bed, 0, -1000)) + np.random.default_rng(0).normal(0, 9, head.shape)
    mask = run("mask", "foreground", Image(data[None].astype(np.float32), grid)).mask
    assert dice(mask, head) > 0.95
    assert not mask[bed].any()


def test_auto_chooses_by_what_is_there(mni_4mm, colin_4mm, colin_brain_4mm):
    reference, _ = prepare_volume(mni_4mm.with_mask(None), {"bias": {"method": "none"}})
    assert choose_method(mni_4mm, None)[0] == "given"
    assert choose_method(colin_4mm, None)[0] == "foreground"
    assert choose_method(colin_4mm, reference)[0] == "atlas"
    assert choose_method(colin_brain_4mm.with_mask(None), reference)[0] == "foreground"


@pytest.mark.parametrize("degrees", [0, 25])
def test_a_head_gets_the_brain_mask_of_a_stripped_atlas(volume, degrees):
    atlas = volume("mni2009c", 2.0)
    reference, _ = prepare_volume(atlas.with_mask(None), {**QUICK_N4})
    head, brain = volume("colin27", 2.0), volume("colin27-brain")
    share = resample_array((brain.channel > 0).astype(np.float32), brain.grid, head.grid)
    angle = np.deg2rad(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    grid = Grid(head.grid.shape, turn @ head.grid.affine)
    prepared, steps = prepare_volume(
        Image(head.data, grid), {"orient": False, **QUICK_N4}, reference=reference, threads=2
    )
    record = next(step for step in steps if step["name"] == "mask")
    assert record["method"] == "atlas"
    assert "times the fixed mask" in record["reason"]
    assert dice(prepared.mask, share >= 0.5) > 0.95
    # The atlas is blank outside its mask, and so is the head now.
    assert np.all(prepared.channel[~prepared.mask] == 0)


def test_one_value_outside_a_mask_is_a_blank_background():
    outside = np.full(1000, -7.0)
    assert _blank(outside)
    outside[::2] = np.arange(500)
    assert not _blank(outside)
    assert not _blank(outside[:0])


def test_mask_mistakes_get_a_sentence(mni_4mm):
    bare = mni_4mm.with_mask(None)
    empty = mni_4mm.with_mask(np.zeros(mni_4mm.grid.shape, bool))
    for image, method, words in (
        (bare, "given", "has no mask"),
        (empty, "given", "is empty"),
        (bare, "atlas", "fixed image has no mask"),
    ):
        with pytest.raises(InputError, match=words):
            prepare_volume(image, {"mask": {"method": method}})
    with pytest.raises(InputError, match="did you mean 'foreground'"):
        prepare_volume(bare, {"mask": {"method": "forground"}})


def test_the_schema_holds_every_default():
    from jsonschema import Draft202012Validator

    content = define_preprocess_schema()
    Draft202012Validator.check_schema(content)
    full = complete_settings({})
    Draft202012Validator(content).validate(full)
    for kind, table in TABLES.items():
        entry = content["properties"][kind]["properties"]
        assert full[kind]["method"] == entry["method"]["default"]
        assert entry["method"]["enum"] == list(table)
    atlas = complete_settings({"mask": {"options": {"atlas": {"margin_mm": 2}}}})["mask"]["options"]["atlas"]
    assert (atlas["margin_mm"], atlas["refine_mm"], atlas["strip"]) == (2, None, True)


def manifest_of(folder: Path, image: Image, **more) -> Path:
    """Write an image and the manifest that ingest would write of it."""
    write_volume(folder / "image.nii.gz", image.channel, image.grid)
    paths = {"image": str(folder / "image.nii.gz")}
    for part in ("mask", "labels"):
        if getattr(image, part) is not None:
            write_volume(folder / f"{part}.nii.gz", getattr(image, part), image.grid)
            paths[part] = str(folder / f"{part}.nii.gz")
    content = {"state": "done", "problems": [], "volume": None, "modality": None, "paths": paths}
    content |= {"grid": image.grid.to_dict(), **more}
    write_json(folder / "manifest.json", content)
    return folder / "manifest.json"


def test_the_stage_writes_what_prepare_returns(tmp_path, mni_4mm):
    labels = (mni_4mm.channel > 60).astype(np.int16) + mni_4mm.mask
    image = Image(mni_4mm.data, mni_4mm.grid, mni_4mm.mask, labels)
    outcome = preprocess(
        tmp_path / "out", sample="s", manifest=manifest_of(tmp_path, image), settings={"spacing_mm": 5.0}
    )
    expected, _ = prepare_volume(image, {"spacing_mm": 5.0})
    assert outcome.state == "done"
    written = read_volume(tmp_path / "out" / "image.nii")
    assert written.grid.matches(expected.grid)
    assert np.allclose(written.channel, expected.channel, atol=1e-4)
    assert np.array_equal(read_volume(tmp_path / "out" / "mask.nii").channel > 0, expected.mask)
    assert np.array_equal(read_volume(tmp_path / "out" / "labels.nii").channel, expected.labels)
    steps = read_json(tmp_path / "out" / "stage.json")["steps"]
    assert [step["name"] for step in steps] == ["orient", "resample", "mask", "bias", "intensity"]
    assert all("seconds" in step for step in steps)


def test_a_sample_that_ingest_refused_ends_with_its_reasons(tmp_path, mni_4mm):
    refused = manifest_of(tmp_path, mni_4mm, state="error", problems=["a.nii: this file is empty"])
    outcome = preprocess(tmp_path / "out", sample="s", manifest=refused, settings={})
    assert outcome.state == "error"
    assert "this file is empty" in outcome.verdict.reason
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["stage.json"]
    after = preprocess(
        tmp_path / "next",
        sample="s",
        manifest=manifest_of(tmp_path, mni_4mm),
        reference=tmp_path / "out",
        settings={},
    )
    assert after.state == "skipped"
