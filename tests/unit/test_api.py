"""The package as people import it: types in and out, known truth, bad input."""

import doctest
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import rasterio
import SimpleITK as sitk
from raster_files import UTM33, smooth_texture
from rasterio.io import MemoryFile
from scipy.ndimage import gaussian_filter

import regflow as rf
from regflow.core.itk import to_sitk
from regflow.core.resample import read_sitk_grid, resample_image, to_sitk_image
from regflow.io.raster_files import write_raster
from regflow.io.rasters import compute_geotransform
from regflow.io.volumes import read_volume, write_volume
from regflow.pipeline.exchange import load_product, read_content, store_image

RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
BRIGHT = 70
QUICK = {"initialize": "moments", "refine": "none"}
QUICK_SCENES = {"initialize": "phase-correlation", "refine": "none"}
SHIFT_MM = np.array([9.0, -7.0, 6.0])
SHIFT_PX = np.array([5.0, 3.0])


def oblique_grid(shape, center) -> rf.Grid:
    """Return a grid turned by 20 degrees about z, of three different spacings."""
    angle = np.deg2rad(20)
    turn = np.eye(3)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    grid = rf.Grid.from_geometry(shape, (5.0, 5.5, 6.0), (0, 0, 0), turn)
    return rf.Grid.from_geometry(shape, (5.0, 5.5, 6.0), center - grid.center, turn)


@pytest.fixture(scope="module")
def volumes(volume) -> dict[str, rf.Image]:
    """A real brain, and the same one shifted by a known vector, on an oblique grid of another spacing."""
    fixed = volume("mni2009c", 5.0)
    fixed = rf.Image(fixed.data, fixed.grid)
    grid = oblique_grid((36, 46, 44), fixed.grid.center + SHIFT_MM)
    moved = resample_image(fixed, grid, rf.Affine.from_parts(np.eye(3), -SHIFT_MM))
    return {"fixed": fixed, "moving": moved}


@pytest.fixture(scope="module")
def scenes() -> dict[str, rf.Image]:
    """A fixed and a moving scene of 10 m pixels: the same ground, five columns and three rows apart."""
    ground = smooth_texture((240, 260), seed=3, sigma=1.5).astype(np.float32)
    grid = rf.Grid((200, 220), np.array([[10.0, 0, 5e5], [0, -10.0, 5.8e6], [0, 0, 1]]), UTM33)
    fixed, moving = ground[20:220, 20:240], ground[17:217, 15:235]
    return {"fixed": rf.Image(fixed[None], grid), "moving": rf.Image(moving[None], grid)}


def as_nibabel(image: rf.Image) -> nib.Nifti1Image:
    return nib.Nifti1Image(image.channel.T.copy(), RAS @ image.grid.affine)


def as_simpleitk(image: rf.Image) -> sitk.Image:
    return to_sitk_image(image.channel, image.grid)


def as_dataset(image: rf.Image, folder: Path) -> rasterio.DatasetReader:
    path = folder / f"{id(image)}.tif"
    write_raster(path, image.data, image.grid, nodata=float("nan"))
    return rasterio.open(path)


def as_memory_dataset(image: rf.Image) -> rasterio.DatasetReader:
    profile = {"crs": image.grid.crs, "transform": compute_geotransform(image.grid), "dtype": "float32"}
    memory = MemoryFile()
    with memory.open(driver="GTiff", count=1, height=200, width=220, nodata=np.nan, **profile) as target:
        target.write(image.data)
    return memory.open()


def as_xarray(image: rf.Image, *, crs: bool = True):
    xarray = pytest.importorskip("xarray")
    rows, columns = image.grid.shape
    x = image.grid.to_world([[n, 0] for n in range(columns)])[:, 0]
    y = image.grid.to_world([[0, n] for n in range(rows)])[:, 1]
    made = xarray.DataArray(image.channel, {"y": y, "x": x}, ("y", "x"), name="red", attrs={"unit": "1"})
    if not crs:
        return made
    return made.assign_coords(spatial_ref=((), 0, {"crs_wkt": image.grid.crs}))


