"""``regflow apply`` for scenes: the right direction for pixels and points, and one sentence for a mistake."""

import json

import numpy as np
import pyogrio
import pytest
import rasterio
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from raster_files import UTM33, smooth_texture, write_raster
from rasterio.crs import CRS

from regflow.commands.cli import main
from regflow.core.grid import Grid
from regflow.core.inversion import PROBES, PointwiseInverse, invert_transform, measure_inverse_error_px
from regflow.core.reprojection import build_reprojection
from regflow.core.transform import (
    Affine,
    DisplacementField,
    Homography,
    compose_transforms,
    measure_inverse_error,
)
from regflow.io.raster_transforms import sample_displacement, write_raster_transform
from regflow.io.rasters import read_raster_header
from regflow.io.vectors import write_points, write_polygons

WGS84 = CRS.from_epsg(4326).to_wkt()
PLACE = np.array([[10.0, 0, 330005], [0, -10, 5822035], [0, 0, 1]])
FIXED = Grid((200, 240), PLACE, UTM33)
MOVING = Grid((210, 250), PLACE @ np.array([[1, 0, -4], [0, 1, -5], [0, 0, 1.0]]), UTM33)
PIXELS = Grid((200, 240), np.eye(3))
WITHIN_PX = 0.01


def bent(grid: Grid = FIXED):
    """Return a correction of about 3 pixels that bends, turns and shifts."""
    unit = float(grid.spacing[0])
    nodes = Grid((27, 32), grid.affine @ np.diag([8, 8, 1.0]), grid.crs)
    vectors = np.stack([smooth_texture(nodes.shape, k, 5) - 1000 for k in (0, 1)]) / 180 * 1.5 * unit
    return compose_transforms(
        DisplacementField(vectors, nodes),
        Affine.from_parts([[1.001, 0.01], [-0.01, 0.999]], [1.2 * unit, -1.7 * unit], grid.center),
    )


def ground(grid: Grid, points) -> np.ndarray:
    """Return the height of a made-up ground at world points of the fixed scene, about 800 to 3200."""
    x, y = np.moveaxis(grid.to_index(points), -1, 0)
    return 2000 + 600 * np.sin(x / 9) * np.cos(y / 7) + 500 * np.sin((x + y) / 12)


def places(grid: Grid) -> np.ndarray:
    rows, cols = np.indices(grid.shape)
    return grid.to_world(np.stack([cols, rows], axis=-1)).reshape(-1, 2)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """The ground as the fixed and as the moving scene see it, and the transform between them."""
    folder = tmp_path_factory.mktemp("scenes")
    (folder / "aligned").mkdir()
    write_raster_transform(folder / "aligned", bent(), FIXED)
    write_raster(folder / "fixed.tif", ground(FIXED, places(FIXED)).reshape(FIXED.shape), grid=FIXED)
    seen = PointwiseInverse(bent(), 10.0).apply(places(MOVING))
    write_raster(folder / "moving.tif", ground(FIXED, seen).reshape(MOVING.shape), grid=MOVING)
    return folder


def apply(*arguments):
    return CliRunner().invoke(main, ["apply", *map(str, arguments)])


def done(*arguments) -> str:
    ended = apply(*arguments)
    assert ended.exit_code == 0, ended.output
    return ended.output


def refused(*arguments) -> str:
    ended = apply(*arguments)
    assert ended.exit_code == 2, ended.output
    assert ended.output.startswith("Error: ")
    assert ended.output.count("\n") == 1
    return ended.output


def difference(path, expected) -> float:
    """Return the root mean square difference where the product has data, which is nearly everywhere."""
    with rasterio.open(path) as product:
        values = product.read(1)
    inside = np.isfinite(values)
    assert inside.mean() > 0.9
    return float(np.sqrt(np.mean((values - expected)[inside] ** 2)))


