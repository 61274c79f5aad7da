"""Transform files that are cut off: ITK would read past the end of what is there."""

import h5py
import numpy as np
import pytest
import SimpleITK as sitk

from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.core.transform import Affine, Composite, DisplacementField
from regflow.io.transforms import read_transform, write_transform

LINEAR = [
    sitk.AffineTransform(3),
    sitk.Euler3DTransform(),
    sitk.VersorRigid3DTransform(),
    sitk.Similarity3DTransform(),
    sitk.ScaleTransform(3),
    sitk.TranslationTransform(3),
    sitk.ScaleSkewVersor3DTransform(),
]


def text(parameters: str, fixed: str) -> str:
    head = "#Insight Transform File V1.0\n#Transform 0\nTransform: Euler3DTransform_double_3_3\n"
    return f"{head}Parameters: {parameters}\nFixedParameters: {fixed}\n"


@pytest.mark.parametrize("ending", ["tfm", "txt", "h5"])
@pytest.mark.parametrize("transform", LINEAR, ids=lambda one: one.GetName())
def test_what_itk_writes_is_whole(tmp_path, transform, ending):
    path = tmp_path / f"a.{ending}"
    sitk.WriteTransform(transform, str(path))
    points = np.array([[1.0, 2.0, 3.0], [-4.0, 5.0, 6.0]])
    expected = [transform.TransformPoint(point) for point in points.tolist()]
    assert np.allclose(read_transform(path).apply(points), expected)


@pytest.mark.parametrize("fixed", ["1 2 3", "1 2 3 0"])
def test_older_files_say_less_of_what_is_fixed(tmp_path, fixed):
    (tmp_path / "a.tfm").write_text(text("0 0 0 4 5 6", fixed))
    assert read_transform(tmp_path / "a.tfm").apply([[0.0, 0, 0]])[0].tolist() == [4, 5, 6]


@pytest.mark.parametrize(
    ("parameters", "fixed", "told"),
    [
        ("0 0 0 0 0", "0 0 0", "its Euler3DTransform has 5 parameters, but 6 belong to it"),
        ("0 0 0 0 0 0 0", "0 0 0", "has 7 parameters, but 6"),
        ("0 0 0 0 0 0", "0 0", "and 2 fixed ones, to which 4 belong"),
        ("0 0 0 L0 0 0", "0 0 0", "a parameter is not a number"),
        ("", "", "has 0 parameters"),
    ],
)
def test_a_text_with_other_counts_is_refused(tmp_path, parameters, fixed, told):
    (tmp_path / "a.tfm").write_text(text(parameters, fixed))
    with pytest.raises(InputError, match=told):
        read_transform(tmp_path / "a.tfm")


@pytest.mark.parametrize("cut", [5, 359])
def test_a_field_with_other_counts_is_refused(tmp_path, cut):
    grid = Grid((4, 5, 6), np.diag([2.0, 2.0, 2.0, 1.0]))
    bent = DisplacementField(np.ones((3, *grid.shape), np.float32), grid)
    write_transform(tmp_path / "a.h5", Composite((Affine.identity(3), bent)))
    with h5py.File(tmp_path / "a.h5", "r+") as store:
        group = store["TransformGroup/1"]
        whole = group["TransformParameters"][()]
        del group["TransformParameters"]
        group["TransformParameters"] = whole[:cut]
    with pytest.raises(InputError, match=f"DisplacementFieldTransform has {cut} parameters, but 360 belong"):
        read_transform(tmp_path / "a.h5")


def test_an_hdf5_file_of_something_else_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as store:
        store["data"] = [1, 2]
    with pytest.raises(InputError, match="not a transform that ITK wrote"):
        read_transform(tmp_path / "a.h5")