# --- what an import costs, and what it offers


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, regflow; print(sorted({m.partition('.')[0] for m in sys.modules}))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    heavy = {"numpy", "scipy", "SimpleITK", "nibabel", "rasterio", "torch", "itk", "numba", "click", "yaml"}
    assert "'regflow'" in told
    assert not {name for name in heavy if f"'{name}'" in told}


def test_every_public_name_is_there_documented_and_in_the_stub():
    import ast

    stub = ast.parse((Path(rf.__file__).parent / "__init__.pyi").read_text(encoding="utf-8"))
    typed = {alias.name for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed == set(rf.__all__) == set(rf._PLACES)
    assert set(rf.__all__) <= set(dir(rf))
    for name in rf.__all__:
        assert (getattr(rf, name).__doc__ or "").strip(), name
    with pytest.raises(AttributeError, match="no attribute 'regster'"):
        _ = rf.regster


@pytest.mark.parametrize("name", ["regflow", "regflow.api"])
def test_the_examples_of_the_docstrings_hold(name):
    from importlib import import_module

    tried = doctest.testmod(import_module(name))
    assert tried.attempted
    assert not tried.failed


# --- types in and out, without a registration


def volume_types(image: rf.Image) -> dict:
    return {
        "nibabel": as_nibabel(image),
        "SimpleITK": as_simpleitk(image),
        "Image": image,
        "float16": image.with_data(image.data.astype(np.float16)),
        "int64": image.with_data(image.data.astype(np.int64)),
        "bool": image.with_data(image.data > BRIGHT),
    }


def content_of(made) -> tuple[np.ndarray, rf.Grid]:
    """Return samples and grid of a volume of any type."""
    if isinstance(made, sitk.Image):
        return sitk.GetArrayFromImage(made), read_sitk_grid(made)
    if isinstance(made, rf.Image):
        return made.channel, made.grid
    affine = RAS @ made.affine
    return np.asanyarray(made.dataobj).T, rf.Grid(made.shape[::-1], affine)


@pytest.mark.parametrize("name", ["nibabel", "SimpleITK", "Image", "float16", "int64", "bool"])
def test_a_volume_goes_through_a_file_and_back_unchanged(volumes, tmp_path, name):
    given = volume_types(volumes["moving"])[name]
    stored = store_image(given, tmp_path, "moving")
    back = load_product(stored.path, given)
    values, grid = content_of(given)
    again, placed = content_of(back)
    assert type(back) is type(given)
    assert again.dtype == values.dtype
    assert np.array_equal(again, values)
    assert np.abs(placed.affine - grid.affine).max() < 1e-12
    assert stored.kind == "volumes"


def test_a_nibabel_image_in_micrometers_is_placed_in_millimeters(volumes, tmp_path):
    given = as_nibabel(volumes["moving"])
    given.header.set_xyzt_units("micron")
    stored = store_image(given, tmp_path, "moving")
    assert np.allclose(read_volume(stored.path).grid.spacing, [0.005, 0.0055, 0.006])


def test_a_freesurfer_image_comes_back_as_one(volumes, tmp_path):
    image = volumes["moving"]
    given = nib.MGHImage(image.channel.T.copy(), RAS @ image.grid.affine)
    back = load_product(store_image(given, tmp_path, "moving").path, given)
    assert isinstance(back, nib.MGHImage)
    assert np.allclose(back.affine, given.affine, atol=1e-4)
    assert np.array_equal(np.asanyarray(back.dataobj), image.channel.T)


@pytest.mark.parametrize("crs", [True, False])
@pytest.mark.parametrize("bands", [1, 3])
def test_a_data_array_goes_through_a_file_and_back(scenes, tmp_path, crs, bands):
    xarray = pytest.importorskip("xarray")
    given = as_xarray(scenes["moving"], crs=crs)
    if bands > 1:
        given = xarray.concat([given * n for n in range(bands)], xarray.Variable("band", [1, 2, 3]))
    given = given.where(given > 800)
    stored = store_image(given, tmp_path, "moving")
    back = load_product(stored.path, given)
    assert stored.kind == "rasters"
    assert (back.attrs, back.name, back.dtype) == (given.attrs, given.name, given.dtype)
    xarray.testing.assert_allclose(
        *(made.drop_vars("spatial_ref", errors="ignore") for made in (back, given))
    )
    with rasterio.open(stored.path) as written:
        assert (written.crs is not None) == crs
        assert written.transform.almost_equals(compute_geotransform(scenes["moving"].grid))


def test_rio_places_a_data_array_without_coordinates(scenes, tmp_path):
    pytest.importorskip("rioxarray")
    image = scenes["moving"]
    given = as_xarray(image, crs=False).drop_vars(["x", "y"])
    given = given.rio.write_crs(image.grid.crs).rio.write_transform(compute_geotransform(image.grid))
    given = given.rio.write_nodata(-9999.0)
    with rasterio.open(store_image(given, tmp_path, "moving").path) as written:
        assert written.crs == rasterio.crs.CRS.from_wkt(image.grid.crs)
        assert written.transform.almost_equals(compute_geotransform(image.grid))
        assert written.nodata == -9999.0
    given = as_xarray(image)
    back = load_product(store_image(given, tmp_path, "again").path, given)
    assert back.rio.crs == rasterio.crs.CRS.from_wkt(image.grid.crs)
    assert back.rio.transform(recalc=True).almost_equals(compute_geotransform(image.grid))


def test_a_masked_array_keeps_its_mask(tmp_path):
    values = np.ma.masked_greater(np.arange(600, dtype=np.int16).reshape(20, 30), 500)
    stored = store_image(values, tmp_path, "moving")
    hidden = rasterio.open(stored.parts["mask"]).read(1) == 0
    assert np.array_equal(hidden, values.mask)


def test_four_bands_of_bytes_are_four_bands(tmp_path):
    data = np.random.default_rng(0).integers(0, 255, (4, 20, 30)).astype(np.uint8)
    data[3, :10] = 0
    image = rf.Image(data, rf.Grid((20, 30), np.eye(3)))
    back = load_product(store_image(image, tmp_path, "moving").path, image)
    assert np.array_equal(back.data, data)
    assert back.mask.all()


# --- volumes registered


@pytest.fixture(scope="module")
def by_path(volumes, tmp_path_factory):
    """The pair registered from files."""
    folder = tmp_path_factory.mktemp("files")
    for name, image in volumes.items():
        write_volume(folder / f"{name}.nrrd", image.channel, image.grid)
    labels = (volumes["moving"].channel > BRIGHT).astype(np.uint8)
    return rf.register(
        folder / "fixed.nrrd",
        str(folder / "moving.nrrd"),
        moving_labels=labels,
        companions={"twice": volumes["moving"].with_data(2 * volumes["moving"].data)},
        output=folder / "aligned",
        **QUICK,
    )


def test_the_known_shift_of_volumes_is_found(by_path, volumes):
    points = volumes["fixed"].grid.to_world([[19.0, 23, 19], [10, 30, 14]])
    assert np.abs(by_path.transform.apply(points) - points - SHIFT_MM).max() < 1.0
    assert np.abs(by_path.inverse.apply(by_path.transform.apply(points)) - points).max() < 0.01
    assert by_path.figures["ncc_refine"] > 0.95 > by_path.figures["ncc_start"]
    assert by_path.verdict.status in ("pass", "warn", "fail")


def test_simpleitk_applies_the_transform_to_the_same_image(by_path, volumes):
    fixed, moving = (as_simpleitk(volumes[name]) for name in ("fixed", "moving"))
    again = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, to_sitk(by_path.transform), sitk.sitkLinear))
    warped = read_volume(by_path.warped).channel
    inside = slice(3, -3), slice(3, -3), slice(3, -3)
    assert isinstance(by_path.warped, Path)
    assert np.abs(again - warped)[inside].max() < 1e-2


