"""Nodata, mask values and bands of scenes mean the same to every command that takes them."""

import math

import numpy as np
import pytest
from click.testing import CliRunner

from regflow.commands import detect, register
from regflow.commands.cli import main
from regflow.core.grid import Grid
from regflow.io.raster_files import write_raster
from regflow.pipeline.change_options import make_change_config, parse_dated_scenes
from regflow.pipeline.pair_options import make_scene_pair
from regflow.stages.rasters.views import list_excluded_values

NODATA = {"none": None, "nan": math.nan, "-1e4": -1e4, "0": 0, "file": "file"}
MASK_VALUES = {"3, 8-10": {3, 8, 9, 10}, "bit1": {n for n in range(256) if n & 2}, "4": {4}, "0, bit7": None}


@pytest.fixture(scope="module")
def mask(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("mask") / "mask.tif"
    write_raster(path, np.zeros((1, 4, 4), np.uint8), Grid((4, 4), np.eye(3)))
    return str(path)


def of_register(*options: str):
    command = register.register
    given = command.make_context("register", ["a.tif", "b.tif", "-o", "out", *options]).params
    return make_scene_pair("a.tif", "b.tif", {**given, "companions": {}, "classes": {}}).scene


def of_detect(*options: str):
    given = detect.detect.make_context("detect", ["a.tif", "b.tif", "-o", "out", *options]).params
    return parse_dated_scenes(["a.tif", "b.tif"], given)[1]


def of_apply(monkeypatch, mask, *options: str):
    seen = []
    monkeypatch.setattr("regflow.pipeline.carry.load_transform", lambda _path: None)
    monkeypatch.setattr("regflow.pipeline.carry.load_product", lambda *_arguments: None)
    monkeypatch.setattr(
        "regflow.pipeline.carry.warp_raster_file",
        lambda _by, source, *_args, **_more: seen.append(source),
    )
    arguments = ["apply", "transform.json", mask, "-r", mask, "-o", "out.tif", *options]
    ended = CliRunner().invoke(main, arguments)
    assert ended.exit_code == 0, ended.output
    return seen[0]


@pytest.mark.parametrize(("text", "value"), NODATA.items())
def test_nodata_is_read_alike(monkeypatch, mask, text, value):
    made = [
        of_register("--nodata", text),
        of_detect("--nodata", text),
        of_apply(monkeypatch, mask, "--nodata", text),
    ]
    np.testing.assert_equal([scene.nodata for scene in made], [value] * 3)


@pytest.mark.parametrize(("text", "values"), MASK_VALUES.items())
def test_mask_values_are_read_alike(mask, text, values):
    first = of_register("--moving-mask", mask, "--mask-values", text)
    second = of_detect("--mask", mask, "--mask", mask, "--mask-values", text)
    assert list_excluded_values(first.quality, first.mask) == second.mask_values
    assert set(second.mask_values) == (values or {0, *range(128, 256)})


@pytest.mark.parametrize("option", ["--nodata", "--mask-values"])
@pytest.mark.parametrize("command", ["register", "detect"])
def test_what_is_neither_is_refused_alike(command, option, tmp_path):
    ended = CliRunner().invoke(
        main, [command, "a.tif", "b.tif", "-o", str(tmp_path / "out"), option, "cloud"]
    )
    assert ended.exit_code == 2
    name = option.removeprefix("--").replace("-", "_")
    assert ended.output.startswith(f"Error: {name} is 'cloud', but must be ")


def test_bands_are_read_alike():
    given = detect.detect.make_context("detect", ["a", "b", "-o", "out", "--bands", "B04, B08,"]).params
    assert tuple(make_change_config(given)["bands"]) == of_register("--bands", "B04, B08,").bands
