"""Small scenes as wholes: dates of a real series, gaps, unrelated ground, and what the gate makes of them."""

from types import SimpleNamespace

import numpy as np
import pytest
from linear_scenes import band, corner_error_px, moved, run

from regflow.core.errors import RegistrationError
from regflow.core.image import Image
from regflow.core.transform import Affine, Transform
from regflow.datasets import packaged as realdata
from regflow.datasets.modalities import make_linear_truth, move_linearly
from regflow.examples.rasters import SERIES_REFERENCE, read_band
from regflow.methods.context import RunContext
from regflow.methods.initialize import METHODS, linear_refinement
from regflow.methods.initialize.gradient_correlation import gradient_correlation
from regflow.methods.initialize.gradient_shift import (
    PIXELS_EACH,
    SURE,
    GradientShift,
    has_few_pixels,
    measure_gradient_shift,
)
from regflow.methods.initialize.planar import masked_image
from regflow.methods.result import MethodResult
from regflow.stages.rasters.initialize import SceneStartEvaluator, align_scenes

GAPPED, HAZY, CLOUDED = "LE70350322012289EDC00", "LE70350322013131EDC00", "LE70350322011190EDC00"
"""Dates of the Landsat series: with the broken corrector's gaps, the faintest clear one, and clouds alone."""
STEERING = (0, 1)


def date(name: str, *, masked: bool = True) -> Image:
    """Near infrared of a date; what Fmask takes for land and water is valid, or all that was recorded."""
    folder = realdata.find_landsat_series()[name]
    values, grid = read_band(folder / f"{name}_b4.tif")
    classes, _ = read_band(folder / f"{name}_fmask.tif")
    recorded = np.isfinite(values) & np.isfinite(classes) & (classes != 255)
    return Image(values[None], grid, recorded & np.isin(classes, STEERING) if masked else recorded)


def after(image: Image, shift: tuple[float, float]) -> tuple[Image, Affine]:
    """Move a date; its gaps are continued first, so that a spline does not ring there."""
    from scipy.ndimage import distance_transform_edt

    truth = make_linear_truth(image.grid, np.array(shift))
    rows, cols = distance_transform_edt(~image.mask, return_distances=False, return_indices=True)
    whole = Image(image.channel[rows, cols][None], image.grid, image.mask)
    return move_linearly(whole, truth), truth


def error_px(found: Transform, truth: Transform, own: Transform, image: Image) -> float:
    """How far two dates' own offset and what is found after a known shift are apart, in pixels."""
    center = image.grid.center[None]
    moved_by = found.apply(center) - truth.apply(center) - (own.apply(center) - center)
    return float(np.linalg.norm(moved_by) / image.grid.spacing.max())


@pytest.mark.parametrize("name", [GAPPED, HAZY])
@pytest.mark.parametrize("shift", [(0.6, -0.3), (-2.4, 3.1)])
def test_a_small_date_full_of_gaps_is_found_and_trusted(name, shift):
    fixed, moving = date(SERIES_REFERENCE), date(name)
    settings = {"methods": ["phase-correlation", "gradient-correlation"]}
    own = align_scenes(fixed, moving, settings)
    other, truth = after(moving, shift)
    found = align_scenes(fixed, other, settings)
    assert error_px(found.transform, truth, own.transform, fixed) < 0.2
    assert found.verdict.status != "fail"


def test_clouds_alone_are_refused():
    with pytest.raises(RegistrationError, match="no shift stands out"):
        run("gradient-correlation", date(SERIES_REFERENCE), date(CLOUDED, masked=False))


def test_a_mask_without_a_valid_pixel_is_refused():
    with pytest.raises(RegistrationError, match="no valid pixel"):
        run("gradient-correlation", date(SERIES_REFERENCE), date(CLOUDED))