def test_labels_and_companions_come_back_in_their_own_types(by_path, volumes):
    warped = read_volume(by_path.warped).channel
    assert isinstance(by_path.labels, np.ndarray)
    assert by_path.labels.dtype == np.uint8
    overlap = (by_path.labels > 0) & (warped > BRIGHT)
    assert overlap.sum() > 0.8 * (warped > BRIGHT).sum() > 0
    twice = by_path.companions["twice"]
    assert isinstance(twice, rf.Image)
    assert np.abs(twice.channel - 2 * warped)[3:-3, 3:-3, 3:-3].max() < 0.5


@pytest.mark.parametrize("name", ["nibabel", "SimpleITK"])
def test_types_of_volumes_give_what_paths_give(volumes, by_path, name, monkeypatch):
    monkeypatch.setattr("regflow.stages.volumes.report.report_pair", lambda *_, **__: None)
    fixed, moving = (volume_types(volumes[side])[name] for side in ("fixed", "moving"))
    result = rf.register(fixed, moving, **QUICK)
    values, grid = content_of(result.warped)
    assert type(result.warped) is type(moving)
    assert np.array_equal(values, read_volume(by_path.warped).channel)
    assert grid.matches(volumes["fixed"].grid)
    assert np.array_equal(result.transform.matrix, by_path.transform.matrix)


