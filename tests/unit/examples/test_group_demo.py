import re
import shutil

import numpy as np
import pytest

from regflow.core.transform import Affine
from regflow.examples import groups
from regflow.io.raster_transforms import write_raster_transform
from regflow.io.rasters import read_raster_header


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("groups")
    groups.build_group_data(folder)
    return folder


def error_in(told):
    return float(re.search(r"([0-9.]+) (px|mm)", told)[1])


@pytest.mark.parametrize("moved", [0.0, 6.0])
def test_a_mosaic_is_held_against_the_true_places(folder, tmp_path, moved):
    data = folder / "data" / "mosaic"
    header, first, *others = (data / "truth.tsv").read_text(encoding="utf-8").splitlines()
    name, x, y = first.split("\t")
    places = [f"{name}\t{float(x) + moved}\t{y}", *others, "gone.tif\t0\t0"]
    linked = ["yes"] * (len(places) - 1) + ["no"]
    lines = [f"{place}\t{state}" for place, state in zip(places, linked, strict=True)]
    (tmp_path / "tiles.tsv").write_text("\n".join([f"{header}\tlinked", *lines]), encoding="utf-8")
    told = groups.measure_mosaic(data, tmp_path)
    assert told.startswith(f"{len(others) + 1} of {len(others) + 1} tiles")
    count = 2 * (len(others) + 1)
    expected = moved * np.sqrt((1 - 2 / count) / count)
    assert error_in(told) == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize("moved", [0.0, 45.0])
def test_a_series_is_held_against_the_known_shifts(folder, tmp_path, moved):
    data = folder / "data" / "series"
    rows = [line.split("\t") for line in (data / "truth.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    for number, (name, east, north) in enumerate(rows):
        grid = read_raster_header(data / f"{name}.tif").grid
        shift = np.array([float(east) + 100 + moved * (number == 0), float(north) - 50])
        aligned = tmp_path / "aligned" / name
        aligned.mkdir(parents=True)
        write_raster_transform(aligned, Affine.from_parts(np.eye(2), shift), grid)
    told = groups.measure_series(data, tmp_path)
    count = len(rows)
    assert error_in(told) == pytest.approx(moved / 30 * np.sqrt((1 - 1 / count) / count), abs=0.006)


def test_brains_go_back_to_the_atlas_by_their_truth(folder, tmp_path):
    """A template that is the atlas itself has the truth's own way to each brain."""
    data = folder / "data" / "template"
    names = sorted(path.stem for path in (data / "truth").glob("*.h5"))
    assert len(names) == 2 * groups.TEMPLATE_PAIRS
    for name in names:
        seed, _, way = name.rpartition("-")
        other = f"{seed}-{'back' if way == 'there' else 'there'}"
        (tmp_path / "transforms").mkdir(exist_ok=True)
        shutil.copyfile(data / "truth" / f"{other}.h5", tmp_path / "transforms" / f"{name}.h5")
    atlas = groups.load_example("mni2009c", groups.TEMPLATE_MM)
    inside = (atlas.channel > 0).astype(np.uint8)
    groups.write_volume(tmp_path / "template_mask.nii.gz", inside, atlas.grid)
    assert error_in(groups.measure_template(data, tmp_path)) < 0.1


@pytest.mark.slow
def test_each_group_ends_near_its_truth(tmp_path, capfd):
    groups.build_group_data(tmp_path)
    assert groups.run_groups(tmp_path) == 0
    told = [line for line in capfd.readouterr().out.splitlines() if line.split(":")[0] in groups.GROUPS]
    errors = {line.split(":")[0]: error_in(line.replace("dates, ", "")) for line in told}
    assert errors.keys() == groups.GROUPS.keys()
    assert all(error < limit for error, limit in zip(errors.values(), (0.3, 0.3, 0.2), strict=True))
    for name in groups.GROUPS:
        assert (tmp_path / "results" / name / "report.html").is_file()