@pytest.mark.parametrize("transform", ["aligned", "aligned/transform.json", "aligned/displacement.tif"])
def test_an_image_comes_onto_the_fixed_scene(scenes, tmp_path, transform):
    options = ("-r", scenes / "fixed.tif", "-o", tmp_path / "out.tif", "--interpolation", "lanczos")
    assert done(scenes / transform, scenes / "moving.tif", *options) == ""
    expected = ground(FIXED, places(FIXED)).reshape(FIXED.shape)
    assert difference(tmp_path / "out.tif", expected) < 1.5
    assert difference(scenes / "fixed.tif", expected) == 0


def test_the_inverse_takes_an_image_to_the_moving_scene_and_tells_its_error(scenes, tmp_path):
    options = ("-r", scenes / "moving.tif", "-o", tmp_path / "out.tif", "--interpolation", "lanczos")
    told = done(scenes / "aligned", scenes / "fixed.tif", "--inverse", *options)
    with rasterio.open(scenes / "moving.tif") as moving:
        seen = moving.read(1)
    assert difference(tmp_path / "out.tif", seen) < 1.5
    with rasterio.open(tmp_path / "out.tif") as product:
        assert product.shape == MOVING.shape
        worst = float(product.tags()["REGFLOW_INVERSE_ERROR_MAX_PX"])
    assert 0 < worst < WITHIN_PX
    assert f"{worst:.3g} at most" in told


@pytest.mark.parametrize(("inverse", "turns"), [(False, -360.0), (False, 360.0), (True, 360.0)])
def test_longitudes_may_be_counted_from_0_to_360(tmp_path, inverse, turns):
    """Whichever way the transform's scene, the reference and the points count, the result is one."""
    west = 190.0 if turns < 0 else -170.0
    degrees = Grid((200, 240), [[1e-4, 0, west], [0, -1e-4, 10], [0, 0, 1]], WGS84)
    other = Grid(degrees.shape, [[1e-4, 0, west + turns], [0, -1e-4, 10], [0, 0, 1]], WGS84)
    (tmp_path / "aligned").mkdir()
    write_raster_transform(tmp_path / "aligned", bent(degrees), degrees)
    values = ground(degrees, places(degrees)).reshape(degrees.shape)
    for name, grid in (("here", degrees), ("there", other)):
        write_raster(tmp_path / f"{name}.tif", values, grid=grid)
        x, y = grid.to_world([[100.0, 90.0]])[0]
        (tmp_path / f"{name}.csv").write_text(f"x,y\n{float(x)!r},{float(y)!r}\n")
    way = ["--inverse"] if inverse else []
    found, points = {}, {}
    for source, reference in (("here", "here"), ("there", "here"), ("here", "there")):
        out = tmp_path / f"{source}_{reference}.tif"
        options = (*way, "-r", tmp_path / f"{reference}.tif", "-o", out)
        done(tmp_path / "aligned", tmp_path / f"{source}.tif", *options)
        with rasterio.open(out) as product:
            found[source, reference] = product.read(1)
            assert product.bounds.left == rasterio.open(tmp_path / f"{reference}.tif").bounds.left
        points[source] = tmp_path / f"{source}_out.csv"
        done(tmp_path / "aligned", tmp_path / f"{source}.csv", *way, "--points", "-o", points[source])
    assert np.isfinite(found["here", "here"]).mean() > 0.9
    for pair in (("there", "here"), ("here", "there")):
        assert found[pair] == pytest.approx(found["here", "here"], abs=0.01, nan_ok=True)
    ends = [np.loadtxt(path, delimiter=",", skiprows=1) for path in points.values()]
    assert ends[0] == pytest.approx(ends[1], abs=1e-9)
    assert ends[0][0] == pytest.approx(west + 0.01, abs=0.01)