def test_arrays_with_a_spacing_are_volumes(volumes, monkeypatch):
    monkeypatch.setattr("regflow.stages.volumes.report.report_pair", lambda *_, **__: None)
    fixed = volumes["fixed"]
    places = np.array([[19.0, 23, 19], [10, 30, 14], [24, 18, 26]])
    shift = np.array([2.0, -1.0, 1.0])
    moving = np.roll(fixed.channel, shift[::-1].astype(int), axis=(0, 1, 2))
    result = rf.register(
        fixed.channel,
        moving.astype(np.float64),
        spacing=5,
        fixed_mask=fixed.channel > 10,
        fixed_landmarks=places * 5,
        moving_landmarks=(places + shift) * 5,
        **QUICK,
    )
    assert type(result.warped) is np.ndarray
    assert result.warped.dtype == np.float64
    assert result.warped.shape == fixed.grid.shape
    assert result.figures["ncc_refine"] > 0.95
    assert result.figures["tre_mean_mm_refine"] < 1.0 < result.figures["tre_mean_mm_start"]


def test_a_result_is_saved_whole_and_its_temporary_folder_goes_with_it(by_path, tmp_path):
    saved = by_path.save(tmp_path / "saved")
    assert {path.name for path in saved.iterdir()} == {path.name for path in by_path.folder.iterdir()}
    assert (saved / "report.html").is_file()
    assert by_path.save(tmp_path / "saved") == saved
    with pytest.raises(rf.InputError, match="holds other files"):
        by_path.save(tmp_path)
    from regflow.pipeline.exchange import ResultFolder

    own = ResultFolder()
    own.path.mkdir()
    path = own.path.parent
    del own
    assert not path.exists()


# --- scenes registered


