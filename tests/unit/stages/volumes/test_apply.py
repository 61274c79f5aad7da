"""Products: SimpleITK (and ANTs, where it is installed) make the same ones from our files."""

import csv
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

import regflow
from regflow.core.errors import InputError
from regflow.core.files import compute_sha256, read_json, write_json
from regflow.core.gate import Verdict
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.landmarks import Landmarks
from regflow.core.transform import Affine, Composite, DisplacementField
from regflow.io.landmarks import read_landmarks, write_landmarks
from regflow.io.transforms import read_transform, write_transform
from regflow.io.volumes import read_volume, write_volume
from regflow.stages.shell import Outcome, make_outcome, run_stage_work
from regflow.stages.volumes.apply import LABEL_MODES, OPTIONS, apply, map_landmarks, warp_image, warp_labels

# A header holds float32; at the far corner of a grid that is some 1e-5 mm.
HEADER_TOLERANCE = 1e-2
SITK = {
    "nearest": sitk.sitkNearestNeighbor,
    "linear": sitk.sitkLinear,
    "cubic": sitk.sitkBSpline,
    "lanczos": sitk.sitkLanczosWindowedSinc,
}


def smooth_field(grid, amplitude, seed=0):
    rng = np.random.default_rng(seed)
    noise = np.stack(
        [gaussian_filter(rng.normal(size=grid.shape), 4, mode="nearest") for _ in range(grid.ndim)]
    )
    return DisplacementField((noise * amplitude / np.abs(noise).max()).astype(np.float32), grid)


def oblique(degrees, signs=(1, 1, 1), order=(0, 1, 2)):
    angle = np.deg2rad(degrees)
    linear = np.array([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]])
    return (linear @ np.eye(3)[:, list(order)]) * np.array(signs)


def centered_on(center, shape, spacing, direction):
    grid = Grid.from_geometry(shape, spacing, (0, 0, 0), direction)
    return Grid.from_geometry(shape, spacing, np.asarray(center) - grid.center, direction)


def transform_on(grid, center):
    linear = oblique(8) @ np.diag([1.05, 0.97, 1.02])
    return Composite((smooth_field(grid, 6.0), Affine.from_parts(linear, [2.0, -3.0, 1.5], center)))


def peak(labels, label):
    return np.argwhere(labels == label).mean(axis=0)[::-1]


@dataclass
class Pair:
    """A sample as ingest and refine leave it on disk."""

    folder: Path
    fixed: Grid
    moving: Image
    flair: Image
    points: Landmarks
    fixed_points: Landmarks

    @property
    def forward(self) -> Path:
        return self.folder / "refine" / "s" / "transform.h5"

    def run(self, name="out", **settings) -> Outcome:
        manifests = (self.folder / "fixed.json", self.folder / "moving.json")
        return apply(
            self.folder / name,
            sample="s",
            manifests=manifests,
            refined=self.forward.parent,
            settings=settings,
        )


def write_manifest(folder, name, files, grid, volume=None):
    """Write what ingest would write."""
    sums = {
        part: {key: compute_sha256(p) for key, p in path.items()}
        if isinstance(path, dict)
        else compute_sha256(path)
        for part, path in files.items()
    }
    content = {
        "state": "done",
        "problems": [],
        "volume": volume,
        "modality": None,
        "grid": grid.to_dict(),
        "paths": files,
        "sha256": sums,
    }
    write_json(folder / f"{name}.json", content)