@pytest.mark.parametrize("shift", [(0.37, -0.21), (13.4, -41.7)])
def test_a_larger_scene_is_found_wherever_it_is(shift):
    moving, truth = moved("B04", shift)
    found = run("gradient-correlation", band("B04"), moving, model="translation")
    assert corner_error_px(found, truth, band("B04").grid) < 0.05
    assert not has_few_pixels(masked_image(band("B04"), "fixed"), masked_image(moving, "moving"), np.eye(3))


def test_inverted_contrast_is_left_to_other_methods():
    moving, _ = moved("B04", (3.0, -2.0))
    pair = masked_image(band("B04"), "fixed"), masked_image(moving.with_data(-moving.data), "moving")
    found = measure_gradient_shift(*pair, np.eye(3), 8)
    assert found is None or found.neg_log10_p < SURE


def test_scenes_that_do_not_overlap_have_no_shift_nearby():
    moving, _ = moved("B04", (3.0, -2.0))
    away = np.eye(3)
    away[0, 2] = 10 * 2 * moving.grid.size[0] * moving.grid.spacing[0]
    pair = masked_image(band("B04"), "fixed"), masked_image(moving, "moving")
    assert measure_gradient_shift(*pair, away, 8) is None


@pytest.mark.parametrize("shift", [(1.5, 0.0), (0.0, -4.0), (-20.0, 15.0)])
def test_the_gate_does_not_pass_a_small_scene_beside_its_place(shift):
    fixed, moving = (masked_image(date(name), name) for name in (SERIES_REFERENCE, GAPPED))
    judge = SceneStartEvaluator(fixed, moving, Affine.identity(2), {})
    right = measure_gradient_shift(fixed, moving, np.eye(3)).matrix
    wrong = right.copy()
    wrong[:2, 2] += np.array(shift) * fixed.grid.spacing.max()
    assert judge(MethodResult(Affine(right)))[0].status == "pass"
    assert judge(MethodResult(Affine(wrong)))[0].status == "fail"


@pytest.mark.parametrize(("correlation", "left"), [(0.6, 0.64), (0.0, 1.0), (-0.9, 1.0), (1.0, 1e-6)])
def test_information_is_what_gradients_leave_unexplained(correlation, left):
    found = GradientShift(np.eye(3), 0.0, correlation, 9.0, 0.1, 100 * PIXELS_EACH)
    assert found.information == pytest.approx(100 * np.log(left))


def test_the_run_s_seed_decides_about_windows(monkeypatch):
    seeds = []
    honest = linear_refinement.refine_linear

    def note(*arguments, seed):
        seeds.append(seed)
        return honest(*arguments, seed=seed)

    monkeypatch.setattr(linear_refinement, "refine_linear", note)
    one = date(SERIES_REFERENCE)
    other, _ = after(one, (0.7, -0.4))
    options = METHODS["gradient-correlation"].complete({"model": "affine"})
    gradient_correlation(one, other, Affine.identity(2), options, RunContext(seed=17))
    assert seeds == [17]


@pytest.mark.parametrize(("after_windows", "taken"), [(2.0, "after"), (0.5, "before"), (None, "windows")])
def test_a_small_scene_is_moved_by_what_leaves_least_unexplained(monkeypatch, after_windows, taken):
    one = date(SERIES_REFERENCE)
    matrices = {name: np.eye(3) + 1e-3 * k for k, name in enumerate(("before", "after", "windows"))}

    def answer(name: str, information: float) -> SimpleNamespace:
        return SimpleNamespace(matrix=matrices[name], information=information)

    windows = SimpleNamespace(matrix=matrices["windows"])

    def find(fixed, moving, matrix, reach):
        if matrix is not matrices["windows"]:
            return answer("before", 0.0)
        return None if after_windows is None else answer("after", -after_windows * linear_refinement.MARGIN)

    monkeypatch.setattr(linear_refinement, "find_significant_shift", find)
    monkeypatch.setattr(linear_refinement, "_by_windows", lambda *arguments: windows)
    monkeypatch.setattr(linear_refinement, "_as_a_whole", lambda fixed, moving, whole, reach: whole)
    found = linear_refinement.refine_linear(one, one, np.eye(3), "auto")
    assert found.matrix is matrices[taken]
