"""Resampling through a transform: exact, and the same in whichever window."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raster_files import smooth_texture
from scipy.ndimage import map_coordinates

from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.core.transform import Affine, DisplacementField, Homography, Transform, compose_transforms
from regflow.core.warp import LATTICE_TOLERANCE, RESAMPLINGS, PixelMap, warp_window

PLACE = np.array([[10.0, 0, 400005], [0, -10, 5799995], [0, 0, 1]])
SOURCE = Grid((230, 260), PLACE)
TARGET = Grid((200, 210), PLACE @ np.array([[1, 0, 21], [0, 1, 13], [0, 0, 1.0]]))
VALUES = np.rint(smooth_texture(SOURCE.shape, sigma=1.2)).astype(np.uint16)
HOLES = np.random.default_rng(5).random(SOURCE.shape) > 0.1


def bent(seed: int = 0, amplitude: float = 4.0, step: int = 8) -> DisplacementField:
    """A field of some pixels on nodes that are pixels of the target."""
    rows, cols = (-(-(n - 1) // step) + 1 for n in TARGET.shape)
    vectors = np.stack([smooth_texture((rows, cols), seed + k) - 1000 for k in (0, 1)]) / 180 * amplitude * 10
    return DisplacementField(vectors, Grid((rows, cols), TARGET.affine @ np.diag([step, step, 1.0])))


def turned(degrees: float = 3.0, scale: float = 1.02) -> Affine:
    angle = np.deg2rad(degrees)
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return Affine.from_parts(linear, [13.0, -7.0], TARGET.center)


BENT = compose_transforms(bent(), turned())


def reader(values=VALUES, known=None):
    values = values[None] if values.ndim == 2 else values
    known = np.ones(values.shape[1:], bool) if known is None else known

    def read(rows, cols):
        return values[:, rows, cols], np.broadcast_to(known[rows, cols], values[:, rows, cols].shape)

    return read


def whole(mapped: PixelMap, read=None, **options):
    rows, cols = mapped.target.shape
    return warp_window(read or reader(), mapped, slice(0, rows), slice(0, cols), **options)


def positions(transform: Transform | None, target: Grid = TARGET, source: Grid = SOURCE):
    """Where each pixel lies in the source, without any lattice: (rows, columns)."""
    rows, cols = target.shape
    points = target.to_world(np.stack(np.meshgrid(np.arange(cols), np.arange(rows)), axis=-1).reshape(-1, 2))
    if transform is not None:
        points = transform.apply(points)
    return source.to_index(points)[:, ::-1].T.reshape(2, rows, cols)


_MAPPED = PixelMap.from_grids(TARGET, SOURCE, BENT)
_SEVEN = {"nodata": (7.0,), "fill": (7.0,)}
_WHOLE = {name: whole(_MAPPED, reader(VALUES, HOLES), resampling=name, **_SEVEN) for name in RESAMPLINGS}


@pytest.mark.parametrize("resampling", RESAMPLINGS)
@given(st.data())
@settings(deadline=None, max_examples=15)
def test_any_window_has_the_bits_of_the_whole(resampling, data):
    mapped = _MAPPED
    values, valid = _WHOLE[resampling]
    height, width = TARGET.shape
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    rows = slice(top, data.draw(st.integers(top + 1, height)))
    cols = slice(left, data.draw(st.integers(left + 1, width)))
    some, known = warp_window(reader(VALUES, HOLES), mapped, rows, cols, resampling=resampling, **_SEVEN)
    np.testing.assert_array_equal(some, values[:, rows, cols])
    np.testing.assert_array_equal(known, valid[:, rows, cols])


def test_a_coarser_result_has_no_seams_either():
    coarse = Grid((60, 65), TARGET.affine @ np.diag([3.3, 3.3, 1.0]))
    mapped = PixelMap.from_grids(coarse, SOURCE, turned())
    values, _ = whole(mapped, reader(VALUES, HOLES), resampling="lanczos")
    part, _ = warp_window(reader(VALUES, HOLES), mapped, slice(17, 44), slice(9, 60), resampling="lanczos")
    np.testing.assert_array_equal(part, values[:, 17:44, 9:60])


@pytest.mark.parametrize("resampling", RESAMPLINGS)
def test_nothing_changes_where_nothing_moves(resampling):
    values, valid = whole(PixelMap.from_grids(TARGET, SOURCE), resampling=resampling)
    np.testing.assert_array_equal(values[0], VALUES[13:213, 21:231])
    assert valid.all()


def test_bilinear_and_nearest_are_scipys():
    where = positions(BENT)
    floats = VALUES.astype(np.float64)
    values, valid = whole(_MAPPED, reader(floats), resampling="bilinear")
    expected = map_coordinates(floats, where, order=1, mode="nearest")
    inside = ((where > 0) & (where < np.array(SOURCE.shape)[:, None, None] - 1)).all(axis=0)
    # The lattice may be off by its tolerance; a sample differs from its neighbor by some hundreds.
    np.testing.assert_allclose(values[0][inside], expected[inside], atol=800 * LATTICE_TOLERANCE)
    nearest, _ = whole(_MAPPED, resampling="nearest")
    rounded = np.floor(where + 0.5).astype(int)
    sure = inside & (np.abs(where - np.floor(where) - 0.5) > 2 * LATTICE_TOLERANCE).all(axis=0)
    np.testing.assert_array_equal(nearest[0][sure], VALUES[rounded[0][sure], rounded[1][sure]])
    assert valid[0][inside].all()


def test_cubic_and_lanczos_are_the_kernels_sums():
    """Held against weights written down from the kernels' definitions."""

    def keys(d):
        d = np.abs(d)
        near = 1.5 * d**3 - 2.5 * d**2 + 1
        return np.where(d <= 1, near, np.where(d < 2, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2, 0))

    def lobes(d):
        return np.where(np.abs(d) < 3, np.sinc(d) * np.sinc(d / 3), 0)

    floats = VALUES.astype(np.float64)
    shifted = PixelMap.from_grids(TARGET, SOURCE, Affine.from_parts(np.eye(2), [3.7, 2.2]))
    down, across = 13 - 0.22, 21 + 0.37
    for name, kernel, normalized in (("cubic", keys, False), ("lanczos", lobes, True)):
        weights = []
        for start, count, size in ((down, 200, 230), (across, 210, 260)):
            table = kernel(start + np.arange(count)[:, None] - np.arange(size))
            weights.append(table / table.sum(axis=1, keepdims=True) if normalized else table)
        values, _ = whole(shifted, reader(floats), resampling=name)
        np.testing.assert_allclose(values[0], weights[0] @ floats @ weights[1].T, atol=1e-4)


