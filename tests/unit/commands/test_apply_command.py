"""``regflow apply`` on files of several volumes, scaled labels and chosen backgrounds."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from click.testing import CliRunner

from regflow.commands.cli import main
from regflow.io.volumes import read_series, read_volume

SERIES = Path(nib.__file__).parent / "tests" / "data" / "example4d.nii.gz"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """A real series of two volumes, its first volume as reference, and a rotation as ITK writes it."""
    folder = tmp_path_factory.mktemp("apply")
    whole = nib.load(SERIES)
    few = np.asanyarray(whole.dataobj)[::6, ::6, ::3]
    affine = whole.affine @ np.diag([6, 6, 3, 1.0])
    series = nib.Nifti1Image(few, affine)
    series.header.set_xyzt_units("mm", "msec")
    series.header["pixdim"][4] = 2000
    nib.save(series, folder / "epi.nii.gz")
    nib.save(nib.Nifti1Image(few[..., 0], affine), folder / "reference.nii.gz")
    turn = sitk.Euler3DTransform((0, 0, 0), 0.1, 0, 0, (3, 2, 1))
    sitk.WriteTransform(turn, str(folder / "turn.tfm"))
    return {path.name: path for path in folder.iterdir()}


def apply(files, source, output, *options):
    arguments = [files["turn.tfm"], source, "-r", files["reference.nii.gz"], "-o", output, *options]
    return CliRunner().invoke(main, ["apply", *map(str, arguments)])


def expected(files, volume: int, outside: float) -> np.ndarray:
    still = sitk.ReadImage(str(files["reference.nii.gz"]))
    moving = sitk.ReadImage(str(files["epi.nii.gz"]), sitk.sitkFloat32)[..., volume]
    turn = sitk.ReadTransform(str(files["turn.tfm"]))
    return sitk.GetArrayFromImage(sitk.Resample(moving, still, turn, sitk.sitkLinear, outside))


def test_all_volumes_of_a_series_are_carried_unless_one_is_named(files, tmp_path):
    options = ("--outside", "-7")
    assert apply(files, files["epi.nii.gz"], tmp_path / "all.nii.gz", *options).exit_code == 0
    carried = list(read_series(tmp_path / "all.nii.gz"))
    assert len(carried) == 2
    for index, volume in enumerate(carried):
        assert np.abs(volume - expected(files, index, -7)).max() <= 0.51
    assert nib.load(tmp_path / "all.nii.gz").header["pixdim"][4] == 2000
    one = apply(files, files["epi.nii.gz"], tmp_path / "one.nii.gz", "--volume", "1", *options)
    assert one.exit_code == 0
    assert np.array_equal(read_volume(tmp_path / "one.nii.gz").channel, carried[1])


def test_several_volumes_go_into_nifti_alone_and_labels_need_one_named(files, tmp_path):
    told = apply(files, files["epi.nii.gz"], tmp_path / "all.nrrd")
    assert told.exit_code == 2
    assert "several volumes are written as NIfTI; name a file that ends in .nii.gz" in told.output
    told = apply(files, files["epi.nii.gz"], tmp_path / "all.nii.gz", "--labels")
    assert told.exit_code == 2
    assert "by --volume" in told.output
    told = apply(files, files["epi.nii.gz"], tmp_path / "all.nii.gz", "--labels", "--outside", "3")
    assert "--outside is for images" in told.output


def test_the_background_of_the_image_fills_what_it_does_not_cover(files, tmp_path):
    reference = nib.load(files["reference.nii.gz"])
    statistic = np.zeros(reference.shape, np.float32)
    inner = tuple(slice(n // 4, 3 * n // 4) for n in reference.shape)
    statistic[inner] = np.random.default_rng(0).normal(0, 5, statistic[inner].shape)
    nib.save(nib.Nifti1Image(statistic, reference.affine), tmp_path / "t.nii.gz")
    assert apply(files, tmp_path / "t.nii.gz", tmp_path / "carried.nii.gz").exit_code == 0
    carried = read_volume(tmp_path / "carried.nii.gz").channel
    assert statistic.min() < -10
    assert np.mean(carried == 0) > 0.5


def test_scaled_labels_are_carried_as_whole_numbers(files, tmp_path):
    reference = nib.load(files["reference.nii.gz"])
    labels = np.zeros(reference.shape)
    labels[4:-4, 3:-3, 2:-2] = 1
    labels[8:-8, 6:-6, 3:-3] = 7015
    image = nib.Nifti1Image(labels, reference.affine)
    image.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "labels.nii.gz")
    assert apply(files, tmp_path / "labels.nii.gz", tmp_path / "on.nii.gz", "--labels").exit_code == 0
    carried = read_volume(tmp_path / "on.nii.gz").channel
    assert carried.dtype.kind == "i"
    assert set(np.unique(carried)) == {0, 1, 7015}


def test_a_diffusion_series_is_refused_unless_one_volume_is_named(files, tmp_path):
    source = tmp_path / "dwi.nii.gz"
    source.write_bytes(files["epi.nii.gz"].read_bytes())
    (tmp_path / "dwi.bvec").write_text("0 1\n0 0\n0 0\n")
    told = apply(files, source, tmp_path / "out.nii.gz")
    assert told.exit_code != 0, told.output
    assert "gradient directions (dwi.bvec) would no longer fit" in told.output
    assert apply(files, source, tmp_path / "out.nii.gz", "--volume", "0").exit_code == 0
