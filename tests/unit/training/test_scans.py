"""Pairs from real volumes: the truth is true, contrasts change, and the object is what counts."""

from pathlib import Path

import numpy as np
import pytest
import training_runs
from torch import Tensor

from regflow.core.image import Image
from regflow.core.resample import coarsen_image
from regflow.core.similarity import ncc
from regflow.examples import volumes as demo
from regflow.io.volumes import write_volume
from regflow.methods.refine.velocity_torch import sample_channels
from regflow.training import sources
from regflow.training.painted import BACKGROUND_WEIGHT
from regflow.training.pairs import PairMixture, TrainingPair
from regflow.training.scans import ScanPairs, prepare_scans, read_scans_of_folder
from regflow.training.settings import compute_checksums

SIDE = 32
LEAST_OF_THE_OBJECT = 0.2
"""Of a patch: fewer samples, or a contrast that blanks them, say nothing."""


@pytest.fixture(scope="module")
def drawn() -> list[TrainingPair]:
    source = prepare_scans([coarsen_image(demo.load_example("mni2009c", None), 2.0)])
    return [source((SIDE,) * 3, np.random.default_rng(number)) for number in range(24)]


def similarity(pair: TrainingPair, displacement: Tensor | None) -> float:
    """Return the images' correlation on the object, the moving one displaced; NaN where little is seen."""
    assert pair.known is not None
    moving = (
        pair.moving if displacement is None else sample_channels(pair.moving[None], displacement[None])[0]
    )
    counted = (pair.known[0] == 1).numpy()
    if counted.mean() < LEAST_OF_THE_OBJECT:
        return np.nan
    return ncc(pair.fixed[0].numpy()[counted], moving[0].numpy()[counted])


def test_the_truth_brings_images_of_one_contrast_together(drawn: list[TrainingPair]) -> None:
    alike = [pair for pair in drawn if pair.alike]
    after = np.array([similarity(pair, pair.truth) for pair in alike])
    before = np.array([similarity(pair, None) for pair in alike])
    assert np.isfinite(after).sum() > 4
    assert np.nanmean(after) > 0.7
    assert np.nanmean(after) > np.nanmean(before) + 0.1


def test_contrasts_differ_where_they_are_said_to(drawn: list[TrainingPair]) -> None:
    left = {
        alike: [similarity(each, each.truth) for each in drawn if each.alike == alike]
        for alike in (False, True)
    }
    assert np.nanmean(left[False]) < np.nanmean(left[True]) - 0.3


def test_images_run_from_0_to_1_and_the_object_counts_most(drawn: list[TrainingPair]) -> None:
    weights = {0.0, float(np.float32(BACKGROUND_WEIGHT)), 1.0}
    for pair in drawn:
        assert pair.known is not None
        for image in (pair.fixed, pair.moving):
            assert 0 <= float(image.min()) <= float(image.max()) <= 1
        assert set(np.unique(pair.known.numpy()).tolist()) <= weights
    assert (
        np.mean([float((pair.known == 1).float().mean()) for pair in drawn if pair.known is not None]) > 0.3
    )


def test_volumes_of_a_folder_are_trained_on_and_their_bytes_count(mni_4mm: Image, tmp_path: Path) -> None:
    for name in ("b.nii.gz", "a.nii.gz"):
        write_volume(tmp_path / name, mni_4mm.channel, mni_4mm.grid)
    assert len(read_scans_of_folder(tmp_path)) == 2
    settings = training_runs.tiny(ndim=3, shares={"scans": 1.0}, scans=str(tmp_path), side=16)
    assert sorted(Path(path).name for path in compute_checksums(settings)) == ["a.nii.gz", "b.nii.gz"]
    mixture = sources.build_mixture(settings, seed=1)
    assert isinstance(mixture, PairMixture)
    source = mixture.sources["scans"]
    assert isinstance(source, ScanPairs)
    # The package's template is one of them.
    assert len(source.scans) == 3
    assert mixture.pair(0).fixed.shape == (1, 16, 16, 16)