@pytest.fixture(scope="module")
def scenes_by_path(scenes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    for name, image in scenes.items():
        write_raster(folder / f"{name}.tif", image.data, image.grid, nodata=float("nan"))
    return rf.register(folder / "fixed.tif", folder / "moving.tif", output=folder / "aligned", **QUICK_SCENES)


def read_scene(made) -> tuple[np.ndarray, object]:
    """Return samples ``(rows, columns)`` and geotransform of a scene of any type."""
    if isinstance(made, rf.Image):
        return made.channel, compute_geotransform(made.grid)
    if isinstance(made, np.ndarray):
        return made, None
    if isinstance(made, Path):
        made = rasterio.open(made)
    if isinstance(made, rasterio.DatasetReader):
        return made.read(1), made.transform
    x, y = made.coords["x"].values, made.coords["y"].values
    step = x[1] - x[0], y[1] - y[0]
    place = rasterio.Affine(step[0], 0, x[0] - step[0] / 2, 0, step[1], y[0] - step[1] / 2)
    return made.values, place


def test_the_known_shift_of_scenes_is_found(scenes_by_path, scenes):
    points = scenes["fixed"].grid.to_world([[20.0, 30], [180, 150]])
    moved = scenes_by_path.transform.apply(points)
    assert np.abs(moved - points - SHIFT_PX * [10, -10]).max() < 1.0
    assert np.abs(scenes_by_path.inverse.apply(moved) - points).max() < 0.01
    warped, _ = read_scene(scenes_by_path.warped)
    inside = slice(10, -10), slice(10, -10)
    assert np.corrcoef(warped[inside].ravel(), scenes["fixed"].channel[inside].ravel())[0, 1] > 0.999


@pytest.mark.parametrize("make", [lambda image: image, as_xarray], ids=["Image", "xarray"])
def test_types_of_scenes_give_what_paths_give(scenes, scenes_by_path, make, monkeypatch):
    monkeypatch.setattr("regflow.stages.rasters.report.report_scene", lambda *_, **__: None)
    fixed, moving = (make(scenes[side]) for side in ("fixed", "moving"))
    warped = rf.register(fixed, moving, **QUICK_SCENES).warped
    values, place = read_scene(warped)
    expected, there = read_scene(scenes_by_path.warped)
    assert type(warped) is type(moving)
    assert np.array_equal(values, expected, equal_nan=True)
    assert place.almost_equals(there)


def test_a_raster_of_a_file_is_used_as_it_is_and_one_of_memory_is_copied(scenes, tmp_path):
    moving = scenes["moving"]
    (folder := tmp_path / "stored").mkdir()
    given = as_dataset(moving, tmp_path)
    stored = store_image(given, folder, "moving")
    assert (stored.path, stored.written) == (given.name, False)
    with pytest.raises(rf.InputError, match="closed; open it again"):
        given.close()
        store_image(given, folder, "moving")
    given = as_memory_dataset(moving)
    back = load_product(store_image(given, folder, "moving").path, given)
    (folder / "moving.tif").unlink()
    assert isinstance(back, rasterio.DatasetReader)
    assert np.array_equal(back.read(), moving.data)
    assert (back.crs, back.transform) == (given.crs, given.transform)
    assert np.isnan(back.nodata)


def test_an_array_is_a_scene_in_pixel_space(scenes, monkeypatch):
    monkeypatch.setattr("regflow.stages.rasters.report.report_scene", lambda *_, **__: None)
    fixed, moving = (scenes[side].channel for side in ("fixed", "moving"))
    result = rf.register(fixed, moving, moving_mask=np.ones(moving.shape, bool), **QUICK_SCENES)
    assert type(result.warped) is np.ndarray
    assert result.warped.shape == fixed.shape
    assert np.abs(result.transform.apply([[50.0, 60.0]]) - [50, 60] - SHIFT_PX).max() < 0.1


# --- a transform applied


def test_a_transform_goes_to_any_image_on_any_grid(volumes):
    shift = rf.Affine.from_parts(np.eye(3), SHIFT_MM)
    fixed, moving = volumes["fixed"], as_nibabel(volumes["moving"])
    onto = rf.apply_transform(shift, moving, fixed.grid)
    assert isinstance(onto, nib.Nifti1Image)
    assert np.allclose(onto.affine, RAS @ fixed.grid.affine)
    assert np.corrcoef(onto.get_fdata().T.ravel(), fixed.channel.ravel())[0, 1] > 0.95
    back = rf.apply_transform(shift, as_simpleitk(fixed), moving, inverse=True)
    values = sitk.GetArrayFromImage(back)
    assert np.abs(values - volumes["moving"].channel).max() < 1.0
    labels = fixed.with_data((fixed.data > BRIGHT) * np.int16(7))
    assert set(np.unique(rf.apply_transform(shift, labels, fixed, labels=True).data)) == {0, 7}


def test_a_transform_of_scenes_goes_to_bands_and_points(scenes, scenes_by_path):
    expected, _ = read_scene(scenes_by_path.warped)
    moving = scenes["moving"]
    for transform in (
        scenes_by_path.folder,
        scenes_by_path.transform,
        scenes_by_path.folder / "transform.json",
    ):
        onto = rf.apply_transform(transform, moving, scenes["fixed"], interpolation="cubic")
        assert np.allclose(onto.channel, expected, equal_nan=True, atol=0.01)
        assert onto.grid.matches(scenes["fixed"].grid)
    onto = rf.apply_transform(scenes_by_path.transform, moving, scenes["fixed"].grid, interpolation="cubic")
    assert np.allclose(onto.channel, expected, equal_nan=True, atol=0.01)
    points = scenes["fixed"].grid.to_world([[20.0, 30]])
    pushed = rf.apply_transform(
        scenes_by_path.transform, scenes_by_path.transform.apply(points), scenes["fixed"], points=True
    )
    assert np.allclose(pushed, points, atol=0.01)


def test_transforms_of_both_kinds_are_read(by_path, scenes_by_path, volumes, scenes):
    points = volumes["fixed"].grid.to_world([[5.0, 6, 7]])
    read = rf.read_transform(by_path.folder / "transform.h5")
    assert np.allclose(read.apply(points), by_path.transform.apply(points), atol=1e-3)
    points = scenes["fixed"].grid.to_world([[50.0, 60]])
    for name in ("", "transform.json", "displacement.tif"):
        read = rf.read_transform(scenes_by_path.folder / name)
        assert np.allclose(read.apply(points), scenes_by_path.transform.apply(points), atol=0.05)


# --- changes


def test_changes_come_back_in_the_type_given(tmp_path, monkeypatch):
    monkeypatch.setattr("regflow.stages.rasters.report.report_change", lambda *_, **__: None)
    rng = np.random.default_rng(0)
    grid = rf.Grid((96, 96), np.array([[10.0, 0, 5e5], [0, -10.0, 5.8e6], [0, 0, 1]]), UTM33)
    before = rf.Image(gaussian_filter(rng.normal(100, 40, (1, 96, 96)), (0, 2, 2)).astype(np.float32), grid)
    after = before.with_data(before.data + rng.normal(0, 1, before.data.shape).astype(np.float32))
    after.data[:, 40:60, 40:60] += 80
    found = rf.detect_changes(before, after, method="cva")
    assert isinstance(found.change, rf.Image)
    assert found.change.grid.matches(grid)
    assert found.change.data.dtype == np.uint8
    assert found.change.channel[42:58, 42:58].all()
    assert not found.change.channel[:30].any()
    assert found.figures["regions"] == 1
    assert found.probability.channel[50, 50] < 0.01
    assert found.magnitude.channel[50, 50] > found.magnitude.channel[:30].max()
    assert (found.save(tmp_path / "change") / "changes.gpkg").is_file()
    series = rf.detect_changes(before, after, before, method="cva", pairs="consecutive")
    assert set(series.comparisons) == {"before_after", "after_later_1"}
    assert {made.figures["regions"] for made in series.comparisons.values()} == {1}
    with pytest.raises(rf.InputError, match="2 comparisons"):
        _ = series.change


# --- bad input

CUBE_GRID = oblique_grid((8, 8, 8), np.zeros(3))
CUBE, PLANE = np.zeros((8, 8, 8), np.float32), np.zeros((64, 64), np.float32)


NOISE = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)


