"""The initialize stage of scenes on disk: what it leaves, also of a pair that cannot be aligned."""

import numpy as np
import pytest
import rasterio
from raster_files import UTM33, smooth_texture, write_raster

from regflow.cohort.rasters.samples import FixedScene, RasterSample, Scene
from regflow.config.loading import load_config
from regflow.core.block_source import Block
from regflow.core.errors import InputError, RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine, Homography
from regflow.io.raster_transforms import read_fixed_grid, read_raster_transform
from regflow.io.rasters import read_raster_header
from regflow.methods.initialize.features.matching import is_mirrored
from regflow.methods.result import MethodResult
from regflow.stages.rasters import probes
from regflow.stages.rasters.ingest import ingest
from regflow.stages.rasters.initialize import SceneStartEvaluator, align_scenes, initialize
from regflow.stages.rasters.preprocess import preprocess
from regflow.stages.rasters.probes import ComparisonWindow
from regflow.stages.rasters.working import OVERVIEW_FILE, read_overview, write_overview
from regflow.stages.shell import STAGE_FILE, read_outcome, run_stage_work

PLACE = np.array([[10.0, 0, 330005], [0, -10, 5822035], [0, 0, 1]])
GRID = Grid((300, 320), PLACE, UTM33)
SHIFT_PX = np.array([7, -5])
SHIFT_M = SHIFT_PX * [10.0, -10.0]
SETTINGS = {"methods": ["phase-correlation"]}


@pytest.fixture
def prepared(tmp_path) -> tuple[str, str]:
    """Directories of preprocess; the moving scene's pixels lie :data:`SHIFT_PX` off their place."""
    texture = np.rint(smooth_texture((400, 420), 1, 1.5)).astype(np.uint16)
    corners = {"fixed": (40, 40), "moving": (40 - SHIFT_PX[1], 40 - SHIFT_PX[0])}
    for name, (row, col) in corners.items():
        part = texture[row : row + GRID.shape[0], col : col + GRID.shape[1]]
        write_raster(tmp_path / f"{name}.tif", part, grid=GRID)
    fixed = FixedScene("fixed", Scene(str(tmp_path / "fixed.tif")))
    moving = RasterSample("moving", Scene(str(tmp_path / "moving.tif")), fixed)
    settings = load_config({"kind": "rasters", "samples": "sheet.tsv"})["preprocess"]
    folders = []
    for subject, name, reference in ((fixed, "fixed", None), (moving, "moving", tmp_path / "p-fixed")):
        ingest(tmp_path / f"{name}.json", subject=subject)
        given = {"sample": name, "manifest": tmp_path / f"{name}.json", "settings": settings}
        preprocess(tmp_path / f"p-{name}", **given, reference=reference)
        folders.append(str(tmp_path / f"p-{name}"))
    return folders[0], folders[1]


def test_a_section_that_was_turned_over_is_told():
    texture = smooth_texture((220, 260), 4, 2).astype(np.float32)
    fixed, turned = texture[:200, :240], texture[10:210, 10:250][:, ::-1]
    plain, other = texture[10:210, 10:250], smooth_texture((200, 240), 5, 2).astype(np.float32)

    def image(values) -> Image:
        return Image(
            np.ascontiguousarray(values)[None], Grid(values.shape, np.eye(3)), np.ones(values.shape, bool)
        )

    seen = {n: is_mirrored(image(fixed), image(m), 0) for n, m in (("t", turned), ("p", plain), ("o", other))}
    assert seen == {"t": True, "p": False, "o": False}
    found = align_scenes(image(fixed), image(turned), SETTINGS)
    assert found.verdict.status == "fail"
    assert found.verdict.reason.startswith(
        "the moving image seems to be a mirror image of the fixed one; turn it"
    )
    assert "mirror" not in align_scenes(image(fixed), image(other), SETTINGS).verdict.reason


def test_a_brain_section_that_was_turned_over_is_told(mni_2mm):
    def section(values: np.ndarray) -> Image:
        return Image(values[None], Grid(values.shape, np.eye(3)), np.ones(values.shape, bool))

    whole = np.pad(mni_2mm.channel[35].astype(np.float32), 12)
    noise = np.random.default_rng(0).normal(0, 0.05 * whole.max(), whole.shape).astype(np.float32)
    right, settings = np.roll(whole, (3, -4), (0, 1)) + noise, {"methods": ["mutual-information"]}
    told = {
        name: align_scenes(section(whole), section(moving), settings).verdict
        for name, moving in (("right", right), ("turned", np.ascontiguousarray(right[:, ::-1])))
    }
    assert told["right"].figures["mirror_gain_sigmas"] < -4
    assert "mirrored" not in told["right"].reason
    assert told["turned"].figures["mirror_gain_sigmas"] > 4
    assert told["turned"].status == "warn"
    assert "fits clearly better when it is mirrored left for right" in told["turned"].reason