@pytest.fixture(scope="module")
def pair(tmp_path_factory, volume) -> Pair:
    """A flipped, anisotropic MNI brain (int16) on an oblique grid, with all that can follow it."""
    folder = tmp_path_factory.mktemp("pair")
    brain = volume("mni2009c", 3.0)
    center = brain.grid.center
    fixed = centered_on(center, (50, 60, 52), (3.5, 3.0, 3.2), oblique(15, (1, -1, 1)))
    where = centered_on(center, (40, 60, 66), (3.0, 3.5, 4.2), oblique(0, (-1, 1, -1), (2, 0, 1)))
    still = Affine.identity(3)
    data = warp_image(brain.with_data(np.rint(brain.data * 10).astype(np.int16)), where, still)
    labels = (data.channel > 200).astype(np.uint8) + (data.channel > 700) + (data.channel > 800)
    flair_grid = centered_on(center, (30, 40, 40), (5.0, 5.0, 5.0), oblique(-10))
    flair = warp_image(brain, flair_grid, still)
    rng = np.random.default_rng(0)
    points = Landmarks(("a", "b", "c", "d"), center + rng.uniform(-40, 40, (4, 3)))
    forward = transform_on(fixed, center)
    fixed_points = Landmarks(("e", "f"), center + rng.uniform(-30, 30, (2, 3)))
    files = {
        "fixed": {"image": warp_image(brain, fixed, still).channel},
        "moving": {"image": data.channel, "labels": labels},
        "flair": {"image": flair.channel},
    }
    paths: dict[str, dict[str, object]] = {}
    for name, grid in (("fixed", fixed), ("moving", where), ("flair", flair_grid)):
        paths[name] = {}
        for part, array in files[name].items():
            paths[name][part] = str(folder / f"{name}_{part}.nii.gz")
            write_volume(paths[name][part], array, grid)
    for name, marks in (("moving", points), ("fixed", fixed_points)):
        write_landmarks(folder / f"{name}.csv", marks)
    paths["moving"] |= {
        "landmarks": str(folder / "moving.csv"),
        "fixed_landmarks": str(folder / "fixed.csv"),
        "companions": {"flair": paths["flair"]["image"]},
    }
    write_manifest(folder, "fixed", paths["fixed"], fixed)
    write_manifest(folder, "moving", paths["moving"], where)

    def refined(out: Path) -> Outcome:
        write_transform(out / "transform.h5", forward)
        write_transform(out / "inverse.h5", forward.inverse())
        return make_outcome(Verdict("pass", "made for this test"))

    run_stage_work("refine", "s", folder / "refine" / "s", [], refined)
    moving = Image(data.data, where, labels=labels)
    pair = Pair(folder, fixed, moving, flair, points, fixed_points)
    assert pair.run(inverse=True).state == "done"
    return pair


def resampled_by_simpleitk(path, like, transform, interpolator, outside=0.0, kind=sitk.sitkFloat32):
    """Do what a user of SimpleITK would, from the files alone."""
    return sitk.GetArrayFromImage(
        sitk.Resample(
            sitk.Cast(sitk.ReadImage(str(path)), kind),
            sitk.ReadImage(str(like)),
            sitk.ReadTransform(str(transform)),
            interpolator,
            outside,
        )
    )


@pytest.mark.parametrize("interpolation", SITK)
def test_simpleitk_makes_the_same_image_from_the_file(pair, interpolation):
    original = pair.moving.with_data(pair.moving.data.astype(np.float32))
    path = pair.folder / "moving_float.nii.gz"
    write_volume(path, original.channel, original.grid)
    warped = warp_image(original, pair.fixed, read_transform(pair.forward), interpolation)
    theirs = resampled_by_simpleitk(
        path, pair.folder / "fixed_image.nii.gz", pair.forward, SITK[interpolation]
    )
    difference = np.abs(theirs - warped.channel)
    if interpolation == "nearest":
        assert np.mean(difference > 0) < 1e-4
    else:
        assert difference.max() < HEADER_TOLERANCE * max(1.0, np.abs(original.channel).max() / 255)
    assert warped.channel.std() > 50


def test_ants_makes_the_same_image_from_the_file(pair):
    ants = pytest.importorskip("ants")
    fixed, moving = (
        ants.image_read(str(pair.folder / f"{name}_image.nii.gz")) for name in ("fixed", "moving")
    )
    theirs = ants.apply_transforms(fixed, moving, [str(pair.forward)], interpolator="linear").numpy()
    ours = warp_image(
        pair.moving.with_data(pair.moving.data.astype(np.float32)), pair.fixed, read_transform(pair.forward)
    )
    assert np.abs(theirs.T - ours.channel).max() < 0.1