@pytest.mark.parametrize(
    ("fixed", "moving", "options", "told"),
    [
        (CUBE, PLANE, {"spacing": 1.0}, "leave 'spacing' out"),
        ("a.nii.gz", "b.tif", {}, "one is a volume and one a scene; give two of a kind"),
        (
            rf.Image(CUBE[None], oblique_grid((8, 8, 8), np.zeros(3))),
            PLANE,
            {},
            "one is a volume and one a scene",
        ),
        (CUBE[None], CUBE, {"spacing": 1.0}, "the fixed image is a 4-D array"),
        (CUBE, CUBE, {}, "the fixed image is a 3-D array without a spacing"),
        (CUBE, CUBE, {"spacing": -1.0}, "give one or three positive numbers"),
        (CUBE, CUBE, {"spacing": (1.0, 2.0)}, "give one or three positive numbers"),
        (CUBE + 1j, CUBE, {"spacing": 1.0}, "its samples are of type complex64"),
        ([1, 2], CUBE, {"spacing": 1.0}, "the fixed image is of type list; give a path, a nibabel"),
        (sitk.Image(8, 8, sitk.sitkUInt8), CUBE, {"spacing": 1.0}, "is a 2-D SimpleITK image"),
        (nib.Nifti1Image(np.zeros((4, 4, 4, 2)), np.eye(4)), CUBE, {}, "is a 4-D nibabel image"),
        (CUBE, CUBE, {"spacing": 1.0, "bands": 2}, "bands is not for volumes"),
        (PLANE, PLANE, {"modality": "CT"}, "modality is not for rasters"),
        (CUBE, CUBE, {"spacing": 1.0, "fixed_mask": CUBE[1:]}, "fixed_mask is an array of shape"),
        (CUBE, CUBE, {"spacing": 1.0, "fixed_landmarks": [[1, 2]]}, "give finite points"),
        (CUBE + NOISE, CUBE + NOISE, {"spacing": 1.0, "fixed_mask": CUBE}, "^fixed_mask: the mask is empty"),
        (CUBE, CUBE, {"spacing": 1.0, "refine": "greedi"}, "refine: .*did you mean 'greedy'"),
        (CUBE, CUBE, {"spacing": 1.0, "preset": "fats"}, "did you mean 'fast'"),
        ("no.nii.gz", "no.nii.gz", {}, "no.nii.gz"),
    ],
)
def test_a_mistake_is_one_sentence(fixed, moving, options, told):
    with pytest.raises(rf.InputError, match=told) as caught:
        rf.register(fixed, moving, **options)
    assert "\n" not in str(caught.value)
    assert "/regflow-" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "options", "told"),
    [
        ((CUBE,), {"spacing": 1.0}, "the reference is missing|reference is missing"),
        (("moving.nii.gz", CUBE), {"spacing": 1.0}, "the output is missing"),
        ((PLANE, PLANE), {}, "one is a volume and one a scene"),
        ((CUBE, CUBE), {"spacing": 1.0, "nodata": 0}, "nodata is not for volumes"),
        ((CUBE, CUBE), {"spacing": 1.0, "labels": True, "outside": 0.0}, "outside is for images"),
        (([[1.0, 2.0]],), {"points": True}, "give finite points"),
    ],
)
def test_what_cannot_be_carried_is_told(arguments, options, told):
    with pytest.raises(rf.InputError, match=told):
        rf.apply_transform(rf.Affine.identity(3), *arguments, **options)