def test_a_value_that_is_no_measurement_can_be_named(scenes, tmp_path):
    """As for ``regflow register``: a number, or none to take what is declared for a measurement."""
    with rasterio.open(scenes / "moving.tif") as moving:
        values = moving.read(1)
    values[80:120, 90:150] = 7
    write_raster(tmp_path / "holed.tif", values, grid=MOVING)
    write_raster(tmp_path / "declared.tif", values, grid=MOVING, nodata=7)
    for name, source, nodata in (("a", "holed", "7"), ("b", "declared", "file"), ("c", "declared", "none")):
        options = ("-r", scenes / "fixed.tif", "-o", tmp_path / f"{name}.tif", "--nodata", nodata)
        done(scenes / "aligned", tmp_path / f"{source}.tif", *options)
    a, b, c = (rasterio.open(tmp_path / f"{name}.tif").read(1, masked=True) for name in "abc")
    assert np.array_equal(a.filled(-1), b.filled(-1))
    assert 2000 < a.mask.sum() < 3000
    assert c.data[98, 116] == 7
    assert not c.mask[98, 116]
    options = ("-r", scenes / "fixed.tif", "-o", tmp_path / "d.tif", "--nodata", "black")
    assert "nodata is 'black'" in refused(scenes / "aligned", tmp_path / "holed.tif", *options)


def test_a_reference_in_another_crs(scenes, tmp_path):
    """The transform works in the fixed scene's CRS, wherever the result is to lie."""
    degrees = CRS.from_epsg(4326).to_wkt()
    west, north = build_reprojection(UTM33, degrees).apply(FIXED.to_world([[20, 20]]))[0]
    other = Grid((90, 100), np.array([[2e-4, 0, west], [0, -1.2e-4, north], [0, 0, 1]]), degrees)
    write_raster(tmp_path / "degrees.tif", np.ones(other.shape, np.uint8), grid=other)
    options = ("-r", tmp_path / "degrees.tif", "--interpolation", "lanczos")
    here = build_reprojection(degrees, UTM33).apply(places(other))
    done(scenes / "aligned", scenes / "moving.tif", *options, "-o", tmp_path / "a.tif")
    assert read_raster_header(tmp_path / "a.tif").grid.matches(other)
    assert difference(tmp_path / "a.tif", ground(FIXED, here).reshape(other.shape)) < 1.5
    done(scenes / "aligned", scenes / "fixed.tif", *options, "--inverse", "-o", tmp_path / "b.tif")
    seen = PointwiseInverse(bent(), 10.0).apply(here)
    assert difference(tmp_path / "b.tif", ground(FIXED, seen).reshape(other.shape)) < 1.5


def test_labels_are_never_blended(scenes, tmp_path):
    classes = np.where(smooth_texture(MOVING.shape, 3) > 1000, 7, 40).astype(np.uint8)
    write_raster(tmp_path / "classes.tif", classes, grid=MOVING)
    done(
        *(scenes / "aligned", tmp_path / "classes.tif", "--labels"),
        *("-r", scenes / "fixed.tif", "-o", tmp_path / "out.tif"),
    )
    with rasterio.open(tmp_path / "out.tif") as product:
        found, known = product.read(1), product.read_masks(1) > 0
    assert set(np.unique(found[known])) == {7, 40}
    at = np.rint(MOVING.to_index(bent().apply(places(FIXED)))).astype(int)
    inside = ((at >= 0) & (at < MOVING.size)).all(axis=1)
    expected = classes[at[inside, 1], at[inside, 0]]
    assert (found.ravel()[inside] == expected).mean() > 0.999


def landmarks() -> tuple[np.ndarray, np.ndarray]:
    """Return points of the fixed scene and their places in the moving one."""
    fixed = FIXED.to_world(np.random.default_rng(0).uniform(10, 190, (25, 2)))
    return fixed, bent().apply(fixed)


@pytest.mark.parametrize("transform", ["aligned", "aligned/displacement.tif"])
def test_points_of_a_table_follow_the_image(scenes, tmp_path, transform):
    """A point of the moving scene goes to where the warped scene shows what it marks."""
    fixed, moving = landmarks()
    text = "".join(f"{k},{float(x)!r},{float(y)!r},well\n" for k, (x, y) in enumerate(moving.tolist()))
    (tmp_path / "moving.csv").write_text("id,X,y,kind\n" + text)
    done(scenes / transform, tmp_path / "moving.csv", "--points", "-o", tmp_path / "out.csv")
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0] == "id,X,y,kind"
    assert lines[3].startswith("2,")
    assert lines[3].endswith(",well")
    found = np.array([line.split(",")[1:3] for line in lines[1:]], dtype=float)
    assert np.abs(found - fixed).max() < 10 * WITHIN_PX
    back = tmp_path / "back.csv"
    done(scenes / transform, tmp_path / "out.csv", "--points", "--inverse", "-o", back)
    again = np.array([line.split(",")[1:3] for line in back.read_text().splitlines()[1:]], dtype=float)
    assert np.abs(again - moving).max() < 1e-4


