import json

import numpy as np
import pytest
from rasterio.crs import CRS
from scipy.ndimage import gaussian_filter

import regflow as rf
from regflow.core.errors import InputError
from regflow.core.files import compute_sha256
from regflow.core.grid import Grid
from regflow.datasets.tiles import cut_tiles, measure_position_error, write_stage_table
from regflow.io.raster_files import write_raster
from regflow.io.rasters import read_raster_header, read_window


def make_picture(rows=620, columns=760):
    rng = np.random.default_rng(0)
    fine, coarse = (gaussian_filter(rng.standard_normal((rows, columns)), size) for size in (1.2, 15))
    return (2000 + 900 * fine / fine.std() * 0.5 + 600 * coarse / coarse.std()).astype(np.float32)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiles")
    made = cut_tiles(folder, make_picture(), side=160, overlap=0.15, noise=20, falloff=0.25)
    write_stage_table(folder / "stage.csv", made)
    return folder, made


def stitch(tiles, output, **given):
    folder, made = tiles
    return rf.stitch_mosaic([folder / name for name in made.names], output, **{"format": "cog", **given})


def error(tiles, found):
    return measure_position_error(tiles[1], found.positions, np.ones(len(tiles[1].names), bool))


def test_positions_come_from_the_stage(tiles, tmp_path):
    found = rf.stitch_mosaic([], tmp_path, table=tiles[0] / "stage.csv", format="cog")
    assert error(tiles, found) < 0.2
    assert found.figures["links_dropped"] == 0
    assert not found.problems
    assert {path.name for path in tmp_path.iterdir()} == {
        *("mosaic.tif", "tiles.tsv", "links.tsv", "mosaic.json", "report.html")
    }
    assert json.loads((tmp_path / "mosaic.json").read_text(encoding="utf-8"))["shape"] == list(found.shape)


def test_positions_come_from_names_and_a_measured_overlap(tiles, tmp_path):
    found = stitch(tiles, tmp_path)
    assert error(tiles, found) < 0.2


def test_pixels_are_those_of_the_picture(tiles, tmp_path):
    found = stitch(tiles, tmp_path, overlap_percent=15)
    values, valid = read_window(found.path, [1], slice(0, found.shape[0]), slice(0, found.shape[1]))
    picture = make_picture()
    start = np.rint(tiles[1].true[0] - np.array(found.positions[tiles[1].names[0]])).astype(int)
    box = picture[start[1] : start[1] + found.shape[0], start[0] : start[0] + found.shape[1]]
    inside = valid[0] if valid.ndim == 3 else valid
    inside = inside[: box.shape[0], : box.shape[1]]
    shown = values[0, : box.shape[0], : box.shape[1]]
    assert np.corrcoef(shown[inside], box[inside])[0, 1] > 0.95


def test_no_result_depends_on_threads(tiles, tmp_path):
    one, other = (stitch(tiles, tmp_path / str(count), threads=count, overlap_percent=15) for count in (1, 2))
    assert compute_sha256(one.folder) == compute_sha256(other.folder)


def test_a_tile_of_background_lies_where_the_stage_has_it(tiles, tmp_path):
    folder, made = tiles
    empty = made.names[-1]
    copies = tmp_path / "tiles"
    copies.mkdir()
    for name in made.names:
        (copies / name).write_bytes((folder / name).read_bytes())
    flat = np.full((1, 160, 160), 900, np.uint16)
    write_raster(copies / empty, flat, Grid((160, 160), np.eye(3)))
    write_raster(copies / "r000_c099.tif", flat.astype(np.uint8), Grid((160, 160), np.eye(3)))
    write_stage_table(copies / "stage.csv", made)
    with (copies / "stage.csv").open("a", encoding="utf-8") as stream:
        stream.write("r000_c099.tif,9000,0\ngone.tif,9000,100\n")
    found = rf.stitch_mosaic([], tmp_path / "out", table=copies / "stage.csv", format="cog")
    told = "\n".join(found.problems)
    assert f"{empty}: overlaps no tile with texture in common" in told
    assert "r000_c099.tif: is 1 band of uint8 where most tiles are 1 band of uint16" in told
    assert "gone.tif" in told
    others = np.array([name != empty for name in made.names])
    assert measure_position_error(made, found.positions, others) < 0.2
    assert measure_position_error(made, found.positions, ~others | others) < 5


def test_georeferenced_tiles_make_a_georeferenced_mosaic(tmp_path):
    picture = make_picture(400, 400).astype(np.uint16)
    crs = "EPSG:32633"
    wkt = CRS.from_string(crs).to_wkt()
    for index, column in enumerate((0, 160)):
        affine = np.array([[10.0, 0, 500005.0 + 10 * column], [0, -10.0, 4999995.0], [0, 0, 1]])
        part = picture[None, :200, column : column + 200]
        write_raster(tmp_path / f"scene{'ab'[index]}.tif", part, Grid((200, 200), affine, wkt))
    files = [tmp_path / "scenea.tif", tmp_path / "sceneb.tif"]
    found = rf.stitch_mosaic(files, tmp_path / "out", format="cog", flat_field=False)
    np.testing.assert_allclose(found.shape, (200, 360), atol=1)
    grid = read_raster_header(found.path).grid
    assert grid.crs is not None
    np.testing.assert_allclose(grid.origin, [500005.0, 4999995.0], atol=1.0)


def test_nothing_known_of_a_few_tiles_is_enough(tiles, tmp_path):
    folder, made = tiles
    some = [
        index for index, name in enumerate(made.names) if name < "r002" and name.endswith(("0.tif", "1.tif"))
    ]
    copies = [tmp_path / f"{letter}.tif" for letter in "abcd"]
    for index, copy in zip(some, copies, strict=True):
        copy.write_bytes((folder / made.names[index]).read_bytes())
    found = rf.stitch_mosaic(copies, tmp_path / "out", format="cog", flat_field=False)
    places = np.array([found.positions[copy.name] for copy in copies])
    true = made.true[some]
    np.testing.assert_allclose(places - places[0], true - true[0], atol=0.3)


def test_mistakes_are_refused_in_a_sentence(tiles, tmp_path):
    with pytest.raises(InputError, match="no tiles are named"):
        rf.stitch_mosaic([], tmp_path)
    with pytest.raises(InputError, match="has 6 places, but there are"):
        stitch(tiles, tmp_path, grid="3x2")
    with pytest.raises(InputError, match="no channel 'gfp'"):
        stitch(tiles, tmp_path, channel="gfp")
    with pytest.raises(InputError, match="fewer than two tiles"):
        rf.stitch_mosaic(tiles[0] / tiles[1].names[0], tmp_path)
    with pytest.raises(InputError, match="size of a pixel"):
        rf.stitch_mosaic([], tmp_path, table=tiles[0] / "stage.csv", position_unit="um")


@pytest.mark.parametrize(
    ("given", "told"),
    [({"format": "png"}, "format"), ({"config": {"blen": "first"}}, "blen"), ({"grid": "five"}, "grid")],
)
def test_settings_are_checked_as_those_of_a_file_are(tiles, tmp_path, given, told):
    with pytest.raises(InputError, match=told):
        stitch(tiles, tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()
