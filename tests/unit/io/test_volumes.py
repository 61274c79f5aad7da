"""Volumes: what nibabel and SimpleITK write we read alike, and bad files get one clear sentence."""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from regflow.core.errors import InputError
from regflow.core.files import compute_sha256
from regflow.core.grid import Grid
from regflow.io.header import TimeAxis
from regflow.io.nifti_header import read_layout
from regflow.io.volumes import (
    make_portable,
    read_header,
    read_labels,
    read_series,
    read_volume,
    read_with_header,
    write_series,
    write_volume,
)

DATA = Path(nib.__file__).parent / "tests" / "data"
ROTATION = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
SHAPE = (5, 6, 7)
HEADER_MM = 1e-4
"""What float32 headers leave of a position in millimeters."""


@pytest.fixture
def data() -> np.ndarray:
    return np.random.default_rng(0).normal(100, 20, SHAPE).astype(np.float32)


@pytest.fixture
def grid() -> Grid:
    """Oblique, anisotropic, away from the origin."""
    return Grid.from_geometry(SHAPE, (0.9, 1.1, 3.0), (-10.0, 20.0, 5.0), ROTATION)


def nifti(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """Write with nibabel: ``data`` in (x, y, z) order, affine to RAS."""
    nib.save(nib.Nifti1Image(data, np.diag([1.0, 2.0, 3.0, 1.0]) if affine is None else affine), path)
    return path


def patched(path: Path, offset: int, content: bytes) -> Path:
    """Overwrite bytes of a file: headers that no library would write."""
    raw = bytearray(path.read_bytes())
    raw[offset : offset + len(content)] = content
    path.write_bytes(raw)
    return path


def sentence(path: Path, **options: object) -> str:
    """Return the one sentence with which reading ``path`` is refused."""
    with pytest.raises(InputError) as caught:
        read_volume(path, **options)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", ["anatomical.nii", "example4d.nii.gz", "functional.nii", "standard.nii.gz"])
def test_real_files_read_as_simpleitk_reads_them(name):
    theirs = sitk.ReadImage(str(DATA / name))
    samples = sitk.GetArrayFromImage(theirs)
    volume = 0 if samples.ndim == 4 else None
    image = read_volume(DATA / name, volume)
    first = samples[0] if samples.ndim == 4 else samples
    assert np.allclose(image.channel, first, rtol=1e-6)
    assert np.allclose(image.grid.spacing, theirs.GetSpacing()[:3])
    assert np.allclose(image.grid.origin, theirs.GetOrigin()[:3], atol=HEADER_MM)
    direction = np.reshape(theirs.GetDirection(), (theirs.GetDimension(),) * 2)[:3, :3]
    assert np.allclose(image.grid.direction, direction, atol=1e-5)


def test_a_real_file_reads_as_nibabel_reads_it():
    image, theirs = read_volume(DATA / "anatomical.nii"), nib.load(DATA / "anatomical.nii")
    assert np.array_equal(image.channel, np.asarray(theirs.dataobj).T)
    assert np.allclose(np.diag([-1, -1, 1, 1]) @ image.grid.affine, theirs.affine)


@pytest.mark.parametrize("ending", ["nii", "nii.gz", "nrrd", "mha"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "uint16", "float32", "float64"])
def test_what_is_written_is_read_back_by_us_and_by_simpleitk(tmp_path, data, grid, ending, dtype):
    path = tmp_path / f"volume.{ending}"
    write_volume(path, data.astype(dtype), grid)
    image, theirs = read_volume(path), sitk.ReadImage(str(path))
    for samples in (image.channel, sitk.GetArrayFromImage(theirs)):
        assert samples.dtype == dtype
        assert np.array_equal(samples, data.astype(dtype))
    assert np.allclose(image.grid.affine, grid.affine, atol=HEADER_MM)
    assert np.allclose(theirs.GetOrigin(), grid.origin, atol=HEADER_MM)
    assert np.allclose(np.reshape(theirs.GetDirection(), (3, 3)), ROTATION, atol=1e-5)
    again, header = read_with_header(path)
    assert header == read_header(path)
    assert header.grid == image.grid == again.grid
    assert header.dtype == dtype


def test_a_label_map_is_opened_for_its_header_once(tmp_path, data, grid, monkeypatch):
    write_volume(tmp_path / "labels.nii.gz", np.rint(data).astype(np.int16), grid)
    opened = []
    monkeypatch.setattr("regflow.io.nifti.read_layout", lambda path: opened.append(path) or read_layout(path))
    read_labels(tmp_path / "labels.nii.gz")
    assert opened == [tmp_path / "labels.nii.gz"]


def test_nibabel_finds_both_forms_equal_in_what_is_written(tmp_path, data, grid):
    write_volume(tmp_path / "a.nii.gz", data, grid)
    header = nib.load(tmp_path / "a.nii.gz").header
    assert header["sform_code"] == header["qform_code"] == 1
    assert np.allclose(header.get_sform(), header.get_qform(), atol=1e-5)
    assert np.allclose(header.get_sform(), np.diag([-1, -1, 1, 1]) @ grid.affine, atol=HEADER_MM)
    assert header.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize("flip", [(-1, 1, 1), (1, -1, 1), (-1, -1, -1)])
def test_a_flipped_volume_keeps_its_place_in_the_world(tmp_path, data, grid, flip):
    affine = grid.affine @ np.diag([*flip, 1.0])
    flipped = Grid(SHAPE, affine)
    write_volume(tmp_path / "a.nii", data, flipped)
    image = read_volume(tmp_path / "a.nii")
    theirs = sitk.ReadImage(str(tmp_path / "a.nii"))
    for index in [(0, 0, 0), (6, 5, 4), (1, 2, 3)]:
        assert np.allclose(image.grid.to_world(index), flipped.to_world(index), atol=HEADER_MM)
        assert np.allclose(
            theirs.TransformIndexToPhysicalPoint(index), flipped.to_world(index), atol=HEADER_MM
        )


def test_equal_volumes_give_equal_bytes_whatever_the_name(tmp_path, data, grid):
    for ending in ("nii.gz", "nii", "nrrd", "mha"):
        paths = [tmp_path / f"{name}.{ending}" for name in ("a", "b")]
        for path in paths:
            write_volume(path, data, grid)
        assert compute_sha256(paths[0]) == compute_sha256(paths[1])


def test_masks_and_wide_integers_get_a_type_that_every_tool_reads(tmp_path, data, grid):
    for samples, expected in [
        (data > 100, "uint8"),
        (np.full(SHAPE, 300), "int16"),
        (np.full(SHAPE, -70000), "int32"),
        (data.astype(np.float16), "float32"),
    ]:
        write_volume(tmp_path / "a.nii", samples, grid)
        assert read_volume(tmp_path / "a.nii").channel.dtype == expected


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond ``size`` bytes, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_a_failed_write_leaves_what_was_there(tmp_path, data, grid, ending):
    path = tmp_path / f"a.{ending}"
    write_volume(path, data, grid)
    before = path.read_bytes()
    with pytest.raises(OSError, match="File too large"), largest_file(500):
        write_volume(path, data + 1, grid)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_writing_another_format_is_refused(tmp_path, data, grid):
    with pytest.raises(InputError, match=r"a\.tif: cannot write this format"):
        write_volume(tmp_path / "a.tif", data, grid)


@pytest.mark.parametrize(
    ("stored", "read"), [("int16", "float32"), ("uint8", "float32"), ("int32", "float64")]
)
def test_stored_scaling_is_applied(tmp_path, stored, read):
    image = nib.Nifti1Image(np.arange(210, dtype=stored).reshape(7, 6, 5), np.eye(4))
    image.header.set_slope_inter(0.5, -10)
    nib.save(image, tmp_path / "a.nii")
    # nibabel divides when it saves; put the raw numbers back to know the file's content.
    raw = np.arange(210, dtype=stored).tobytes()
    patched(tmp_path / "a.nii", 352, raw)
    patched(tmp_path / "a.nii", 112, np.array([0.5, -10], "<f4").tobytes())
    samples = read_volume(tmp_path / "a.nii").channel
    assert samples.dtype == read
    assert np.array_equal(samples.ravel(), np.arange(210) * 0.5 - 10)
    assert read_header(tmp_path / "a.nii").dtype == read


def test_big_endian_samples_become_native(tmp_path):
    header = nib.Nifti1Header(endianness=">")
    values = np.arange(210, dtype=">i2").reshape(7, 6, 5)
    header.set_data_dtype(values.dtype)
    nib.save(nib.Nifti1Image(values, np.eye(4), header), tmp_path / "a.nii")
    samples = read_volume(tmp_path / "a.nii").channel
    assert samples.dtype.isnative
    assert np.array_equal(samples, values.T)


@pytest.mark.parametrize("ending", ["nii", "nii.gz", "nrrd", "mha"])
def test_one_of_several_volumes_is_named(tmp_path, ending):
    values = np.random.default_rng(1).normal(size=(3, *SHAPE)).astype(np.float32)
    path = tmp_path / f"four.{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(values, isVector=False), str(path))
    assert read_header(path).volumes == 3
    for index in range(3):
        assert np.array_equal(read_volume(path, index).channel, values[index])
    assert np.array_equal(read_volume(path, "2").channel, values[2])
    asked = "holds 3 volumes; name one of a moving file (0 to 2) in the column 'volume' or by --volume"
    assert asked in sentence(path)
    assert "no volume '3'" in sentence(path, volume=3)


@pytest.mark.parametrize("ending", ["nii", "nii.gz", "nrrd", "mha"])
def test_a_series_yields_each_volume(tmp_path, ending):
    values = np.random.default_rng(1).normal(size=(3, *SHAPE)).astype(np.float32)
    path = tmp_path / f"four.{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(values, isVector=False), str(path))
    assert np.array_equal(np.stack(list(read_series(path))), values)


def test_a_series_that_ends_early_is_told(tmp_path):
    values = np.random.default_rng(1).normal(size=(3, *SHAPE)).astype(np.float32)
    path = tmp_path / "four.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(values, isVector=False), str(path))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match="end early"):
        list(read_series(path))


@pytest.mark.parametrize(("given_type", "kept"), [(np.int16, np.int16), (bool, np.uint8), (np.int64, float)])
def test_a_series_is_written_as_tools_read_it(tmp_path, grid, given_type, kept):
    volumes = [np.full(SHAPE, value).astype(given_type) for value in (0, 1, 5)]
    write_series(tmp_path / "a.nii.gz", volumes, np.dtype(given_type), grid, TimeAxis(3, 2.0, "sec"))
    stored = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    assert stored.GetSize()[3] == 3
    assert stored.GetSpacing()[3] == 2.0
    read = list(read_series(tmp_path / "a.nii.gz"))
    assert all(a.dtype == kept and np.array_equal(a, b) for a, b in zip(read, volumes, strict=True))


def test_components_count_as_volumes(tmp_path):
    values = np.random.default_rng(1).normal(size=(*SHAPE, 3)).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(values, isVector=True), str(tmp_path / "a.nrrd"))
    assert np.array_equal(read_volume(tmp_path / "a.nrrd", 1).channel, values[..., 1])