def test_points_of_a_geopackage_keep_columns_and_come_to_the_fixed_crs(scenes, tmp_path):
    fixed, moving = landmarks()
    degrees = CRS.from_epsg(4326).to_wkt()
    columns = {"depth": np.arange(25.0), "owner": np.array(["ann"] * 25)}
    write_points(
        tmp_path / "moving.gpkg",
        columns,
        build_reprojection(UTM33, degrees).apply(moving),
        degrees,
        layer="wells",
    )
    done(scenes / "aligned", tmp_path / "moving.gpkg", "--points", "-o", tmp_path / "out.gpkg")
    meta, _, geometry, fields = pyogrio.raw.read(tmp_path / "out.gpkg")
    import shapely

    assert CRS.from_user_input(meta["crs"]).to_epsg() == 32633
    assert list(meta["fields"]) == ["depth", "owner"]
    assert np.array_equal(fields[0], columns["depth"])
    assert np.abs(shapely.get_coordinates(shapely.from_wkb(geometry)) - fixed).max() < 10 * WITHIN_PX


def test_points_in_pixels(tmp_path):
    (tmp_path / "t").mkdir()
    write_raster_transform(tmp_path / "t", bent(PIXELS), PIXELS)
    (tmp_path / "p.tsv").write_text("x\ty\n100\t50\n")
    done(tmp_path / "t", tmp_path / "p.tsv", "--points", "--inverse", "-o", tmp_path / "out.csv")
    found = [float(cell) for cell in (tmp_path / "out.csv").read_text().splitlines()[1].split(",")]
    assert found == pytest.approx(bent(PIXELS).apply([[100.0, 50.0]])[0])


@settings(max_examples=40, deadline=None)
@given(
    st.floats(-3.1, 3.1),
    st.floats(0.5, 2.0),
    st.floats(-1e-3, 1e-3),
    st.floats(-200, 200),
    st.integers(0, 1000),
)
def test_an_inverse_undoes_any_turn_scale_and_bend(angle, scale, tilt, shift, seed):
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    tilted = np.array([[1, 0, 0], [0, 1, 0], [tilt / 10, -tilt / 10, 1]])
    nodes = Grid((27, 32), PIXELS.affine @ np.diag([8, 8, 1.0]))
    field = DisplacementField(
        np.stack([smooth_texture(nodes.shape, seed + k, 4) - 1000 for k in (0, 1)]) / 90, nodes
    )
    forward = compose_transforms(
        field, Homography(tilted, (120, 100)), Affine.from_parts(turn, [shift, -shift], [120, 100])
    )
    points = np.random.default_rng(seed).uniform(5, 195, (50, 2))
    back = invert_transform(forward, 1.0)
    assert measure_inverse_error(forward, back, points).max() < 1e-4


def test_without_a_field_the_inverse_is_closed():
    assert isinstance(invert_transform(Affine.from_parts(np.eye(2), [3, 4]), 1.0), Affine)


def test_a_sampled_inverse_is_as_good_as_it_says():
    back = sample_displacement(invert_transform(bent(), 10.0), MOVING)
    errors = measure_inverse_error_px(bent(), back, MOVING, FIXED)
    assert errors.size > 1000
    assert errors.max() < WITHIN_PX
    shifted = DisplacementField(back.vectors + np.float32(5.0), back.grid)
    worse = measure_inverse_error_px(bent(), shifted, MOVING, FIXED)
    assert np.median(worse) == pytest.approx(np.sqrt(0.5), rel=0.05)


def test_points_without_a_partner_are_refused(tmp_path):
    """Beyond a homography's horizon there is nothing."""
    (tmp_path / "t").mkdir()
    tilted = Homography(np.array([[1, 0, 0], [0, 1, 0], [1e-3, 0, 1]]), tuple(FIXED.center))
    write_raster_transform(tmp_path / "t", tilted, FIXED)
    near, beyond = FIXED.to_world([[120, 60], [5, 60]]).tolist()
    (tmp_path / "p.csv").write_text(f"x,y\n{near[0]},{near[1]}\n{beyond[0]},{beyond[1]}\n")
    said = refused(tmp_path / "t", tmp_path / "p.csv", "--points", "--inverse", "-o", tmp_path / "out.csv")
    assert "point 2 has no partner" in said
    assert "(1 of 2 have none)" in said
    assert not (tmp_path / "out.csv").exists()


def test_points_beyond_the_fixed_scene_get_a_warning(scenes, tmp_path, caplog):
    x, y = FIXED.to_world([[400, 60]])[0]
    (tmp_path / "p.csv").write_text(f"x,y\n{x},{y}\n")
    done(scenes / "aligned", tmp_path / "p.csv", "--points", "-o", tmp_path / "out.csv")
    assert "1 of 1 points lie outside the fixed scene" in caplog.text


def far_away(folder):
    grid = Grid(FIXED.shape, PLACE @ np.array([[1, 0, 9000], [0, 1, 0], [0, 0, 1.0]]), UTM33)
    write_raster(folder / "far.tif", np.ones(grid.shape, np.uint8), grid=grid)


def without_crs(folder):
    write_raster(folder / "bare.tif", np.ones((20, 30), np.uint8), grid=Grid((20, 30), np.eye(3)))


def other_json(folder):
    (folder / "other.json").write_text("{}")


def torn_json(folder):
    (folder / "torn").mkdir()
    (folder / "torn" / "transform.json").write_text('{"parts": [')


def strange_part(folder):
    (folder / "odd").mkdir()
    content = {"parts": [{"type": "spiral"}], "grid": FIXED.to_dict()}
    (folder / "odd" / "transform.json").write_text(json.dumps(content))


def one_band(folder):
    write_raster(folder / "one.tif", np.ones(FIXED.shape, np.float32), grid=FIXED)


def nothing(folder):
    (folder / "empty").mkdir()


@pytest.mark.parametrize(
    ("prepare", "transform", "source", "reference", "said"),
    [
        (nothing, "{t}/no.tif", "{s}/moving.tif", "{s}/fixed.tif", "this transform does not exist"),
        (nothing, "{t}/empty", "{s}/moving.tif", "{s}/fixed.tif", "this transform file does not exist"),
        (other_json, "{t}/other.json", "{s}/moving.tif", "{s}/fixed.tif", "is named transform.json"),
        (torn_json, "{t}/torn", "{s}/moving.tif", "{s}/fixed.tif", "transform.json: not valid JSON"),
        (strange_part, "{t}/odd", "{s}/moving.tif", "{s}/fixed.tif", "its part 'spiral' is unknown"),
        (one_band, "{t}/one.tif", "{s}/moving.tif", "{s}/fixed.tif", "has two bands, dx and dy, not 1"),
        (nothing, "{s}/aligned", "{t}/no.tif", "{s}/fixed.tif", "no.tif: this file does not exist"),
        (nothing, "{s}/aligned", "{s}/moving.tif", "{t}/no.tif", "no.tif: this file does not exist"),
        (far_away, "{s}/aligned", "{t}/far.tif", "{s}/fixed.tif", "does not overlap"),
        (without_crs, "{s}/aligned", "{s}/moving.tif", "{t}/bare.tif", "bare.tif: names no CRS"),
    ],
)
def test_rasters_that_do_not_fit_get_one_sentence(
    scenes, tmp_path, prepare, transform, source, reference, said
):
    prepare(tmp_path)
    names = [text.format(s=scenes, t=tmp_path) for text in (transform, source, reference)]
    told = refused(names[0], names[1], "-r", names[2], "-o", tmp_path / "out.tif")
    assert said in told
    assert not (tmp_path / "out.tif").exists()


