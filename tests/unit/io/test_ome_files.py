import json

import numpy as np
import pytest
import tifffile

from regflow.core.files import compute_sha256
from regflow.io.ome_tiff import OmeTiffWriter
from regflow.io.ome_zarr import CHUNK, OmeProfile, OmeZarrWriter, halve_planes

zarr = pytest.importorskip("zarr")
SHAPE = (2, 1100, 1500)
VALUES = np.random.default_rng(0).integers(0, 60000, SHAPE).astype(np.uint16)
PROFILE = OmeProfile(SHAPE, "uint16", ("dapi", "gfp"), 0.65)


def write(writer, path, **options):
    with writer(path, PROFILE, **options) as store:
        for row in range(0, SHAPE[1], CHUNK):
            for col in range(0, SHAPE[2], CHUNK):
                rows, cols = slice(row, min(row + CHUNK, SHAPE[1])), slice(col, min(col + CHUNK, SHAPE[2]))
                store.write(VALUES[:, rows, cols], rows, cols)


def test_ome_zarr_holds_all_levels(tmp_path):
    write(OmeZarrWriter, tmp_path / "m.ome.zarr", threads=2)
    group = zarr.open_group(str(tmp_path / "m.ome.zarr"), mode="r")
    np.testing.assert_array_equal(group["0"][:], VALUES)
    np.testing.assert_array_equal(group["1"][:], halve_planes(VALUES))
    content = json.loads((tmp_path / "m.ome.zarr" / "zarr.json").read_text(encoding="utf-8"))
    ome = content["attributes"]["ome"]
    assert ome["version"] == "0.5"
    levels = ome["multiscales"][0]["datasets"]
    assert [level["path"] for level in levels] == ["0", "1", "2"]
    assert levels[1]["coordinateTransformations"][0]["scale"] == [1.0, 1.3, 1.3]
    assert [axis["name"] for axis in ome["multiscales"][0]["axes"]] == ["c", "y", "x"]
    assert [channel["label"] for channel in ome["omero"]["channels"]] == ["dapi", "gfp"]


def test_ome_tiff_holds_all_levels(tmp_path):
    write(OmeTiffWriter, tmp_path / "m.ome.tif")
    with tifffile.TiffFile(tmp_path / "m.ome.tif") as file:
        series = file.series[0]
        assert file.is_ome
        assert series.axes == "CYX"
        np.testing.assert_array_equal(series.levels[0].asarray(), VALUES)
        np.testing.assert_array_equal(series.levels[1].asarray(), halve_planes(VALUES))
        assert 'Name="gfp"' in file.ome_metadata
        assert 'PhysicalSizeX="0.65"' in file.ome_metadata


@pytest.mark.parametrize(("writer", "name"), [(OmeZarrWriter, "m.ome.zarr"), (OmeTiffWriter, "m.ome.tif")])
def test_equal_pixels_give_equal_bytes_with_any_threads(tmp_path, writer, name):
    write(writer, tmp_path / "a" / name, threads=1)
    write(writer, tmp_path / "b" / name, threads=2)
    assert compute_sha256(tmp_path / "a" / name) == compute_sha256(tmp_path / "b" / name)


@pytest.mark.parametrize(("writer", "name"), [(OmeZarrWriter, "m.ome.zarr"), (OmeTiffWriter, "m.ome.tif")])
def test_an_error_leaves_nothing(tmp_path, writer, name):
    with pytest.raises(RuntimeError, match="stop"), writer(tmp_path / name, PROFILE):
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []
