"""The initialize stage: what passes its gate, what does not, and what it leaves on disk."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from regflow.core.errors import InputError, RegistrationError
from regflow.core.gate import Verdict
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.resample import resample_image
from regflow.core.transform import Affine
from regflow.io.transforms import read_transform
from regflow.methods.initialize.moments import measure_mass
from regflow.methods.result import MethodResult
from regflow.stages.shell import STAGE_FILE, make_outcome, read_outcome, run_stage_work
from regflow.stages.volumes.initialize import LIMITS, VolumeStartEvaluator, align_volumes, initialize
from regflow.stages.volumes.working import write_working

SETTINGS = {"methods": ["mutual-information"]}
STARTS = 8


@pytest.fixture(scope="module")
def right(mni_4mm, mni6_4mm) -> Affine:
    found = align_volumes(mni_4mm, mni6_4mm, SETTINGS).transform
    assert isinstance(found, Affine)
    return found


def moved(image: Image, seed: int, degrees: float, shift_mm: float) -> tuple[Image, Affine]:
    """Carry an image's header away; return it with the map from old to new places."""
    rng = np.random.default_rng(seed)
    axis, way = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
    turn = Rotation.from_rotvec(axis * np.deg2rad(degrees)).as_matrix()
    pose = Affine.from_parts(turn, way * shift_mm, image.grid.center)
    grid = Grid(image.grid.shape, pose.matrix @ image.grid.affine)
    return Image(image.data, grid, image.mask), pose


def error_mm(found: Affine, truth: Affine, fixed: Image) -> float:
    points = fixed.grid.to_world(np.argwhere(fixed.mask)[::7, ::-1])
    return float(np.linalg.norm(found.apply(points) - truth.apply(points), axis=1).mean())


@pytest.mark.parametrize("seed", range(STARTS))
def test_far_starts_of_another_brain_end_in_one_place_and_pass(mni_4mm, mni6_4mm, right, seed):
    rng = np.random.default_rng(100 + seed)
    moving, pose = moved(mni6_4mm, seed, rng.uniform(20, 40), rng.uniform(30, 60))
    found = align_volumes(mni_4mm, moving, SETTINGS)
    assert error_mm(found.transform, Affine(pose.matrix @ right.matrix), mni_4mm) < 0.2
    assert found.verdict.status == "pass"


def test_a_left_handed_image_meters_away_ends_in_the_same_place(mni_4mm, mni6_4mm, right):
    away = Affine.from_parts(np.eye(3), [1500.0, -800.0, 4000.0])
    last = mni6_4mm.grid.size[0] - 1
    backwards = mni6_4mm.grid.affine @ Affine.from_parts(np.diag([-1.0, 1, 1]), [last, 0, 0]).matrix
    grid = Grid(mni6_4mm.grid.shape, away.matrix @ backwards)
    assert np.linalg.det(grid.affine) * np.linalg.det(mni6_4mm.grid.affine) < 0
    flipped = Image(mni6_4mm.data[..., ::-1].copy(), grid, mni6_4mm.mask[..., ::-1].copy())
    found = align_volumes(mni_4mm, flipped, SETTINGS)
    assert error_mm(found.transform, Affine(away.matrix @ right.matrix), mni_4mm) < 0.2
    assert found.verdict.status == "pass"


@pytest.mark.parametrize("method", ["header", "moments"])
@pytest.mark.parametrize("seed", range(3))
def test_a_wrong_pose_does_not_pass(mni_4mm, mni6_4mm, method, seed):
    moving, _ = moved(mni6_4mm, seed, degrees=25, shift_mm=30)
    found = align_volumes(mni_4mm, moving, {"methods": [method]})
    assert found.verdict.status == "fail"


def test_the_gate_tells_a_flip_that_overlaps_well(mni_4mm, mni6_4mm, right):
    flip = Affine.from_parts(np.diag([-1.0, -1.0, 1.0]), np.zeros(3), measure_mass(mni_4mm)[0])
    verdict, _ = VolumeStartEvaluator(mni_4mm, mni6_4mm, right, {})(
        MethodResult(Affine(right.matrix @ flip.matrix))
    )
    assert verdict.figures["overlap_dice"] > 0.75
    assert verdict.status == "fail"
    assert "second_peak_ratio" in verdict.reason


@pytest.mark.parametrize("degrees", [8, 12, 18, 30])
def test_the_gate_tells_a_pose_that_is_turned(mni_4mm, mni6_4mm, right, degrees):
    turn = Rotation.from_rotvec(np.deg2rad(degrees) * np.array([0.6, 0.0, 0.8])).as_matrix()
    turned = Affine(right.matrix @ Affine.from_parts(turn, np.zeros(3), mni_4mm.grid.center).matrix)
    verdict, _ = VolumeStartEvaluator(mni_4mm, mni6_4mm, right, {})(MethodResult(turned))
    assert verdict.status == "fail"