def test_a_reference_beyond_the_transform_is_refused(scenes, tmp_path):
    far_away(tmp_path)
    told = refused(
        *(scenes / "aligned", tmp_path / "far.tif", "--inverse"),
        *("-r", tmp_path / "far.tif", "-o", tmp_path / "out.tif"),
    )
    assert "nothing of the reference lies where this transform is known" in told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x;y\n1;2\n", "has no columns x and y"),
        ("x,y\n1\n", "point 1 has 1 cells, the first line 2"),
        ("x,y\n1,two\n", "'two' of point 1 is not a number"),
        ("x,y\n1,nan\n", "point 1 is not a finite number"),
        ("x,y\n", "holds no points"),
        ("", "has no columns x and y"),
    ],
)
def test_tables_of_points_that_are_wrong(scenes, tmp_path, text, said):
    (tmp_path / "p.csv").write_text(text)
    told = refused(scenes / "aligned", tmp_path / "p.csv", "--points", "-o", tmp_path / "out.csv")
    assert said in told
    assert not (tmp_path / "out.csv").exists()


def test_files_of_points_that_are_wrong(scenes, tmp_path):
    import shapely

    def said(name: str, output: str = "out.csv", transform=scenes / "aligned") -> str:
        return refused(transform, tmp_path / name, "--points", "-o", tmp_path / output)

    assert "does not exist" in said("no.csv")
    assert "points are read and written as .csv, .tsv, .gpkg" in said("p.xlsx")
    (tmp_path / "p.csv").write_text("x,y\n330500,5821500\n")
    assert "points are read and written as" in said("p.csv", "out.xlsx")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00x")
    assert "not a text file" in said("binary.csv")
    (tmp_path / "torn.gpkg").write_bytes(b"SQLite")
    assert "this GeoPackage cannot be read" in said("torn.gpkg")
    write_polygons(tmp_path / "areas.gpkg", {}, [shapely.box(0, 0, 1, 1)], UTM33)
    assert "something else than points" in said("areas.gpkg")
    write_points(tmp_path / "utm.gpkg", {}, np.array([[330500.0, 5821500.0]]), UTM33)
    (tmp_path / "t").mkdir()
    write_raster_transform(tmp_path / "t", bent(PIXELS), PIXELS)
    assert "works in pixels" in said("utm.gpkg", transform=tmp_path / "t")


def test_what_is_only_for_volumes_is_refused(scenes, tmp_path):
    options = ("-r", scenes / "fixed.tif", "-o", tmp_path / "out.tif")
    assert "--smooth" in refused(scenes / "aligned", scenes / "moving.tif", "--labels", "--smooth", *options)
    told = refused(scenes / "aligned", scenes / "moving.tif", "--labels", "--points", *options)
    assert "--labels and --points are both given" in told
    told = refused(scenes / "aligned", scenes / "moving.tif", "-o", tmp_path / "out.tif")
    assert "--reference is missing" in told


def test_round_trips_are_measured_all_over_the_scene_but_not_beyond_the_other():
    fixed, moving = (Grid((30, 40), np.diag([2.0, -2.0, 1.0])), Grid((30, 40), np.diag([2.0, -2.0, 1.0])))
    forward = Affine.from_parts(np.eye(2), [20.0, 0.0])
    errors = measure_inverse_error_px(forward, forward.inverse(), moving, fixed)
    # Ten of the forty columns come from beyond the fixed scene.
    probes = min(40, PROBES), min(30, PROBES)
    assert errors.size == pytest.approx(0.75 * probes[0] * probes[1], rel=0.05)
    assert errors.max() < 1e-9
    # The inverse is a hundredth too large: what it misses grows from nothing at the corner to the far side.
    larger = Affine.from_parts(1.01 * np.eye(2), [-20.0, 0.0])
    errors = measure_inverse_error_px(forward, larger, moving, fixed)
    assert errors.max() == pytest.approx(0.01 * np.hypot(39, 29), rel=0.02)
    assert np.median(errors) == pytest.approx(0.01 * np.hypot(24.5, 14.5), rel=0.1)