def test_products_are_what_the_functions_make(pair):
    transform = read_transform(pair.forward)
    out = pair.folder / "out"
    warped = read_volume(out / "warped.nii.gz")
    assert warped.data.dtype == np.int16
    assert warped.grid.matches(pair.fixed)
    exact = warp_image(pair.moving.with_data(pair.moving.data.astype(np.float64)), pair.fixed, transform)
    assert np.abs(warped.data - exact.data).max() <= 0.5 + HEADER_TOLERANCE
    labels = read_volume(out / "labels.nii.gz").channel
    expected = warp_labels(pair.moving.labels, pair.moving.grid, pair.fixed, transform)
    assert np.mean(labels != expected) < 1e-4
    flair = read_volume(out / "companions" / "flair.nii.gz")
    assert flair.grid.matches(pair.fixed)
    assert np.allclose(flair.data, warp_image(pair.flair, pair.fixed, transform).data, atol=HEADER_TOLERANCE)


def test_a_companion_on_its_own_grid_lands_where_the_image_does(pair):
    warped, flair = (
        read_volume(pair.folder / "out" / name).channel.astype(float)
        for name in ("warped.nii.gz", "companions/flair.nii.gz")
    )
    inside = warped > 200
    assert np.corrcoef(warped[inside], flair[inside])[0, 1] > 0.8


def test_a_companion_of_several_volumes_is_warped_volume_by_volume(pair, tmp_path):
    """A functional series on its own grid follows the transform of the anatomical image."""
    volumes = np.stack([pair.flair.channel * factor for factor in (1.0, 0.5, 2.0)]).astype(np.float32)
    lps_to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    series = nib.Nifti1Image(volumes.T, lps_to_ras @ pair.flair.grid.affine)
    series.header.set_zooms((*pair.flair.grid.spacing, 1.75))
    series.header.set_xyzt_units("mm", "sec")
    nib.save(series, tmp_path / "bold.nii.gz")
    manifest = read_json(pair.folder / "moving.json")
    manifest["paths"]["companions"] = {"bold": str(tmp_path / "bold.nii.gz")}
    manifest["sha256"]["companions"] = {"bold": compute_sha256(tmp_path / "bold.nii.gz")}
    write_json(tmp_path / "moving.json", manifest)
    outcome = apply(
        tmp_path / "out",
        sample="s",
        manifests=(pair.folder / "fixed.json", tmp_path / "moving.json"),
        refined=pair.forward.parent,
        settings={},
    )
    assert outcome.state == "done"
    product = nib.load(tmp_path / "out" / "companions" / "bold.nii.gz")
    assert product.shape == (*pair.fixed.size, 3)
    assert product.header.get_zooms()[3] == pytest.approx(1.75)
    assert product.header.get_xyzt_units() == ("mm", "sec")
    transform = read_transform(pair.forward)
    for index, volume in enumerate(volumes):
        warped = read_volume(tmp_path / "out" / "companions" / "bold.nii.gz", index).channel
        alone = warp_image(pair.flair.with_data(volume), pair.fixed, transform).channel
        assert np.abs(warped - alone).max() < HEADER_TOLERANCE * np.abs(volume).max()


def test_landmarks_go_by_the_inverse_and_agree_with_simpleitk(pair):
    moved = read_landmarks(pair.folder / "out" / "landmarks.csv")
    assert moved.names == pair.points.names
    inverse = sitk.ReadTransform(str(pair.forward.with_name("inverse.h5")))
    theirs = [inverse.TransformPoint(point.tolist()) for point in pair.points.points]
    assert np.allclose(moved.points, theirs, atol=1e-3)
    forward = sitk.ReadTransform(str(pair.forward))
    back = [forward.TransformPoint(point.tolist()) for point in moved.points]
    assert np.abs(np.array(back) - pair.points.points).max() < 0.15
    assert np.linalg.norm(moved.points - pair.points.points, axis=1).min() > 1
    fixed = read_landmarks(pair.folder / "out" / "inverse_landmarks.csv")
    theirs = [forward.TransformPoint(point.tolist()) for point in pair.fixed_points.points]
    assert np.allclose(fixed.points, theirs, atol=1e-3)