def test_the_gate_bounds_scale(mni_4mm, mni6_4mm, right):
    squeezed = Affine(right.matrix @ Affine.from_parts(np.diag([0.5, 1, 1]), np.zeros(3)).matrix)
    verdict, _ = VolumeStartEvaluator(mni_4mm, mni6_4mm, right, {})(MethodResult(squeezed))
    assert verdict.figures["scale_min"] < 0.6
    assert verdict.status == "fail"


def test_a_mirrored_map_is_never_a_candidate(mni_4mm, mni6_4mm, right):
    mirror = Affine.from_parts(np.diag([-1.0, 1.0, 1.0]), np.zeros(3), measure_mass(mni_4mm)[0])
    with pytest.raises(RegistrationError, match="mirrors"):
        VolumeStartEvaluator(mni_4mm, mni6_4mm, right, {})(MethodResult(Affine(right.matrix @ mirror.matrix)))


@pytest.mark.slow
def test_headers_that_are_as_good_as_what_is_rejected_stand(mni_4mm):
    rng = np.random.default_rng(1)
    noise = Image(rng.normal(size=mni_4mm.data.shape).astype(np.float32), mni_4mm.grid, mni_4mm.mask)
    found = align_volumes(mni_4mm, noise, SETTINGS)
    assert (found.method, found.kept) == ("header", True)
    assert found.verdict.status in ("warn", "fail")
    assert "header, which stands (mutual-information: " in found.verdict.reason
    np.testing.assert_array_equal(found.transform.matrix, np.eye(4))


def test_limits_of_the_settings_replace_the_stage_s_own(mni_4mm, mni6_4mm, right):
    strict = {"nmi": {"fail_below": 1.9}}
    verdict, _ = VolumeStartEvaluator(mni_4mm, mni6_4mm, right, strict)(MethodResult(right))
    assert verdict.status == "fail"
    assert verdict.reason.startswith("nmi is")


@pytest.mark.slow
def test_noise_that_fits_nowhere_does_not_pass(mni_4mm):
    rng = np.random.default_rng(0)
    noise = Image(rng.normal(size=mni_4mm.data.shape).astype(np.float32), mni_4mm.grid)
    assert align_volumes(mni_4mm, noise, SETTINGS).verdict.status == "fail"


def test_the_ladder_goes_on_when_the_gate_rejects(mni_4mm, mni6_4mm):
    moving, _ = moved(mni6_4mm, 0, degrees=35, shift_mm=40)
    found = align_volumes(mni_4mm, moving, {"methods": ["moments", "mutual-information"]})
    assert found.method == "mutual-information"
    assert [step["verdict"]["status"] for step in found.steps] == ["fail", "pass"]


def test_an_unknown_method_is_named_with_its_nearest(mni_4mm):
    with pytest.raises(InputError, match="did you mean 'moments'"):
        align_volumes(mni_4mm, mni_4mm, {"methods": ["moment"]})


def test_when_no_method_can_all_reasons_are_told(mni_4mm):
    constant = mni_4mm.with_data(np.full(mni_4mm.grid.shape, 7, np.float32))
    with pytest.raises(RegistrationError, match=r"no method gave a transform.*constant"):
        align_volumes(mni_4mm, constant, SETTINGS)


@pytest.fixture
def prepared(tmp_path, mni_4mm, mni6_4mm) -> tuple[str, str]:
    folders = []
    for name, image in (("fixed", mni_4mm), ("moving", mni6_4mm)):

        def write(folder, image=image):
            write_working(folder, image)
            return make_outcome(Verdict("pass", ""))

        run_stage_work("preprocess", name, tmp_path / name, [], write)
        folders.append(str(tmp_path / name))
    return folders[0], folders[1]


def test_the_stage_leaves_a_transform_that_simpleitk_reads(tmp_path, prepared, mni_4mm, right):
    outcome = initialize(tmp_path / "out", sample="one", prepared=prepared, settings=SETTINGS)
    assert outcome.state == "done"
    assert outcome.verdict.status == "pass"
    found = read_transform(tmp_path / "out" / "transform.h5")
    assert error_mm(found, right, mni_4mm) < 1e-6
    point = [10.0, -20.0, 5.0]
    there = sitk.ReadTransform(str(tmp_path / "out" / "transform.h5")).TransformPoint(point)
    np.testing.assert_allclose(there, right.apply([point])[0], atol=1e-9)
    assert "seconds" in read_outcome(tmp_path / "out").steps[0]


