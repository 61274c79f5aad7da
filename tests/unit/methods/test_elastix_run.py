import importlib
import re
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from moved_brain import error_mm, inverted, known_affine, moved

from regflow.core.errors import InputError, RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.resample import resample_array, to_sitk_image
from regflow.core.transform import Affine, Composite, DisplacementField
from regflow.io.transforms import write_transform
from regflow.methods import elastix_run
from regflow.methods.context import RunContext
from regflow.methods.elastix_options import METRICS
from regflow.methods.elastix_run import MAPS, _cropped, _grown, _last_error, choose_linear_parameters
from regflow.methods.initialize import METHODS as INITIALIZERS
from regflow.methods.refine import METHODS as REFINERS


def initialize(fixed: Image, moving: Image, seed: int = 0, log: Path | None = None, **options):
    method = INITIALIZERS["elastix"]
    context = RunContext(threads=2, seed=seed, log_file=log)
    return method.load()(fixed, moving, Affine.identity(3), method.complete(options), context)


def deform(fixed: Image, moving: Image, initial: Affine, **options):
    method = REFINERS["elastix-bspline"]
    return method.load()(fixed, moving, initial, method.complete(options), RunContext(threads=2))


@pytest.mark.slow
def test_rigid_then_affine_finds_a_known_pose_and_keeps_its_log(mni_4mm, tmp_path):
    truth = known_affine(mni_4mm, 15.0, 30.0, stretch=1.06)
    found = initialize(mni_4mm, moved(mni_4mm, truth), log=tmp_path / "elastix.log")
    assert isinstance(found, Affine)
    assert error_mm(mni_4mm, found, truth) < 0.7
    assert "AffineTransform" in (tmp_path / "elastix.log").read_text(encoding="utf-8")


@pytest.mark.parametrize("metric", [pytest.param("correlation", marks=pytest.mark.slow), "mse"])
def test_one_contrast_is_found_by_other_metrics(mni_4mm, metric, tmp_path):
    truth = known_affine(mni_4mm, 8.0, 10.0)
    log = tmp_path / "elastix.log"
    found = initialize(mni_4mm, moved(mni_4mm, truth), log=log, metric=metric, transform="rigid")
    assert error_mm(mni_4mm, found, truth) < 0.7
    assert METRICS[metric] in log.read_text(encoding="utf-8")


def test_a_parameter_file_of_ones_own_keeps_its_metric(mni_4mm):
    options = INITIALIZERS["elastix"].complete({"maps": ["own.txt"], "metric": "mse"})
    assert "Metric" not in choose_linear_parameters(options, mni_4mm, 0)


@pytest.mark.slow
def test_another_contrast_is_found(mni_4mm):
    truth = known_affine(mni_4mm, 10.0, 20.0)
    assert error_mm(mni_4mm, initialize(mni_4mm, inverted(moved(mni_4mm, truth))), truth) < 0.7


@pytest.mark.slow
def test_neither_the_seed_nor_a_trace_of_noise_changes_where_it_ends(mni_4mm):
    # Stochastic descent on random samples ended up to 6 mm apart here.
    moving = moved(mni_4mm, known_affine(mni_4mm, 10.0, 20.0))
    noise = np.random.default_rng(0).normal(0, 1e-6, mni_4mm.data.shape).astype(np.float32)
    first = initialize(mni_4mm, moving)
    assert np.array_equal(first.matrix, initialize(mni_4mm, moving, seed=1).matrix)
    assert error_mm(mni_4mm, initialize(mni_4mm.with_data(mni_4mm.data + noise), moving), first) < 0.01


