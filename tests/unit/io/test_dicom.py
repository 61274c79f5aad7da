"""DICOM series that SimpleITK writes from a real volume, and folders that hold something else."""

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread

from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.core.resample import read_sitk_grid, to_sitk_image
from regflow.io.dicom import list_series
from regflow.io.volumes import read_header, read_volume

DATA = Path(nib.__file__).parent / "tests" / "data"
TILT = np.array([[1.0, 0.0, 0.0], [0.0, 0.96, -0.28], [0.0, 0.28, 0.96]])


def write_series(
    folder: Path,
    number: int = 1,
    skipped: tuple[int, ...] = (),
    drift: float = 0.0,
    stretch: float = 0.0,
) -> np.ndarray:
    """Write a real volume, int16, as slices on an oblique grid; returns what was written."""
    folder.mkdir(exist_ok=True)
    volume = np.ascontiguousarray(np.asarray(nib.load(DATA / "anatomical.nii").dataobj).T[:12]).astype(
        np.int16
    )
    grid = Grid.from_geometry(volume.shape, (0.9, 1.1, 2.5), (-10.0, 20.0, 30.0), TILT)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for z, plane in enumerate(volume):
        if z in skipped:
            continue
        flat = Grid.from_geometry((1, *plane.shape), grid.spacing, grid.to_world((0, 0, z)), TILT)
        image = to_sitk_image(plane[None], flat)[:, :, 0]
        height = TILT[:, 2] * stretch * z**2
        position = grid.to_world((0, 0, z)) + drift * z * TILT[:, 0] + height
        tags = {
            "0008|0060": "MR",
            "0008|103e": f"series {number}",
            "0020|000d": "1.2.826.0.1.3680043.8.498.1",
            "0020|000e": f"1.2.826.0.1.3680043.8.498.1.{number}",
            "0008|0018": f"1.2.826.0.1.3680043.8.498.1.{number}.{z + 1}",
            "0020|0011": str(number),
            "0020|0013": str(z + 1),
            "0020|0032": "\\".join(f"{value:.6f}" for value in position),
            "0020|0037": "\\".join(f"{value:.6f}" for value in TILT[:, :2].T.ravel()),
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{number}_{z:03d}.dcm"))
        writer.Execute(image)
    return volume


def test_a_series_reads_on_its_oblique_grid(tmp_path):
    written = write_series(tmp_path / "scan")
    image = read_volume(tmp_path / "scan")
    expected = Grid.from_geometry(written.shape, (0.9, 1.1, 2.5), (-10.0, 20.0, 30.0), TILT)
    assert np.array_equal(image.channel, written)
    assert image.grid.matches(expected)
    header = read_header(tmp_path / "scan")
    assert (header.format, header.dtype, header.grid) == ("DICOM", np.int16, image.grid)


def test_real_slices_read_as_simpleitk_reads_them(tmp_path):
    for name in ("0.dcm", "1.dcm"):
        shutil.copy(DATA / name, tmp_path)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    theirs, image = reader.Execute(), read_volume(tmp_path)
    assert np.array_equal(image.channel, sitk.GetArrayFromImage(theirs))
    assert image.grid.matches(read_sitk_grid(theirs))


def test_one_of_several_series_is_chosen_by_number_or_uid(tmp_path):
    written = write_series(tmp_path / "scan", 1)
    write_series(tmp_path / "scan", 7)
    with pytest.raises(InputError, match="holds 2 series; name one by its number or UID") as caught:
        read_volume(tmp_path / "scan")
    assert "1 'series 1' (12 files" in str(caught.value)
    assert "7 'series 7' (12 files" in str(caught.value)
    uid = list_series(tmp_path / "scan")[1].uid
    for volume in (7, "7", uid):
        assert np.array_equal(read_volume(tmp_path / "scan", volume).channel, written)
    with pytest.raises(InputError, match="no single series '3'"):
        read_volume(tmp_path / "scan", 3)


def test_a_missing_slice_is_told(tmp_path):
    write_series(tmp_path / "scan", skipped=(5,))
    told = r"steps between slices go from 2\.5 to 5 mm; 1 of the slices seem to be missing"
    with pytest.raises(InputError, match=told):
        read_volume(tmp_path / "scan")


def test_a_distance_between_slices_that_varies_is_no_missing_slice(tmp_path):
    write_series(tmp_path / "scan", stretch=0.05)
    with pytest.raises(InputError, match="a grid has even steps: resample the series"):
        read_volume(tmp_path / "scan")


@pytest.mark.parametrize("first", [1.0, 0.5])
def test_every_slice_is_scaled_by_its_own_slope(tmp_path, first):
    slopes = (first, *(0.001 * (z + 1) for z in range(11)))
    stored = write_series(tmp_path / "scan")
    for path, slope in zip(sorted((tmp_path / "scan").iterdir()), slopes, strict=True):
        content = dcmread(path)
        content.RescaleSlope, content.RescaleIntercept = slope, 0
        content.save_as(path)
    values = read_volume(tmp_path / "scan").channel
    assert np.allclose(values, stored * np.array(slopes)[:, None, None], rtol=1e-6, atol=1e-6)
    assert read_header(tmp_path / "scan").dtype == values.dtype


def test_slices_stacked_at_a_slant_are_told(tmp_path):
    write_series(tmp_path / "scan", drift=0.5)
    with pytest.raises(InputError, match="tilted gantry"):
        read_volume(tmp_path / "scan")


def test_a_single_slice_and_an_empty_folder_are_told(tmp_path):
    write_series(tmp_path / "scan")
    with pytest.raises(InputError, match="give the folder that holds the whole series"):
        read_volume(tmp_path / "scan" / "1_000.dcm")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no DICOM images"):
        read_volume(tmp_path / "empty")
    (tmp_path / "empty" / "notes.txt").write_text("nothing")
    with pytest.raises(InputError, match="holds no DICOM images"):
        read_volume(tmp_path / "empty")
