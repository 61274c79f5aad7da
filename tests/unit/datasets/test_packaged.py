import numpy as np
import pytest

from regflow.core.errors import InputError
from regflow.datasets import packaged as realdata
from regflow.datasets.volumes import load_volume


@pytest.mark.parametrize("name", ["mni2009c", "mni6", "icbm2009a"])
def test_the_templates_put_the_brain_at_one_place_of_the_world(name, volume):
    brain = volume(name, 4.0)
    z, y, x = np.nonzero(brain.mask)
    center = brain.grid.to_world(np.stack([x, y, z], axis=-1)).mean(axis=0)
    # LPS: the anterior commissure is the origin, the brain's middle lies behind and above it.
    assert np.allclose(center, [0, 18, 9], atol=4)
    assert 1.6e6 < brain.mask.sum() * 4**3 < 2.3e6


def test_shrinking_keeps_the_mass_and_the_center(volume):
    full, coarse = volume("mni2009c"), volume("mni2009c", 4.0)
    assert coarse.channel.sum(dtype=float) * 4**3 == pytest.approx(full.channel.sum(dtype=float), rel=0.01)
    assert np.allclose(coarse.grid.center, full.grid.center)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(realdata, "find_spec", lambda package: None)
    assert realdata.locate_source("icbm2009a") is None
    with pytest.raises(InputError, match="pip install nilearn"):
        load_volume("icbm2009a")


def test_files_hold_what_the_volumes_hold(volume, volume_file):
    import SimpleITK as sitk

    from regflow.core.resample import read_sitk_grid

    stored = sitk.ReadImage(str(volume_file("mni6", 4.0)))
    image = volume("mni6", 4.0)
    assert read_sitk_grid(stored).matches(image.grid)
    assert np.array_equal(sitk.GetArrayFromImage(stored), image.channel)