def test_an_ending_in_capitals_is_the_same(tmp_path, data, grid):
    for name in ("A.NII", "A.NII.GZ"):
        write_volume(tmp_path / name, data, grid)
        assert np.array_equal(read_volume(tmp_path / name).channel, data)
    assert (tmp_path / "A.NII.GZ").read_bytes()[:2] == b"\x1f\x8b"


@given(
    spacing=st.tuples(*[st.floats(0.2, 10)] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    flip=st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_grid_survives_a_nifti_file(spacing, origin, angles, flip):
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * flip
    grid = Grid.from_geometry(SHAPE, spacing, origin, turn)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.nii"
        write_volume(path, np.zeros(SHAPE, np.uint8), grid)
        back, theirs = read_header(path), sitk.ReadImage(str(path))
    corner = np.array(grid.size) - 1
    assert back.warnings == ()
    assert np.allclose(back.grid.to_world(corner), grid.to_world(corner), atol=1e-3)
    found = theirs.TransformIndexToPhysicalPoint([int(n) for n in corner])
    assert np.allclose(found, grid.to_world(corner), atol=1e-3)


# Orientation


def forms(path: Path, sform: np.ndarray, qform: np.ndarray, sform_code: int = 1) -> Path:
    image = nib.Nifti1Image(np.arange(210, dtype=np.int16).reshape(7, 6, 5), sform)
    image.set_sform(sform, sform_code)
    image.set_qform(qform, 1)
    nib.save(image, path)
    return path


def test_the_sform_counts_and_a_conflict_is_told(tmp_path):
    moved = np.diag([1.0, 2.0, 3.0, 1.0])
    moved[0, 3] = 7.0
    path = forms(tmp_path / "a.nii", moved, np.diag([1.0, 2.0, 3.0, 1.0]), 2)
    header = read_header(path)
    assert np.allclose(header.grid.origin, (-7, 0, 0))
    assert header.warnings[0].startswith(f"{path}: sform and qform disagree by up to 7 mm")
    assert np.allclose(nib.load(path).affine, moved)


def test_forms_that_agree_to_rounding_give_no_warning(tmp_path):
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = 0.05
    assert read_header(forms(tmp_path / "a.nii", affine, np.diag([1.0, 2.0, 3.0, 1.0]))).warnings == ()


def test_forms_that_disagree_on_left_and_right_are_refused(tmp_path):
    path = forms(tmp_path / "a.nii", np.diag([-1.0, 2, 3, 1]), np.diag([1.0, 2, 3, 1]))
    assert "disagree on left and right" in sentence(path)


def test_the_qform_counts_alone_and_without_either_we_do_as_itk(tmp_path):
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = (4, 5, 6)
    path = nifti(tmp_path / "q.nii", np.zeros((7, 6, 5), np.int16), affine)
    image = nib.load(path)
    image.set_qform(affine, 1)
    image.set_sform(None, 0)
    nib.save(image, tmp_path / "q2.nii")
    assert np.allclose(read_header(tmp_path / "q2.nii").grid.origin, (-4, -5, 6))
    bare = patched(path, 252, np.array([0, 0], "<i2").tobytes())
    header, theirs = read_header(bare), sitk.ReadImage(str(bare))
    assert "states no orientation" in header.warnings[0]
    assert np.allclose(header.grid.origin, theirs.GetOrigin())
    for index in [(1, 0, 0), (0, 1, 0), (0, 0, 1)]:
        assert np.allclose(header.grid.to_world(index), theirs.TransformIndexToPhysicalPoint(index))


def test_a_singular_affine_is_refused(tmp_path):
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    affine[:3, 2] = affine[:3, 1]
    path = nifti(tmp_path / "a.nii", np.zeros((7, 6, 5), np.int16))
    patched(path, 280, affine[:3].astype("<f4").tobytes())
    patched(path, 252, np.array([0, 1], "<i2").tobytes())
    assert "singular" in sentence(path)


@pytest.mark.parametrize(("shear", "refused"), [(1e-5, False), (5e-4, False), (0.02, True)])
def test_a_sheared_affine_is_refused_and_rounding_is_repaired(tmp_path, shear, refused):
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    affine[0, 1] = shear * 2
    path = nifti(tmp_path / "a.nii", np.arange(210, dtype=np.int16).reshape(7, 6, 5))
    patched(path, 280, affine[:3].astype("<f4").tobytes())
    patched(path, 252, np.array([0, 1], "<i2").tobytes())
    if refused:
        assert "sheared" in sentence(path)
        return
    grid = read_header(path).grid
    assert np.allclose(grid.direction.T @ grid.direction, np.eye(3), atol=1e-5)
    middle = (np.array(grid.size) - 1) / 2
    expected = (np.diag([-1, -1, 1, 1]) @ affine @ np.append(middle, 1))[:3]
    assert np.allclose(grid.center, expected, atol=HEADER_MM)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_a_spacing_that_is_not_positive_is_refused(tmp_path, value):
    path = nifti(tmp_path / "a.nii", np.zeros((7, 6, 5), np.int16))
    patched(path, 80, np.array([value], "<f4").tobytes())
    assert "spacing along x" in sentence(path)


@pytest.mark.parametrize("ending", ["mha", "nrrd"])
def test_zero_spacing_is_refused_in_other_formats(tmp_path, data, grid, ending):
    path = tmp_path / f"a.{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(data), str(path))
    before = {"mha": b"ElementSpacing = 1 1 1", "nrrd": b"(1,0,0)"}[ending]
    after = {"mha": b"ElementSpacing = 0 1 1", "nrrd": b"(0,0,0)"}[ending]
    path.write_bytes(path.read_bytes().replace(before, after))
    assert "spacing" in sentence(path).lower()


# Files that are not what they should be


def test_a_missing_file_is_named(tmp_path):
    assert "does not exist" in sentence(tmp_path / "none.nii.gz")


@pytest.mark.parametrize("ending", ["nii", "nii.gz", "nrrd", "mha", "dcm"])
def test_an_empty_file_is_named(tmp_path, ending):
    (tmp_path / f"a.{ending}").touch()
    assert "is empty" in sentence(tmp_path / f"a.{ending}")


@pytest.mark.parametrize("ending", ["nii", "nii.gz", "nrrd", "mha"])
@pytest.mark.parametrize("kept", [0.9, 0.5])
def test_a_truncated_file_is_named(tmp_path, data, grid, ending, kept):
    path = tmp_path / f"a.{ending}"
    write_volume(path, data, grid)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    text = sentence(path)
    assert "early" in text
    assert "copy it again" in text


def test_a_changed_byte_in_compressed_data_is_found(tmp_path, data, grid):
    path = tmp_path / "a.nii.gz"
    write_volume(path, data, grid)
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF  # the checksum
    path.write_bytes(content)
    assert "damaged" in sentence(path)


@pytest.mark.parametrize("ending", ["nii", "nii.gz", "nrrd", "mha", "dcm"])
def test_text_under_an_image_name_is_refused(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    path.write_text("patient,age\n1,50\n" * 50)
    assert "as its name says" in sentence(path)


def test_a_picture_is_named_for_what_it_is(tmp_path):
    sitk.WriteImage(sitk.Image(8, 8, sitk.sitkUInt8), str(tmp_path / "a.png"))
    (tmp_path / "a.png").rename(tmp_path / "a.nii")
    assert "a PNG picture" in sentence(tmp_path / "a.nii")


@pytest.mark.parametrize(
    ("written", "named", "proper"),
    [
        ("nii.gz", "nii", ".nii.gz"),
        ("nii", "nii.gz", ".nii"),
        ("nrrd", "nii", ".nrrd"),
        ("mha", "nrrd", ".mha"),
    ],
)
def test_a_wrong_extension_is_told_with_the_right_one(tmp_path, data, grid, written, named, proper):
    write_volume(tmp_path / f"right.{written}", data, grid)
    path = tmp_path / f"wrong.{named}"
    (tmp_path / f"right.{written}").rename(path)
    assert f"rename it to '{proper}'" in sentence(path)


def test_an_unknown_format_lists_the_known_ones():
    assert "convert it to one of .nii.gz, .nii" in sentence(DATA / "T1.PAR")


@pytest.mark.parametrize("shape", [(7, 6), (7, 6, 1)])
def test_two_dimensions_are_refused(tmp_path, shape):
    path = nifti(tmp_path / "a.nii", np.zeros(shape, np.int16))
    assert "a 3-D volume is needed" in sentence(path)
    flat = tmp_path / "a.mha"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros(shape[::-1], np.int16)), str(flat))
    assert "a 3-D volume is needed" in sentence(flat)


@pytest.mark.parametrize("dtype", [np.complex64, [("R", "u1"), ("G", "u1"), ("B", "u1")]])
def test_complex_numbers_and_colors_are_refused(tmp_path, dtype):
    path = nifti(tmp_path / "a.nii", np.zeros((7, 6, 5), dtype))
    assert "one real number" in sentence(path)


def test_a_header_without_its_data_file_is_told(tmp_path, data):
    sitk.WriteImage(sitk.GetImageFromArray(data), str(tmp_path / "a.mhd"))
    (tmp_path / "a.raw").unlink()
    assert "missing" in sentence(tmp_path / "a.mhd")


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ([0, 200], "uint8"),
        ([-300, 5], "int16"),
        ([-5, 40_000], "int32"),
        ([-5, 2**40], "int64"),
        ([], "uint8"),
    ],
)
def test_long_integers_become_the_smallest_type_that_holds_them(values, name):
    portable = make_portable(np.array(values, np.int64))
    assert portable.dtype == name
    assert portable.tolist() == values
