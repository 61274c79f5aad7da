"""No input of any format ends in anything but the project's own sentences, and none takes much memory."""

import resource
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from fuzzed_files import Bytes, damaged, odd_json, odd_nifti, odd_table, sound_files
from hypothesis import HealthCheck, given, settings

from regflow.config import load_config
from regflow.core.errors import InputError
from regflow.core.io.landmarks import read_landmarks
from regflow.core.io.point_tables import read_point_table
from regflow.core.io.raster_transforms import read_displacement, read_fixed_grid, read_raster_transform
from regflow.core.io.rasters import read_raster_header, read_window
from regflow.core.io.transforms import read_transform
from regflow.core.io.vectors import read_points
from regflow.core.io.volumes import read_header, read_volume
from regflow.samples import read_cohort

SPARE_BYTES = 2 << 30
"""What reading a file of a few kilobytes may take beside what the process has."""
SHORT, LONG = 25, 1000
"""Inputs of a reader: in every run, and in the slow one."""


def read_scene(path: Path) -> None:
    header = read_raster_header(path)
    read_window(path, [1], slice(0, min(4, header.shape[0])), slice(0, min(4, header.shape[1])))


def read_folder(path: Path) -> None:
    read_raster_transform(path.parent)
    read_fixed_grid(path.parent)


@cache
def volumes() -> dict[str, Any]:
    return load_config({"samples": "a", "fixed": "a", "atlases": {"a": {"image": "a.nii"}}})


@cache
def scenes() -> dict[str, Any]:
    return load_config(
        {"kind": "rasters", "samples": "a", "fixed": "a", "references": {"a": {"image": "a.tif"}}}
    )


def read_sheet(path: Path) -> None:
    read_cohort({**volumes(), "samples": str(path)})


def read_scenes(path: Path) -> None:
    read_cohort({**scenes(), "samples": str(path)})


def read_collection(path: Path) -> None:
    wanted = {"asset": "red", "reference": "one", "mask_asset": "scl", "cloud_cover_max": 50}
    given = {"bands": None, "mask_values": "3", "companions": [], "classes": []}
    read_cohort({**scenes(), "stac": {"path": str(path), **wanted, **given}})


def read_participants(path: Path) -> None:
    image = path.parent / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    image.parent.mkdir(parents=True, exist_ok=True)
    image.touch()
    given = {"suffix": ["T1w"], "companions": [], "volume": None, "filters": {}, "derivatives": None}
    read_cohort({**volumes(), "bids": {"path": str(path.parent), **given}})


def read_configuration(path: Path) -> None:
    load_config(path, with_samples=False)


_SHEET = "sample,moving,group,volume,companions\ns1,a.nii,x,1,f=b.nii;g=c.nii\ns2,b.nii,y,,\n"
_SCENES = 'sample,moving,nodata,date,bands,mask_values\ns1,a.tif,0,2024-06-30,"1, 2",3\ns2,b.tif,nan,,,\n'
_PEOPLE = "participant_id,age,group\nsub-01,4,a\nsub-02,5,b\n"

READERS: dict[str, tuple[str, Callable[[], Bytes], Callable[[Path], Any]]] = {
    "volume header": ("volume.nii", odd_nifti, read_header),
    "volume": ("volume.nii.gz", odd_nifti, read_volume),
    "nrrd": ("volume.nrrd", lambda: damaged(sound_files()["volume.nrrd"]), read_volume),
    "meta image": ("volume.mha", lambda: damaged(sound_files()["volume.mha"]), read_volume),
    "sheet": ("sheet.tsv", lambda: odd_table(_SHEET), read_sheet),
    "sheet of scenes": ("sheet.tsv", lambda: odd_table(_SCENES), read_scenes),
    "participants": ("participants.tsv", lambda: odd_table(_PEOPLE), read_participants),
    "landmarks": ("points.csv", lambda: odd_table(sound_files()["points.csv"].decode()), read_landmarks),
    "fiducials": ("points.fcsv", lambda: odd_table(sound_files()["points.fcsv"].decode()), read_landmarks),
    "markups": ("points.mrk.json", lambda: odd_json("points.mrk.json"), read_landmarks),
    "points": ("points.csv", lambda: odd_table("x,y,name\n1,2,a\n3,4,b\n"), read_point_table),
    "geopackage": ("points.gpkg", lambda: damaged(sound_files()["points.gpkg"]), read_point_table),
    "own geopackage": ("points.gpkg", lambda: damaged(sound_files()["points.gpkg"]), read_points),
    "stac": ("items.json", lambda: odd_json("items.json"), read_collection),
    "transform": ("transform.tfm", lambda: damaged(sound_files()["transform.tfm"]), read_transform),
    "hdf5 transform": ("transform.h5", lambda: damaged(sound_files()["transform.h5"]), read_transform),
    "scene transform": ("transform.json", lambda: odd_json("transform.json"), read_folder),
    "displacement": ("field.tif", lambda: damaged(sound_files()["field.tif"]), read_displacement),
    "scene": ("scene.tif", lambda: damaged(sound_files()["scene.tif"]), read_scene),
    "configuration": (
        "config.yaml",
        lambda: damaged(b"seed: 1\nrefine: {methods: [none, greedy]}\n"),
        read_configuration,
    ),
}


@pytest.fixture
def bounded() -> Iterator[None]:
    """Let the process take no more than :data:`SPARE_BYTES` beyond what it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + SPARE_BYTES, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def fuzz(reader: str, folder: Path, count: int) -> None:
    name, strategy, read = READERS[reader]

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[*HealthCheck],
    )
    @given(strategy())
    def try_one(content: bytes) -> None:
        path = folder / name
        path.write_bytes(content)
        try:
            read(path)
        except InputError as error:
            assert str(error).strip()

    for beside in ("field.tif",):
        (folder / beside).write_bytes(sound_files()[beside])
    try_one()


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("reader", READERS)
def test_no_input_ends_in_anything_but_a_sentence(reader, tmp_path):
    fuzz(reader, tmp_path, SHORT)


@pytest.mark.slow
@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("reader", READERS)
def test_ten_thousand_inputs_end_in_nothing_but_sentences(reader, tmp_path):
    fuzz(reader, tmp_path, LONG)