def test_a_flat_image_in_memory_is_named_without_its_file():
    with pytest.raises((rf.InputError, rf.RegistrationError)) as caught:
        rf.register(CUBE, CUBE, spacing=1.0, **QUICK)
    assert "/regflow-" not in str(caught.value)
    assert "the fixed image" in str(caught.value)


def test_uneven_coordinates_are_refused(scenes):
    given = as_xarray(scenes["moving"])
    uneven = given.assign_coords(x=given.x + 0.1 * np.arange(given.sizes["x"]) ** 2)
    with pytest.raises(rf.InputError, match="the coordinate 'x' at uneven steps"):
        rf.register(given, uneven)


@pytest.mark.parametrize(("count", "told"), [(1, "dates is given 1 times for 2 scenes")])
def test_dates_of_changes_are_one_for_each_scene(count, told):
    with pytest.raises(rf.InputError, match=told):
        rf.detect_changes(PLANE, PLANE, dates=["2020-01-01"] * count)


@pytest.mark.parametrize("dtype", [">i2", ">u2", ">f4", ">f8", ">i8"])
@pytest.mark.parametrize("shape", [(5, 6, 7), (6, 7)], ids=["volume", "scene"])
def test_arrays_in_another_order_of_bytes_are_stored(tmp_path, dtype, shape):
    """As nibabel gives the samples of a big-endian file."""
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    stored = store_image(values, tmp_path, "moving", 2.0 if len(shape) == 3 else None)
    assert np.array_equal(read_content(stored.path).image.channel, values)
