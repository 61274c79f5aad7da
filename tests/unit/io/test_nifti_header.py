"""NIfTI headers that mislead: units, spacings, damaged fields; and the formats that nibabel reads."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from regflow.core.errors import InputError
from regflow.io.volumes import is_volume, read_header, read_labels, read_volume, write_volume

DATA = Path(nib.__file__).parent / "tests" / "data"
SAMPLES = np.arange(210, dtype=np.int16).reshape(7, 6, 5)
AFFINE = np.diag([0.1, 0.2, 0.3, 1.0])
AFFINE[:3, 3] = (1, 2, 3)


def nifti(path: Path, unit: int = 2, factor: float = 1.0) -> Path:
    """Write a file whose lengths are multiplied by a factor, with a code for its units."""
    image = nib.Nifti1Image(SAMPLES, np.diag([factor] * 3 + [1.0]) @ AFFINE)
    image.header["xyzt_units"] = unit
    nib.save(image, path)
    return path


def patched(path: Path, *changes: tuple[int, bytes]) -> Path:
    raw = bytearray(path.read_bytes())
    for offset, content in changes:
        raw[offset : offset + len(content)] = content
    path.write_bytes(raw)
    return path


def number(value: float, kind: str) -> bytes:
    return np.array([value], f"<{kind}").tobytes()


@pytest.mark.parametrize(("unit", "factor", "name"), [(1, 1e-3, "meters"), (3, 1e3, "micrometers")])
@pytest.mark.parametrize("form", ["sform", "qform"])
def test_other_units_of_length_become_millimeters_as_in_itk(tmp_path, unit, factor, name, form):
    path = nifti(tmp_path / "a.nii", unit, factor)
    if form == "qform":
        image = nib.load(path)
        image.set_qform(image.affine, 1)
        image.set_sform(None, 0)
        image.to_filename(path)
    header, theirs = read_header(path), sitk.ReadImage(str(path))
    assert np.allclose(header.grid.spacing, (0.1, 0.2, 0.3), rtol=1e-5)
    assert np.allclose(header.grid.origin, (-1, -2, 3), atol=1e-5)
    assert np.allclose(header.grid.spacing, theirs.GetSpacing(), rtol=1e-5)
    assert np.allclose(header.grid.origin, theirs.GetOrigin(), atol=1e-5)
    (told,) = header.warnings
    assert told.startswith(f"{path}: its lengths are in {name}, so a voxel measures 0.1 x 0.2 x 0.3 mm")
    write_volume(tmp_path / "b.nii", read_volume(path).channel, header.grid)
    assert np.allclose(read_header(tmp_path / "b.nii").grid.affine, header.grid.affine, atol=1e-6)
    assert read_header(tmp_path / "b.nii").warnings == ()


@pytest.mark.parametrize("code", [7, 4, 56, 255])
def test_a_unit_without_a_known_code_is_taken_as_millimeters(tmp_path, code):
    header = read_header(nifti(tmp_path / "a.nii", code))
    assert np.allclose(header.grid.spacing, (0.1, 0.2, 0.3), rtol=1e-5)
    assert header.timing.unit == ("unknown" if code & 56 == 56 else header.timing.unit)
    assert any("no known code" in told for told in header.warnings) == bool(code & 7)


@pytest.mark.parametrize("pixdim", [(0.05, 0.1, 0.15), (0.4, 0.2, 0.3)])
def test_a_pixdim_that_contradicts_the_sform_is_told(tmp_path, pixdim):
    path = nifti(tmp_path / "a.nii")
    patched(path, (80, np.array(pixdim, "<f4").tobytes()), (252, np.array([0, 1], "<i2").tobytes()))
    header, theirs = read_header(path), sitk.ReadImage(str(path))
    assert np.allclose(header.grid.spacing, (0.1, 0.2, 0.3), rtol=1e-5)
    assert np.allclose(theirs.GetSpacing(), pixdim, rtol=1e-5)
    (told,) = header.warnings
    assert "the sform states a spacing of 0.1 x 0.2 x 0.3 mm, pixdim one of " in told
    assert "ITK, ANTs and FSL read pixdim" in told
    write_volume(tmp_path / "b.nii", read_volume(path).channel, header.grid)
    ours, theirs = read_header(tmp_path / "b.nii").grid, sitk.ReadImage(str(tmp_path / "b.nii"))
    assert np.allclose(ours.spacing, theirs.GetSpacing(), rtol=1e-6)


@pytest.mark.parametrize(
    ("offset", "content", "told"),
    [
        (40, number(-5, "i2"), "states -5 dimensions"),
        (40, number(0, "i2"), "dimensions"),
        (42, number(-7, "i2"), "states the size"),
        (108, number(np.nan, "f4"), "states no place of the samples"),
        (108, number(np.inf, "f4"), "states no place of the samples"),
        (108, number(1e9, "f4"), "ends early"),
        (70, number(12345, "i2"), "is damaged"),
        (42, np.array([32767] * 3, "<i2").tobytes(), "ends early"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_field_is_one_sentence(tmp_path, offset, content, told, packed):
    path = patched(nifti(tmp_path / "a.nii"), (offset, content))
    if packed:
        (tmp_path / "a.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
        path = tmp_path / "a.nii.gz"
    for read in (read_header, read_volume):
        with pytest.raises(InputError, match=told) as caught:
            read(path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)


def test_labels_stored_by_a_scale_are_read_as_whole_numbers(tmp_path):
    labels = np.zeros((7, 6, 5))
    labels[1:3], labels[3:5], labels[5:] = 1, 2, 7015
    image = nib.Nifti1Image(labels, np.eye(4))
    image.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "a.nii.gz")
    assert read_header(tmp_path / "a.nii.gz").step == pytest.approx(0.107, abs=1e-3)
    assert np.array_equal(read_labels(tmp_path / "a.nii.gz")[0], labels.T)


# Formats that nibabel reads


@pytest.mark.parametrize("name", ["example4d+orig.HEAD", "example4d+orig.BRIK.gz", "scaled+tlrc.HEAD"])
def test_afni_files_read_as_nibabel_reads_them(name):
    theirs = nib.load(DATA / name)
    expected = np.asanyarray(theirs.dataobj)
    header = read_header(DATA / name)
    volumes = [read_volume(DATA / name, k if header.volumes > 1 else None) for k in range(header.volumes)]
    stacked = np.stack([volume.channel.T for volume in volumes], axis=-1)
    assert np.array_equal(stacked.reshape(expected.shape), expected)
    assert np.allclose(np.diag([-1, -1, 1, 1]) @ header.grid.affine, theirs.affine)
    assert volumes[0].channel.dtype == header.dtype
    assert is_volume(DATA / name)


@pytest.mark.parametrize("ending", ["mgz", "mgh"])
def test_mgh_files_read_as_nibabel_reads_them(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    nib.MGHImage(SAMPLES, AFFINE).to_filename(path)
    image, theirs = read_volume(path), nib.load(path)
    assert np.array_equal(image.channel, SAMPLES.T)
    assert np.allclose(np.diag([-1, -1, 1, 1]) @ image.grid.affine, theirs.affine, atol=1e-6)
    assert is_volume(path)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(InputError, match=r"damaged, missing or end early|data are damaged"):
        read_volume(path)


@pytest.mark.parametrize("named", ["hdr", "img"])
def test_a_pair_of_files_reads_by_either_name(tmp_path, named):
    nib.Nifti1Pair(SAMPLES, AFFINE).to_filename(tmp_path / "a.img")
    path = tmp_path / f"a.{named}"
    image = read_volume(path)
    assert np.array_equal(image.channel, SAMPLES.T)
    assert np.allclose(np.diag([-1, -1, 1, 1]) @ image.grid.affine, AFFINE, atol=1e-6)
    assert is_volume(path)
    (tmp_path / ("a.img" if named == "hdr" else "a.hdr")).unlink()
    with pytest.raises(InputError, match="its other half"):
        read_volume(path)


def test_analyze_and_other_images_of_that_name_are_no_volumes(tmp_path):
    with pytest.raises(InputError, match="does not tell left from right; convert it to NIfTI"):
        read_volume(DATA / "analyze.hdr")
    (tmp_path / "scene.hdr").write_text("ENVI\nsamples = 4\n")
    (tmp_path / "scene.img").write_bytes(bytes(64))
    assert not is_volume(tmp_path / "scene.img")


def test_damaged_afni_headers_are_one_sentence():
    for name in ("bad_attribute+orig.HEAD", "bad_datatype+orig.HEAD"):
        with pytest.raises(InputError, match="the AFNI file is damaged") as caught:
            read_volume(DATA / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("qfac", [2.0, 0.5, float("nan")])
def test_a_handedness_that_is_neither_is_one_sentence(tmp_path, qfac):
    path = patched(
        nifti(tmp_path / "a.nii"), (76, number(qfac, "f4")), (252, np.array([1, 0], "<i2").tobytes())
    )
    with pytest.raises(InputError, match=r"the qform of the header is damaged .*; export it again"):
        read_header(path)