def test_a_transform_of_the_plane_agrees_with_gdal():
    """Within one CRS GDAL's coordinates are exact, and so are ours."""
    from raster_files import UTM33
    from rasterio.crs import CRS
    from rasterio.enums import Resampling
    from rasterio.warp import reproject

    from regflow.io.rasters import compute_geotransform

    target = Grid(TARGET.shape, TARGET.affine @ np.array([[1, 0, 0.3], [0, 1, -0.4], [0, 0, 1.0]]))
    ours, _ = whole(PixelMap.from_grids(target, SOURCE), resampling="cubic")
    theirs = np.zeros(target.shape, dtype=np.uint16)
    crs = {"src_crs": CRS.from_wkt(UTM33), "dst_crs": CRS.from_wkt(UTM33)}
    places = {"src_transform": compute_geotransform(SOURCE), "dst_transform": compute_geotransform(target)}
    reproject(VALUES, theirs, **crs, **places, resampling=Resampling.cubic, XSCALE=1, YSCALE=1)
    assert np.abs(ours[0].astype(int) - theirs).max() <= 1


def test_a_pixel_is_valid_where_the_nearest_sample_is():
    nearest = _WHOLE["nearest"][1]
    for name in RESAMPLINGS:
        np.testing.assert_array_equal(_WHOLE[name][1], nearest)
    assert 0.5 < nearest.mean() < 0.95


def test_holes_do_not_bleed():
    values = np.where(HOLES, 1000, 65535).astype(np.uint16)
    for name in RESAMPLINGS:
        warped, valid = whole(_MAPPED, reader(values, HOLES), resampling=name)
        assert set(np.unique(warped[valid])) == {1000}
        assert set(np.unique(warped[~valid])) == {0}


def test_a_valid_pixel_never_takes_the_value_of_nodata():
    values = np.full(SOURCE.shape, 8, dtype=np.uint8)
    for avoid, neighbor in ((8.0, 9), (255.0, 8)):
        warped, valid = whole(_MAPPED, reader(values), resampling="cubic", nodata=(avoid,), fill=(avoid,))
        assert set(np.unique(warped[valid])) == {neighbor}
        assert (warped[~valid] == avoid).all()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "int64", "float32", "float64"])
def test_types_are_kept_and_overshoot_is_cut(dtype):
    top = np.iinfo(dtype).max if np.dtype(dtype).kind in "iu" else 1e6
    steps = np.zeros(SOURCE.shape, dtype=dtype)
    steps[:, 130:] = top
    shifted = PixelMap.from_grids(TARGET, SOURCE, Affine.from_parts(np.eye(2), [4.0, 4.0]))
    values, _ = whole(shifted, reader(steps), resampling="lanczos")
    assert values.dtype == np.dtype(dtype)
    if np.dtype(dtype).kind in "iu":
        assert values.min() == 0 or np.dtype(dtype).kind == "i"
        # float64 holds 53 bits of a 64-bit integer.
        assert int(values.max()) > top * (1 - 1e-15)
        assert values[0, :, 0].max() == 0
    else:
        assert values.max() > top