def test_a_hopeless_sample_leaves_its_reason_alone(tmp_path, prepared, mni6_4mm):
    constant = mni6_4mm.with_data(np.full(mni6_4mm.grid.shape, 7, np.float32))
    write_working(prepared[1], constant)
    outcome = initialize(tmp_path / "out", sample="one", prepared=prepared, settings=SETTINGS)
    assert outcome.state == "error"
    assert "constant" in outcome.verdict.reason
    assert [path.name for path in (tmp_path / "out").iterdir()] == [STAGE_FILE]


def resized(image: Image, volume_factor: float) -> tuple[Image, Affine]:
    change = Affine.from_parts(volume_factor ** (1 / 3) * np.eye(3), [10, 5, -8], image.grid.center)
    return Image(image.data, Grid(image.grid.shape, change.matrix @ image.grid.affine), image.mask), change


@pytest.mark.parametrize(
    "volume_factor",
    [0.1, pytest.param(0.23, marks=pytest.mark.slow), pytest.param(5.0, marks=pytest.mark.slow)],
)
def test_a_size_that_both_masks_show_passes(mni_4mm, mni6_4mm, right, volume_factor):
    other, change = resized(mni6_4mm, volume_factor)
    found = align_volumes(mni_4mm, other, SETTINGS)
    assert found.verdict.status == "pass"
    assert error_mm(found.transform, Affine(change.matrix @ right.matrix), mni_4mm) < 0.5
    figures = found.verdict.figures
    whole = figures["size_change"] * figures["determinant"]
    assert whole == pytest.approx(np.linalg.det(found.transform.linear))


@pytest.mark.parametrize("volume_factor", [pytest.param(0.15, marks=pytest.mark.slow), 6.0])
@pytest.mark.parametrize("masked", [True, False])
def test_a_size_that_no_mask_shows_fails(mni_4mm, mni6_4mm, right, volume_factor, masked):
    _, change = resized(mni6_4mm, volume_factor)
    wrong = Affine(change.matrix @ right.matrix)
    pair = (mni_4mm, mni6_4mm) if masked else (mni_4mm.with_mask(None), mni6_4mm.with_mask(None))
    verdict, _ = VolumeStartEvaluator(*pair, right, {})(MethodResult(wrong))
    assert verdict.status == "fail"
    assert not LIMITS["determinant"]["fail_below"] < verdict.figures["determinant"] < 3.0


def test_a_mask_that_the_view_cuts_confirms_no_size(mni_4mm, mni6_4mm, right):
    lower = mni6_4mm.mask.copy()
    lower[20:] = False
    part = Image(mni6_4mm.data[:, :20], Grid((20, *lower.shape[1:]), mni6_4mm.grid.affine), lower[:20])
    verdict, _ = VolumeStartEvaluator(mni_4mm, part, right, {})(MethodResult(right))
    assert verdict.figures["size_change"] == 1


def test_a_start_without_anything_in_common_is_no_failure(mni_4mm, mni6_4mm):
    grid = mni_4mm.grid
    low = np.minimum(grid.to_world([0, 0, 0]), grid.to_world(np.array(grid.size) - 1))
    wide = Grid.from_geometry((115, 60, 60), (4, 4, 4), low.tolist())
    far = resample_image(mni6_4mm, wide, Affine.from_parts(np.eye(3), [0, 0, -220]))
    far = far.with_mask(far.channel > 0.02 * far.channel.max())
    found = align_volumes(mni_4mm, far, SETTINGS)
    assert found.verdict.status == "pass"
    assert "nmi_change" not in found.verdict.figures


def test_masks_are_compared_over_the_whole_fixed_mask_unless_the_view_cuts_the_other(mni_4mm):
    """Half of the fixed brain lies beyond the moving image, whose own mask ends before its border."""
    brain = mni_4mm.mask
    middle = brain.shape[2] // 2
    seen = slice(0, middle)
    grid = Grid((*brain.shape[:2], middle), mni_4mm.grid.affine)
    mask = brain[:, :, seen].copy()
    cut = Image(mni_4mm.data[..., seen], grid, mask.copy())
    mask[:, :, -3:] = False
    own = Image(mni_4mm.data[..., seen], grid, mask)

    def overlap(moving: Image) -> float:
        examine = VolumeStartEvaluator(mni_4mm, moving, Affine.identity(3), {})
        return examine(MethodResult(Affine.identity(3)))[0].figures["overlap_dice"]

    share = mask.sum() / brain.sum()
    assert overlap(own) == pytest.approx(2 * share / (1 + share), abs=0.05)
    assert overlap(cut) > 0.9


def test_without_a_moving_mask_no_overlap_is_told(mni_4mm):
    bare = mni_4mm.with_mask(None)
    examine = VolumeStartEvaluator(mni_4mm, bare, Affine.identity(3), {})
    assert "overlap_dice" not in examine(MethodResult(Affine.identity(3)))[0].figures
