"""A mirrored volume is told, and neither a right one nor a symmetric one is."""

import numpy as np
import pytest

from regflow.core.gate import Verdict
from regflow.core.image import Image
from regflow.core.transform import Affine
from regflow.stages.mirroring import FIGURE, LIMITS, judge_mirroring, mirror_gain
from regflow.stages.volumes.initialize import align_volumes

SETTINGS = {"methods": ["mutual-information"]}
SURE = LIMITS[FIGURE]["warn_above"]
PASSED = Verdict("pass", "every figure is within its limits", {"nmi": 1.2})


def mirrored(image: Image) -> Image:
    """Turn the samples around from left to right under a header that does not know of it."""
    assert image.mask is not None
    return Image(image.data[..., ::-1].copy(), image.grid, image.mask[..., ::-1].copy())


def made_symmetric(image: Image) -> Image:
    return Image((image.data + mirrored(image).data) / 2, image.grid, image.mask | mirrored(image).mask)


@pytest.mark.parametrize(
    "names", [("mni_4mm", "mni6_4mm"), ("mni6_4mm", "mni_4mm"), ("mni_4mm", "colin_brain_4mm")]
)
def test_a_mirrored_brain_is_told_and_a_right_one_passes(request, names):
    fixed, moving = (request.getfixturevalue(name) for name in names)
    right = align_volumes(fixed, moving, SETTINGS).verdict
    assert right.status == "pass"
    assert right.figures[FIGURE] < -SURE
    wrong = align_volumes(fixed, mirrored(moving), SETTINGS).verdict
    assert wrong.status == "warn"
    assert wrong.figures[FIGURE] > SURE
    assert "nmi" in wrong.figures
    assert wrong.reason.startswith(
        "the moving image fits clearly better when it is mirrored left for right: check"
    )


def test_nothing_is_said_of_a_symmetric_atlas(mni_4mm, mni6_4mm, icbm_4mm):
    start = Affine.identity(3)
    symmetric = made_symmetric(mni6_4mm)
    for fixed, moving in ((symmetric, mni_4mm), (mni_4mm, symmetric), (icbm_4mm, mirrored(mni_4mm))):
        assert mirror_gain(fixed, moving, start)[FIGURE] < 2


def test_the_check_can_be_skipped_and_a_worse_verdict_stays(mni_4mm, mni6_4mm):
    wrong = mni_4mm, mirrored(mni6_4mm), Affine.identity(3)
    for limits in ({}, {FIGURE: {}}, {FIGURE: {"warn_above": None}}):
        assert judge_mirroring(PASSED, *wrong, limits) is PASSED
    failed = Verdict("fail", "drift_percent is 9, above the limit of 8")
    assert judge_mirroring(failed, *wrong, LIMITS).reason == failed.reason


def test_an_image_that_cannot_be_aligned_is_not_mirrored(mni_4mm):
    flat = mni_4mm.with_data(np.ones_like(mni_4mm.data))
    assert mirror_gain(mni_4mm, flat, Affine.identity(3)) == {}