def test_averaging_keeps_noise_from_aliasing():
    noise = np.random.default_rng(0).normal(0, 1, SOURCE.shape)
    coarse = Grid((28, 31), SOURCE.affine @ np.array([[8, 0, 3.5], [0, 8, 3.5], [0, 0, 1.0]]))
    mapped = PixelMap.from_grids(coarse, SOURCE)
    for name, least in (("bilinear", 6), ("cubic", 6), ("lanczos", 6)):
        values, _ = whole(mapped, reader(noise), resampling=name)
        assert values[0, 2:-2, 2:-2].std() < 1 / least
    plane = np.add.outer(np.arange(230.0), 2 * np.arange(260.0))
    values, _ = whole(mapped, reader(plane), resampling="cubic")
    expected = np.add.outer(8 * np.arange(28) + 3.5, 2 * (8 * np.arange(31) + 3.5))
    np.testing.assert_allclose(values[0, 3:-3, 3:-3], expected[3:-3, 3:-3], atol=1e-6)


def test_beyond_the_horizon_there_is_nothing():
    steep = Homography([[1, 0, 0], [0, 1, 0], [2e-3, 0, 1]], tuple(TARGET.center))
    mapped = PixelMap.from_grids(TARGET, SOURCE, steep)
    values, valid = whole(mapped, resampling="cubic", fill=(9.0,))
    where = positions(steep)
    assert np.isnan(where).any()
    assert not valid[0][np.isnan(where).any(axis=0)].any()
    assert (values[~valid] == 9).all()


def test_a_window_without_any_source_is_empty():
    away = PixelMap.from_grids(TARGET, SOURCE, Affine.from_parts(np.eye(2), [1e6, 0]))
    values, valid = whole(away, fill=(3.0,))
    assert values.dtype == np.uint16
    assert (values == 3).all()
    assert not valid.any()


@pytest.mark.parametrize(
    "transform",
    [None, turned(), BENT, Homography([[1, 0, 5], [0, 1, 3], [1e-5, 2e-5, 1]], tuple(TARGET.center))],
)
def test_the_lattice_is_accurate_everywhere(transform):
    mapped = PixelMap.from_grids(TARGET, SOURCE, transform)
    nodes, first = mapped.compute_lattice(slice(0, 200), slice(0, 210))
    assert first == (0, 0)
    rows, cols = (np.arange(n) / mapped.step for n in TARGET.shape)
    where = np.stack(np.meshgrid(rows, cols, indexing="ij"))
    found = np.stack([map_coordinates(nodes[..., axis], where, order=1) for axis in (1, 0)])
    assert np.abs(found - positions(transform)).max() < 2 * LATTICE_TOLERANCE
    if isinstance(transform, Affine) or transform is None:
        assert mapped.step == 64


def test_nodes_of_a_field_are_nodes_of_the_lattice():
    """Whatever the field's step, so that reading it linearly errs nowhere."""
    rough = DisplacementField(
        np.random.default_rng(0).normal(0, 30, (2, 30, 31)),
        Grid((30, 31), TARGET.affine @ np.diag([7, 7, 1.0])),
    )
    mapped = PixelMap.from_grids(TARGET, SOURCE, rough)
    assert mapped.step == 7
    assert mapped.measure_lattice_error() < 1e-6


def test_a_field_that_ends_with_the_scene_pulls_no_pixel():
    """Outside its nodes a field is zero; the last pixels of a result must not feel it."""
    rows, cols = TARGET.shape
    constant = DisplacementField(np.full((2, rows, cols), 50.0), TARGET)
    values, valid = whole(PixelMap.from_grids(TARGET, SOURCE, constant), resampling="nearest")
    np.testing.assert_array_equal(values[0][valid[0]], VALUES[8:208, 26:236][valid[0]])
    assert valid.all()


def test_an_unknown_resampling_is_refused():
    with pytest.raises(InputError, match="resampling 'sinc' is unknown; choose from nearest, bilinear"):
        whole(_MAPPED, resampling="sinc")


@pytest.mark.parametrize("resampling", RESAMPLINGS)
def test_a_mirrored_picture_gives_the_mirrored_result_up_to_its_borders(resampling):
    grid = Grid((40, 50), np.eye(3))
    between = PixelMap.from_grids(Grid((39, 49), np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])), grid)
    values = smooth_texture(grid.shape, sigma=1.2).astype(np.float32)
    expected, _ = whole(between, reader(values), resampling=resampling)
    for axes in (0, 1, (0, 1)):
        flipped, _ = whole(between, reader(np.flip(values, axes)), resampling=resampling)
        inner = np.flip(flipped[0], axes)
        if resampling == "nearest":
            # Halfway between two samples the nearest is one or the other.
            assert np.isin(inner, values).all()
        else:
            np.testing.assert_allclose(inner, expected[0], rtol=1e-4)