def test_the_stage_leaves_the_transform_and_its_displacement(tmp_path, prepared):
    outcome = initialize(tmp_path / "out", sample="one", prepared=prepared, settings=SETTINGS)
    assert (outcome.state, outcome.verdict.status) == ("done", "pass")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("transform.json", "displacement.tif", STAGE_FILE)
    }
    corner = GRID.to_world([[0, 0], [319, 299]])
    found = read_raster_transform(tmp_path / "out").apply(corner) - corner
    assert np.abs(found - SHIFT_M).max() < 0.5
    assert read_fixed_grid(tmp_path / "out").crs == UTM33
    with rasterio.open(tmp_path / "out" / "displacement.tif") as displacement:
        means = displacement.read().mean(axis=(1, 2))
    assert np.abs(means - SHIFT_M).max() < 0.5
    stage = read_outcome(tmp_path / "out")
    assert stage.details["method"] == "phase-correlation"
    assert "seconds" in stage.steps[0]


def test_threads_change_no_byte_and_an_earlier_result_is_replaced(tmp_path, prepared):
    contents = []
    for threads in (1, 2):
        initialize(tmp_path / "out", sample="one", prepared=prepared, settings=SETTINGS, threads=threads)
        names = ("transform.json", "displacement.tif")
        contents.append([(tmp_path / "out" / name).read_bytes() for name in names])
    assert contents[0] == contents[1]


def test_a_hopeless_pair_leaves_its_reason_alone(tmp_path, prepared):
    flat = Image(np.full((1, *GRID.shape), 7, np.float32), GRID)
    write_overview(f"{prepared[1]}/{OVERVIEW_FILE}", flat)
    outcome = initialize(tmp_path / "out", sample="one", prepared=prepared, settings=SETTINGS)
    assert (outcome.state, outcome.verdict.status) == ("error", "fail")
    assert "constant" in outcome.verdict.reason
    assert [path.name for path in (tmp_path / "out").iterdir()] == [STAGE_FILE]


def test_between_unrelated_scenes_the_georeference_stands_and_fails(tmp_path, prepared):
    other = smooth_texture(GRID.shape, 5, 1.5).astype(np.float32)
    write_overview(f"{prepared[1]}/{OVERVIEW_FILE}", Image(other[None], GRID))
    outcome = initialize(tmp_path / "out", sample="one", prepared=prepared, settings=SETTINGS)
    assert (outcome.state, outcome.verdict.status) == ("done", "fail")
    assert outcome.details == {"method": "header", "kept": True}
    assert outcome.steps[-1]["name"] == "header"
    assert "phase-correlation: " in outcome.verdict.reason
    corner = GRID.to_world([[0, 0], [319, 299]])
    np.testing.assert_array_equal(read_raster_transform(tmp_path / "out").apply(corner), corner)


def test_a_mirrored_map_is_never_a_candidate(prepared):
    fixed, moving = (read_overview(path) for path in prepared)
    examine = SceneStartEvaluator(fixed, moving, Affine.identity(2), {})
    mirrored = Affine.from_parts(np.diag([-1.0, 1.0]), np.zeros(2), GRID.center)
    with pytest.raises(RegistrationError, match="mirrors"):
        examine(MethodResult(mirrored))
    # Its middle keeps its orientation, but a part of the scene lies beyond its horizon.
    slope = -1.0 / (0.4 * GRID.shape[1] * 10)
    folding = Homography([[1, 0, 0], [0, 1, 0], [slope, 0, 1]], tuple(GRID.center))
    with pytest.raises(RegistrationError, match="mirrors"):
        examine(MethodResult(folding))


def test_a_pair_whose_scene_failed_before_is_skipped_with_its_reason(tmp_path, prepared):
    def refuse(_):
        raise InputError("no.tif: this file does not exist; correct the path")

    run_stage_work("preprocess", "moving", prepared[1], [], refuse)
    outcome = initialize(tmp_path / "out", sample="one", prepared=prepared, settings=SETTINGS)
    assert (outcome.state, outcome.verdict.reason) == (
        "skipped",
        "no.tif: this file does not exist; correct the path",
    )


def test_an_unknown_method_is_named(tmp_path, prepared):
    outcome = initialize(tmp_path / "out", sample="one", prepared=prepared, settings={"methods": ["shift"]})
    assert outcome.state == "error"
    assert "unknown method 'shift'" in outcome.verdict.reason


@pytest.mark.parametrize(("modality", "band"), [("SAR", "SAR"), ("", "compared")])
def test_an_overview_names_what_it_shows(modality, band, tmp_path):
    image = Image(np.ones((1, 4, 5), np.float32), Grid((4, 5), np.eye(3)), modality=modality)
    write_overview(tmp_path / "overview.tif", image)
    assert [each.name for each in read_raster_header(tmp_path / "overview.tif").bands] == [band, "mask"]


def test_plain_surroundings_count_in_neither_window():
    picture = np.full((96, 96), 10.0, np.float32)
    inner = slice(30, 66)
    picture[inner, inner] += smooth_texture((36, 36), 2, 1.0)[:36, :36]
    everywhere = np.ones(picture.shape, bool)
    part = slice(0, 96)
    window = ComparisonWindow(
        Block(picture[None], everywhere),
        part,
        part,
        Image(picture[None], Grid(picture.shape, np.eye(3)), everywhere),
        (0, 0),
    )
    for least, known in ((0.05, True), (0.9, False)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(probes, "LEAST_VALID", least)
            left = probes._without_surroundings(window)
        assert (left is not None) is known
        if left is not None:
            for valid in (left.fixed.valid, left.moving.mask):
                assert valid[40:56, 40:56].all()
                assert not valid[:10].any()