def test_a_landmark_stays_on_the_structure_it_marks(pair):
    """A ball drawn around a landmark, warped as a label map, must lie around the moved landmark."""
    transform = read_transform(pair.forward)
    grid = pair.moving.grid.with_spacing(2.0)
    point = pair.points.points[0]
    indices = np.moveaxis(np.indices(grid.shape), 0, -1)[..., ::-1]
    ball = (np.linalg.norm(grid.to_world(indices) - point, axis=-1) < 8).astype(np.uint8)
    warped = warp_labels(ball, grid, pair.fixed, transform, "smooth")
    center = pair.fixed.to_world(peak(warped, 1))
    moved = map_landmarks(Landmarks(("a",), point[None]), transform.inverse()).points[0]
    wrong = map_landmarks(Landmarks(("a",), point[None]), transform).points[0]
    assert np.linalg.norm(center - moved) < 1.0
    assert np.linalg.norm(center - wrong) > 3.0


def test_the_inverse_brings_the_fixed_image_to_the_moving_grid(pair):
    back = read_volume(pair.folder / "out" / "inverse_fixed.nii.gz")
    assert back.grid.matches(pair.moving.grid)
    theirs = resampled_by_simpleitk(
        pair.folder / "fixed_image.nii.gz",
        pair.folder / "moving_image.nii.gz",
        pair.forward.with_name("inverse.h5"),
        sitk.sitkLinear,
    )
    assert np.allclose(back.channel, theirs, atol=HEADER_TOLERANCE)
    there_and_back = warp_image(back, pair.fixed, read_transform(pair.forward))
    original = read_volume(pair.folder / "fixed_image.nii.gz")
    assert np.corrcoef(there_and_back.data.ravel(), original.data.ravel())[0, 1] > 0.98


def test_every_product_says_what_it_was_made_from(pair):
    out = pair.folder / "out"
    products = sorted(path for path in out.rglob("*") if path.suffix in (".gz", ".csv"))
    assert len(products) == 6
    for product in products:
        card = read_json(product.with_name(product.name.removesuffix(".gz").rsplit(".", 1)[0] + ".json"))
        assert card["source_sha256"] == compute_sha256(card["source"])
        assert card["versions"]["regflow"] == regflow.__version__
        assert card["transform"].startswith("refine/s/")
        pushed = product.suffix == ".csv"
        onto_fixed = not product.name.startswith("inverse_")
        expected = "transform.h5" if onto_fixed != pushed else "inverse.h5"
        assert card["transform"].endswith(expected), product.name
        space = "fixed" if onto_fixed else "moving"
        assert card["space_of"] == str(pair.folder / f"{space}_image.nii.gz")
    with (out / "landmarks.csv").open(encoding="utf-8") as stream:
        assert next(csv.reader(stream)) == ["name", "x", "y", "z"]


def test_equal_inputs_give_equal_bytes(pair):
    before = {path.name: compute_sha256(path) for path in (pair.folder / "out").glob("*.nii.gz")}
    assert pair.run("again", inverse=True).state == "done"
    assert {path.name: compute_sha256(path) for path in (pair.folder / "again").glob("*.nii.gz")} == before


def test_a_failed_refinement_leaves_no_product(pair, tmp_path):
    def refused(out: Path) -> Outcome:
        raise InputError("the moving image is blank")

    run_stage_work("refine", "s", tmp_path / "refine", [], refused)
    manifests = (pair.folder / "fixed.json", pair.folder / "moving.json")
    outcome = apply(
        tmp_path / "out", sample="s", manifests=manifests, refined=tmp_path / "refine", settings={}
    )
    assert (outcome.state, outcome.verdict.reason) == ("skipped", "the moving image is blank")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["stage.json"]


