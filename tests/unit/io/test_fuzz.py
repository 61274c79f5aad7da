"""No input of any format ends in anything but the project's own sentences, and none takes much memory."""

import resource
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fuzzed_files import Bytes, damaged, odd_json, odd_nifti, odd_table, sound_files
from hypothesis import given, settings

from regflow.cohort.rasters.samples import FixedScene, Scene
from regflow.cohort.reading import read_cohort
from regflow.cohort.volumes.samples import FixedVolume
from regflow.config.loading import load_config
from regflow.core.errors import InputError
from regflow.core.files import read_json
from regflow.io.landmarks import read_landmarks
from regflow.io.point_tables import read_point_table
from regflow.io.raster_transforms import read_displacement, read_fixed_grid, read_raster_transform
from regflow.io.rasters import read_raster_header, read_window
from regflow.io.transforms import read_transform
from regflow.io.vectors import read_points
from regflow.io.volumes import read_header, read_volume

SPARE_BYTES = 2 << 30
"""What reading a file of a few kilobytes may take beside what the process has."""
SHORT, LONG = 15, 500
"""Inputs of a reader: in every run, and in the slow one, of 21 readers."""
INGESTED_EACH = 1700
"""Inputs that go through ingest in the slow run: 10,000 in all."""

pytestmark = pytest.mark.timeout(1800)
"""A reader that hangs ends its own test, not the run."""


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


def ingest_volume(path: Path, **parts: str) -> None:
    """Take a volume, or a part of a sound one, through ingest; what is wrong is said in its manifest."""
    image = path.with_name("sound.nii")
    image.write_bytes(sound_files()["volume.nii"])
    given = {"image": str(image), **parts}
    _ingest("volumes", path, FixedVolume("fixed", **given))


def ingest_scene(path: Path, **parts: str) -> None:
    """Take a scene, or its mask, through ingest."""
    image = path.with_name("sound.tif")
    image.write_bytes(sound_files()["scene.tif"])
    _ingest("rasters", path, FixedScene("fixed", Scene(**{"image": str(image), **parts})))


def _ingest(kind: str, path: Path, subject: Any) -> None:
    manifest = path.with_name("manifest.json")
    ingest = import_module(f"regflow.stages.{kind}.ingest").ingest
    ingest(manifest, subject=subject)
    content = read_json(manifest)
    assert all("\n" not in told and "Traceback" not in told for told in content["problems"]), content


_SHEET = b"sample,moving,group,volume,companions\ns1,a.nii,x,1,f=b.nii;g=c.nii\ns2,b.nii,y,,\n"
_SCENES = b'sample,moving,nodata,date,bands,mask_values\ns1,a.tif,0,2024-06-30,"1, 2",3\ns2,b.tif,nan,,,\n'
_PEOPLE = b"participant_id,age,group\nsub-01,4,a\nsub-02,5,b\n"


class Reader(NamedTuple):
    """How one kind of input is read: its file's name, a sound one, what happens to that, and the reader."""

    name: str
    sound: bytes
    change: Callable[[bytes], Bytes]
    read: Callable[[Path], Any]


def of_sound(name: str, change: Callable[[bytes], Bytes], read: Callable[[Path], Any]) -> Reader:
    return Reader(name, sound_files()[name], change, read)


READERS: dict[str, Callable[[], Reader]] = {
    "volume header": lambda: of_sound("volume.nii", odd_nifti, read_header),
    "volume": lambda: of_sound("volume.nii", odd_nifti, read_volume),
    "compressed volume": lambda: of_sound("volume.nii.gz", odd_nifti, read_volume),
    "nrrd": lambda: of_sound("volume.nrrd", damaged, read_volume),
    "meta image": lambda: of_sound("volume.mha", damaged, read_volume),
    "sheet": lambda: Reader("sheet.tsv", _SHEET, odd_table, read_sheet),
    "sheet of scenes": lambda: Reader("sheet.tsv", _SCENES, odd_table, read_scenes),
    "participants": lambda: Reader("participants.tsv", _PEOPLE, odd_table, read_participants),
    "landmarks": lambda: of_sound("points.csv", odd_table, read_landmarks),
    "fiducials": lambda: of_sound("points.fcsv", odd_table, read_landmarks),
    "markups": lambda: of_sound("points.mrk.json", odd_json, read_landmarks),
    "points": lambda: Reader("points.csv", b"x,y,name\n1,2,a\n3,4,b\n", odd_table, read_point_table),
    "geopackage": lambda: of_sound("points.gpkg", damaged, read_point_table),
    "own geopackage": lambda: of_sound("points.gpkg", damaged, read_points),
    "stac": lambda: of_sound("items.json", odd_json, read_collection),
    "transform": lambda: of_sound("transform.tfm", damaged, read_transform),
    "hdf5 transform": lambda: of_sound("transform.h5", damaged, read_transform),
    "scene transform": lambda: of_sound("transform.json", odd_json, read_folder),
    "displacement": lambda: of_sound("displacement.tif", damaged, read_displacement),
    "scene": lambda: of_sound("scene.tif", damaged, read_scene),
    "configuration": lambda: Reader("config.yaml", b"seed: 1\nreport: {}\n", damaged, read_configuration),
}

INGESTED: dict[str, Callable[[], Reader]] = {
    "volume through ingest": lambda: of_sound(
        "volume.nii", odd_nifti, lambda path: ingest_volume(path, image=str(path))
    ),
    "mask through ingest": lambda: of_sound(
        "volume.nii", odd_nifti, lambda path: ingest_volume(path, mask=str(path))
    ),
    "labels through ingest": lambda: of_sound(
        "volume.nii", odd_nifti, lambda path: ingest_volume(path, labels=str(path))
    ),
    "landmarks through ingest": lambda: of_sound(
        "points.csv", odd_table, lambda path: ingest_volume(path, landmarks=str(path))
    ),
    "scene through ingest": lambda: of_sound(
        "scene.tif", damaged, lambda path: ingest_scene(path, image=str(path))
    ),
    "scene's mask through ingest": lambda: of_sound(
        "scene.tif", damaged, lambda path: ingest_scene(path, mask=str(path))
    ),
}
"""What goes through the stage as a whole, with all that it compares."""
EVERY = {**READERS, **INGESTED}


@pytest.fixture
def bounded() -> Iterator[None]:
    """Let the process take no more than :data:`SPARE_BYTES` beyond what it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + SPARE_BYTES, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with what a transform of scenes names beside itself."""
    (tmp_path / "field.tif").write_bytes(sound_files()["field.tif"])
    return tmp_path


def fuzz(reader: Reader, folder: Path, count: int) -> None:
    """Read many inputs; whatever is raised but an InputError fails."""

    @settings(max_examples=count, derandomize=True, database=None, deadline=None, report_multiple_bugs=False)
    @given(reader.change(reader.sound))
    def read_one(content: bytes) -> None:
        path = folder / reader.name
        path.write_bytes(content)
        with suppress(InputError):
            reader.read(path)

    read_one()


@pytest.mark.parametrize("name", EVERY)
def test_a_sound_input_is_read(name, folder):
    reader = EVERY[name]()
    (folder / reader.name).write_bytes(reader.sound)
    reader.read(folder / reader.name)


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("name", EVERY)
def test_no_input_ends_in_anything_but_a_sentence(name, folder):
    fuzz(EVERY[name](), folder, SHORT)


@pytest.mark.slow
@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("name", EVERY)
def test_ten_thousand_inputs_end_in_nothing_but_sentences(name, folder):
    fuzz(EVERY[name](), folder, INGESTED_EACH if name in INGESTED else LONG)