@pytest.mark.parametrize(
    ("degrees", "shift_mm", "stretch"),
    [(25.0, 40.0, 0.94), pytest.param(40.0, 60.0, 1.0, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("contrast", [pytest.param(lambda image: image, marks=pytest.mark.slow), inverted])
def test_far_poses_are_found(mni_4mm, degrees, shift_mm, stretch, contrast):
    truth = known_affine(mni_4mm, degrees, shift_mm, stretch)
    assert error_mm(mni_4mm, initialize(mni_4mm, contrast(moved(mni_4mm, truth))), truth) < 0.7


def test_samples_lie_on_the_coarsest_grid_that_holds_as_many_as_asked(mni_4mm):
    everything = mni_4mm.with_mask(None)
    for count in (1000, 10**6):
        options = INITIALIZERS["elastix"].complete({"samples": count, "iterations": 1})
        (step,) = set(choose_linear_parameters(options, everything, 0)["SampleGridSpacing"])
        assert step == 1 or everything.channel.size / step**3 >= count
        assert everything.channel.size / (step + 1) ** 3 < count


def test_bsplines_follow_a_known_bend_and_simpleitk_resamples_alike(mni_4mm, tmp_path):
    grid = mni_4mm.grid
    index = np.indices(grid.shape)
    vectors = np.stack([6 * np.sin(index[0] / 9), 5 * np.cos(index[2] / 8), 4 * np.sin(index[1] / 10)])
    bend = DisplacementField(vectors.astype(np.float32), grid)
    moving = resample_array(mni_4mm.channel, grid, grid, bend.inverse())
    moving = Image(moving[None], grid, moving > 0.05 * moving.max())
    start = Affine.identity(3)
    found = deform(mni_4mm, moving, start, spacing_mm=16.0)
    assert isinstance(found, Composite)
    assert error_mm(mni_4mm, found, bend) < 0.5 * error_mm(mni_4mm, start, bend)
    write_transform(tmp_path / "t.h5", found)
    picture = to_sitk_image(moving.channel, grid)
    theirs = sitk.Resample(picture, sitk.ReadTransform(str(tmp_path / "t.h5")), sitk.sitkLinear)
    ours = resample_array(moving.channel, grid, grid, found)
    assert np.allclose(sitk.GetArrayFromImage(theirs), ours, atol=0.01 * float(ours.max()))


def test_bad_input_is_one_sentence(mni_4mm):
    flat = mni_4mm.with_data(np.zeros_like(mni_4mm.data))
    with pytest.raises(RegistrationError, match="elastix: the moving image is constant"):
        initialize(mni_4mm, flat)
    with pytest.raises(InputError, match=r"none\.txt is not there"):
        initialize(mni_4mm, mni_4mm, maps=["none.txt"])


def parameters(name: str) -> dict[str, list[str]]:
    lines = re.findall(r"^\((\w+) (.*)\)$", (MAPS / f"{name}.txt").read_text(encoding="utf-8"), re.MULTILINE)
    return {key: re.findall(r'[^\s"]+', values) for key, values in lines}


@pytest.mark.parametrize("name", ["rigid", "similarity", "affine", "bspline"])
def test_our_maps_keep_clear_of_elastix_s_traps(name):
    found = parameters(name)
    # Several metrics on several threads give wrong transforms; only composed ones become ITK's.
    assert len(found["Metric"]) == 1
    assert found["HowToCombineTransforms"] == ["Compose"]
    assert found["WriteResultImage"] == ["false"]
    assert found["RandomSeed"] != ["0"]
    # Without it elastix's own rigid map trusts the headers; a second start would undo the first.
    assert found.get("AutomaticTransformInitialization") == (["true"] if name == "rigid" else None)


def test_elastix_runs_on_one_thread_of_itk_s_pool(mni_4mm):
    moving = moved(mni_4mm, known_affine(mni_4mm, 5.0, 5.0))
    initialize(mni_4mm, moving, iterations=1, transform="rigid")
    import itk

    assert itk.MultiThreaderBase.GetGlobalDefaultNumberOfThreads() == 1
    pool = itk.MultiThreaderBase.ThreaderTypeFromString("Pool")
    assert itk.MultiThreaderBase.GetGlobalDefaultThreader() == pool


def test_itk_is_whole_also_while_another_thread_imports_it(tmp_path, monkeypatch):
    (tmp_path / "itk.py").write_text(
        "import sys, time, types\n"
        "sys.importing.set()\n"
        "time.sleep(0.1)\n"
        "whole = types.ModuleType('itk')\n"
        "whole.__spec__ = __spec__\n"
        "whole.MultiThreaderBase = types.SimpleNamespace(SetGlobalDefaultNumberOfThreads=int)\n"
        "sys.modules['itk'] = whole\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "itk", raising=False)
    monkeypatch.setattr(sys, "importing", threading.Event(), raising=False)
    ahead = threading.Thread(target=importlib.import_module, args=["itk"])
    ahead.start()
    sys.importing.wait()
    assert hasattr(elastix_run._itk(), "MultiThreaderBase")
    ahead.join()
    monkeypatch.delitem(sys.modules, "itk")


def test_a_large_constant_background_does_not_spoil_the_pose(mni_4mm):
    truth = known_affine(mni_4mm, 10.0, 20.0)
    padded = Image(np.pad(mni_4mm.data, [(0, 0), (20, 20), (20, 20), (20, 20)]), _padded(mni_4mm.grid, 20))
    fixed = padded.with_mask(np.pad(mni_4mm.mask, 20))
    found = initialize(fixed, moved(mni_4mm, truth))
    assert error_mm(mni_4mm, found, truth) < 0.7


def _padded(grid: Grid, margin: int) -> Grid:
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_world([-margin] * 3)
    return Grid(tuple(length + 2 * margin for length in grid.shape), affine)


@pytest.mark.slow
def test_a_similarity_has_one_scale_and_finds_it(mni_4mm):
    pose = known_affine(mni_4mm, 15.0, 20.0)
    center = mni_4mm.grid.center
    truth = Affine.from_parts(1.12 * pose.linear, pose.apply(center[None])[0] - center, center)
    found = initialize(mni_4mm, moved(mni_4mm, truth), transform="similarity")
    assert np.ptp(np.linalg.svd(found.linear, compute_uv=False)) < 1e-6
    assert np.linalg.det(found.linear) == pytest.approx(1.12**3, rel=0.03)
    assert error_mm(mni_4mm, found, truth) < 0.7


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["reading", "ITK Exception: too few samples", "bye"], "ITK Exception: too few samples"),
        (["ERROR: first", "  error: second  ", "done"], "error: second"),
        (["all is well"], "the wrapped process failed"),
        (None, "the wrapped process failed"),
    ],
)
def test_the_last_error_of_the_log_is_told(tmp_path, lines, told):
    log = tmp_path / "elastix.log"
    if lines is not None:
        log.write_text("\n".join(lines))
    assert _last_error(log, RuntimeError("\nlong story\nthe wrapped process failed\n")) == told


@pytest.mark.parametrize(("side", "margin"), [(50, 6), (25, 3), (4, 1)])
def test_a_mask_grows_by_a_share_of_its_longest_side(side, margin):
    mask = np.zeros((90, 80), bool)
    mask[20 : 20 + side, 30:34] = True
    rows = np.flatnonzero(_grown(mask).any(axis=1))
    assert (rows[0], rows[-1]) == (20 - margin, 19 + side + margin)


def test_elastix_sees_some_background_around_the_mask():
    mask = np.zeros((100, 90), bool)
    mask[30:71, 40:61] = True
    image = Image(np.ones((1, 100, 90), np.float32), Grid((100, 90), np.eye(3)), mask)
    seen = _cropped(image)
    assert seen.grid.shape == (41 + 2 * 8, 21 + 2 * 4)
    assert seen.grid.origin.tolist() == [36.0, 22.0]
