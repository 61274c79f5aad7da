from dataclasses import replace

import numpy as np
import pytest

from regflow.core import similarity
from regflow.core.errors import InputError
from regflow.core.resample import coarsen_image, resample_array
from regflow.metrics.agreement import measure_similarity

OPTIONS = {"bins": 32, "radius": 2}


def test_measures_are_those_of_the_whole_volume_where_nothing_is_shrunk(mni_4mm, icbm_4mm):
    other = resample_array(icbm_4mm.channel, icbm_4mm.grid, mni_4mm.grid)
    found = measure_similarity(mni_4mm, {"other": other, "same": mni_4mm.channel}, **OPTIONS, local_mm=2.0)
    fixed, mask = mni_4mm.channel, mni_4mm.mask
    assert found["ncc"]["other"] == pytest.approx(similarity.ncc(fixed, other, mask))
    assert found["mi"]["other"] == pytest.approx(similarity.mutual_information(fixed, other, mask, 32))
    assert found["lncc"]["other"] == pytest.approx(similarity.lncc(fixed, other, mask, 2), abs=1e-4)
    assert found["ssim"]["other"] == pytest.approx(similarity.ssim(fixed, other, mask), abs=1e-4)
    for measure in ("ncc", "ssim"):
        assert found[measure]["same"] == pytest.approx(1)
        assert found[measure]["other"] < 0.99


def test_local_measures_look_at_copies_of_a_common_spacing(mni_2mm):
    noisy = mni_2mm.channel + np.random.default_rng(0).normal(0, 30, mni_2mm.grid.shape).astype(np.float32)
    fine, coarse = (measure_similarity(mni_2mm, {"x": noisy}, **OPTIONS, local_mm=mm) for mm in (2.0, 4.0))
    assert fine["ncc"] == coarse["ncc"]
    whole, shrunk = coarsen_image(mni_2mm, 4.0), coarsen_image(mni_2mm.with_data(noisy), 4.0)
    expected = similarity.lncc(whole.channel, shrunk.channel, whole.mask, 2)
    assert coarse["lncc"]["x"] == pytest.approx(expected, abs=0.05)
    assert coarse["lncc"]["x"] > fine["lncc"]["x"] + 0.1


def test_without_a_mask_everything_counts_and_an_empty_one_is_refused(mni_4mm):
    everywhere = measure_similarity(
        replace(mni_4mm, mask=None), {"x": mni_4mm.channel}, **OPTIONS, local_mm=4.0
    )
    assert everywhere["ncc"]["x"] == pytest.approx(1)
    empty = replace(mni_4mm, mask=np.zeros(mni_4mm.grid.shape, dtype=bool))
    with pytest.raises(InputError, match="fixed mask is empty"):
        measure_similarity(empty, {"x": mni_4mm.channel}, **OPTIONS, local_mm=4.0)
