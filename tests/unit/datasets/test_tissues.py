import numpy as np
import pytest

from regflow.core.errors import InputError
from regflow.datasets.tissues import segment_tissues
from regflow.metrics.overlap import dice


def test_classes_agree_with_the_tissue_maps_of_the_same_template(volume):
    t1 = volume("icbm2009a", 2.0)
    gray, white = (volume(f"icbm2009a-{tissue}", 2.0).channel / 255 for tissue in ("gm", "wm"))
    drawn = np.where(t1.mask, 1 + np.argmax([1 - gray - white, gray, white], axis=0), 0)
    scores = dice(segment_tissues(t1.channel, t1.mask), drawn)
    # The maps come from other software and know the cerebellum; intensities alone come this near.
    assert scores[2] > 0.75
    assert scores[3] > 0.8


def test_the_order_of_tissues_turns_over_with_the_contrast(mni_4mm):
    plain = segment_tissues(mni_4mm.channel, mni_4mm.mask)
    turned = segment_tissues(100 - mni_4mm.channel, mni_4mm.mask, fluid_is_bright=True)
    assert (plain == turned)[mni_4mm.mask].mean() > 0.98
    assert set(np.unique(plain)) == {0, 1, 2, 3}
    assert not plain[~mni_4mm.mask].any()


def test_classes_do_not_depend_on_scale_or_offset(mni_4mm):
    plain = segment_tissues(mni_4mm.channel, mni_4mm.mask)
    scaled = segment_tissues(mni_4mm.channel * np.float32(16) - np.float32(64), mni_4mm.mask)
    assert (plain == scaled)[mni_4mm.mask].mean() > 0.999


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_constant_image_is_refused(value):
    with pytest.raises(InputError, match="constant"):
        segment_tissues(np.full((4, 4, 4), value), np.ones((4, 4, 4), dtype=bool))


def test_an_empty_mask_is_refused(mni_4mm):
    with pytest.raises(InputError, match="mask"):
        segment_tissues(mni_4mm.channel, np.zeros(mni_4mm.grid.shape, dtype=bool))
