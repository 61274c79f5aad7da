import pytest

from regflow.cohort.tiles import find_tiles
from regflow.core.errors import InputError


def touch(folder, *names):
    for name in names:
        (folder / name).write_bytes(b"")
    return [str(folder / name) for name in names]


@pytest.mark.parametrize(
    ("names", "places"),
    [
        (("img_r001_c002.tif", "img_r002_c010.tif"), [(1, 2), (2, 10)]),
        (("1-Pos_000_001.tif", "1-Pos_002_003.tif"), [(1, 0), (3, 2)]),
        (("scan_3_4.tif", "scan_3_10.tif"), [(3, 4), (3, 10)]),
    ],
)
def test_known_names_tell_rows_and_columns(tmp_path, names, places):
    touch(tmp_path, *names)
    found = find_tiles([tmp_path])
    assert [tile.place for tile in found.tiles] == places


def test_folders_of_folders_are_those_of_micro_manager(tmp_path):
    for place in ("1-Pos_000_000", "1-Pos_001_000"):
        (tmp_path / place).mkdir()
        touch(tmp_path / place, "img_channel000.tif")
    assert [tile.place for tile in find_tiles([tmp_path]).tiles] == [(0, 0), (0, 1)]
    touch(tmp_path, "r1_c1.tif", "r1_c2.tif")
    assert [tile.name for tile in find_tiles([tmp_path]).tiles] == ["r1_c1.tif", "r1_c2.tif"]


def test_patterns_tell_places_and_channels(tmp_path):
    touch(tmp_path, "a-2.tif", *(f"s_x{x}_y-4.5_{name}.tif" for x in (0, 100) for name in ("dapi", "gfp")))
    found = find_tiles([tmp_path], "s_x{x}_y{y}_{channel}.tif")
    assert found.channels == ("dapi", "gfp")
    assert [tile.position for tile in found.tiles] == [(0.0, -4.5), (100.0, -4.5)]
    assert [len(tile.files) for tile in found.tiles] == [2, 2]
    assert "a-2.tif: is not named as" in found.problems[0]


def test_formats_in_patterns_make_no_difference(tmp_path):
    touch(tmp_path, "img_r001_c002.tif", "img_r001_c003.tif")
    found = find_tiles([f"{tmp_path}/*.tif"], "img_r{r:03}_c{c:03}.tif")
    assert [tile.place for tile in found.tiles] == [(1, 2), (1, 3)]


def test_tables_tell_positions_and_channels(tmp_path):
    touch(tmp_path, "a.tif", "b.tif", "c.tif")
    (tmp_path / "stage.csv").write_text("tile,x,y\na.tif,0,0\nb.tif,90.5,1\nc.tif,90.5,1\n", encoding="utf-8")
    found = find_tiles([], table=tmp_path / "stage.csv")
    assert [tile.position for tile in found.tiles] == [(0.0, 0.0), (90.5, 1.0)]
    assert found.tiles[0].files == (str(tmp_path / "a.tif"),)
    assert "lies in the same place as b.tif" in found.problems[0]


def test_tiles_with_other_channels_are_left_out(tmp_path):
    names = ("r1_c1_a.tif", "r1_c1_b.tif", "r1_c2_a.tif", "r1_c2_b.tif", "r1_c3_b.tif")
    touch(tmp_path, *names)
    found = find_tiles([tmp_path], "r{row}_c{column}_{channel}.tif")
    assert [tile.place for tile in found.tiles] == [(1, 1), (1, 2)]
    assert "r1_c3_b.tif: has the channels b where most tiles have a, b" in found.problems[0]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("tile,x\na.tif,0\n", "column 'y' is missing"),
        ("tile,x,y\na.tif,0,\n", "line 2: the cell 'y' is empty"),
        ("tile,x,y\na.tif,0,up\n", "line 2: y is 'up'"),
        ("tile,x,y\n", "lists no tiles"),
    ],
)
def test_bad_tables_are_refused_in_a_sentence(tmp_path, text, sentence):
    (tmp_path / "stage.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=sentence):
        find_tiles([], table=tmp_path / "stage.csv")


def test_bad_names_are_refused_in_a_sentence(tmp_path):
    with pytest.raises(InputError, match="no tiles are there"):
        find_tiles([tmp_path])
    with pytest.raises(InputError, match="does not exist"):
        find_tiles([tmp_path / "none.tif"])
    touch(tmp_path, "a.tif")
    with pytest.raises(InputError, match="it may have"):
        find_tiles([tmp_path], "{line}_{column}.tif")
    with pytest.raises(InputError, match="says no place"):
        find_tiles([tmp_path], "{row}_{channel}.tif")
    with pytest.raises(InputError, match="no tile's name is as"):
        find_tiles([tmp_path], "{row}_{column}.tif")
    with pytest.raises(InputError, match="this table of tiles does not exist"):
        find_tiles([], table=tmp_path / "none.csv")