@pytest.mark.parametrize("mode", LABEL_MODES)
def test_labels_invent_no_value(pair, mode):
    transform = read_transform(pair.forward)
    labels = pair.moving.labels.astype(np.int32) * 1001
    warped = warp_labels(labels, pair.moving.grid, pair.fixed, transform, mode)
    assert set(np.unique(warped)) == set(np.unique(labels))
    assert warped.dtype == np.int32


def test_smooth_labels_vote_and_nearest_ones_do_not():
    grid = Grid.from_geometry((3, 3), (1.0, 1.0), (0.0, 0.0))
    labels = np.array([[0, 6, 6], [0, 0, 6], [0, 0, 6]])
    # The nearest sample is the middle one, of 0; its neighbors of 6 weigh more.
    there = Affine.from_parts(np.eye(2), [0.45, -0.45])
    taken = {mode: warp_labels(labels, grid, grid, there, mode)[1, 1] for mode in LABEL_MODES}
    assert taken == {"nearest": 0, "smooth": 6}


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [(np.uint8, 0, 255), (np.int16, -1024, 3071), (np.uint16, 0, 65535), (np.int32, -(2**30), 2**30)],
)
def test_integers_are_rounded_and_kept_in_range(kind, low, high):
    grid = Grid.from_geometry((12, 12, 12), (1, 1, 1), (0, 0, 0))
    data = np.random.default_rng(0).choice(np.array([low, high], dtype=kind), grid.shape)
    half = Affine.from_parts(np.eye(3), [0.5, 0, 0])
    image = Image(data[None], grid)
    linear = warp_image(image, grid, half).channel
    between = (data[..., :-1].astype(np.float64) + data[..., 1:]) / 2
    assert linear.dtype == kind
    assert np.abs(linear[..., :-1] - between).max() <= 0.5
    cubic = warp_image(image, grid, half, "cubic").channel
    overshooting = warp_image(image.with_data(data.astype(np.float64)), grid, half, "cubic").channel
    limits = np.iinfo(kind)
    assert overshooting.max() > high
    assert np.abs(cubic - np.clip(np.rint(overshooting), limits.min, limits.max)).max() <= 1


@pytest.mark.parametrize(("level", "kind"), [(0, "float32"), (-1024, "int16"), (255, "uint8")])
def test_what_lies_outside_is_the_images_own_background(level, kind):
    grid = Grid.from_geometry((12, 12, 12), (1, 1, 1), (0, 0, 0))
    data = np.full(grid.shape, level, kind)
    inner = np.random.default_rng(0).normal(0, 5, (6, 6, 6)) if kind != "uint8" else np.full((6, 6, 6), 90)
    data[3:9, 3:9, 3:9] = inner
    away = Affine.from_parts(np.eye(3), [100, 0, 0])
    image = Image(data[None], grid)
    assert np.all(warp_image(image, grid, away).data == level)
    assert np.all(warp_image(image, grid, away, outside=7.0).data == 7)


def test_every_channel_of_a_two_dimensional_image_is_warped():
    grid = Grid.from_geometry((20, 30), (1.0, 1.0), (0.0, 0.0))
    data = np.random.default_rng(0).random((3, *grid.shape), dtype=np.float32)
    shifted = warp_image(Image(data, grid), grid, Affine.from_parts(np.eye(2), [4, 2]))
    assert np.array_equal(shifted.data[:, :-2, :-4], data[:, 2:, 4:])


def test_unknown_choices_name_the_known_ones(pair):
    with pytest.raises(InputError, match="choose one of nearest, linear"):
        warp_image(pair.moving, pair.fixed, Affine.identity(3), "sinc")
    with pytest.raises(InputError, match="choose one of nearest, smooth"):
        warp_labels(pair.moving.labels, pair.moving.grid, pair.fixed, Affine.identity(3), "linear")
    assert OPTIONS["interpolation"]["default"] in SITK
