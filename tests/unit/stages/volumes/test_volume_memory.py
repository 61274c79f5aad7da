"""A job of volumes that does not fit into memory is refused before it begins, by a sentence that helps."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from regflow.cohort.volumes.samples import FixedVolume, VolumeSample
from regflow.config.loading import load_defaults
from regflow.core import memory
from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.io.volumes import write_volume
from regflow.pipeline.pair import register_pair
from regflow.stages.volumes.ingest import ingest
from regflow.stages.volumes.initialize import initialize
from regflow.stages.volumes.memory import PAIR, SAMPLE_BYTES, check_originals
from regflow.stages.volumes.preprocess import preprocess
from regflow.stages.volumes.refine import refine
from regflow.stages.volumes.working import write_working

HEAD = Grid.from_geometry((256, 256, 256), (1.0, 1.0, 1.0), (0, 0, 0))
FINE = HEAD.with_spacing(0.25)


@pytest.fixture
def limited(monkeypatch):
    """``limited(bytes)`` pretends that so much is free."""
    return lambda room: monkeypatch.setattr(memory, "measure_free_bytes", lambda: room)


def test_a_pair_is_held_against_what_is_free(limited):
    needed = SAMPLE_BYTES[PAIR] * 2 * 256**3
    limited(int(needed) + 1)
    check_originals([("a.nii", HEAD), ("b.nii", HEAD)], None, PAIR)
    limited(int(needed) - 1)
    with pytest.raises(
        InputError, match=r"^a\.nii: register at the working size of 256 x 256 x 256 samples "
    ):
        check_originals([("a.nii", HEAD), ("b.nii", HEAD)], None, PAIR)
    limited(None)
    check_originals([("a.nii", FINE), ("b.nii", FINE)], None, PAIR)


def test_working_sizes_count_and_the_advice_helps(limited):
    limited(4 * 10**9)
    # A moving image is never worked on finer than the fixed one.
    check_originals([("a.nii", HEAD), ("b.nii", FINE)], None, PAIR)
    check_originals([("b.nii", FINE)], None, "preprocess", HEAD)
    check_originals([("a.nii", FINE), ("b.nii", FINE)], 1.0, PAIR)
    with pytest.raises(InputError, match="register at the working size of 1024 x 1024 x 1024") as told:
        check_originals([("b.nii", FINE), ("a.nii", HEAD)], None, PAIR)
    advised = float(re.findall(r"preprocess\.spacing_mm to ([\d.]+), crop", str(told.value))[0])
    assert advised < 1.1
    check_originals([("b.nii", FINE), ("a.nii", HEAD)], advised, PAIR)


def test_no_stage_begins_what_it_has_no_memory_for(tmp_path, monkeypatch, limited, mni_4mm):
    image = tmp_path / "fixed.nii"
    write_volume(image, mni_4mm.channel, mni_4mm.grid)
    ingest(tmp_path / "fixed.json", subject=FixedVolume("fixed", str(image)))
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    write_working(prepared, Image(mni_4mm.data.astype(np.float32), mni_4mm.grid))
    monkeypatch.setattr("regflow.stages.shell._blocked", lambda upstream: None)
    settings, both = load_defaults(), (str(prepared), str(prepared))
    limited(2 * 10**6)
    shared = {"sample": "s"}
    runs = {
        "preprocess": partial(preprocess, manifest=tmp_path / "fixed.json"),
        "initialize": partial(initialize, prepared=both),
        "refine": partial(refine, prepared=both, initial=tmp_path / "i"),
    }
    for stage, run in runs.items():
        # It is the machine's fault, not the sample's: the job fails, and may be tried with more.
        with pytest.raises(
            MemoryError, match=f"{stage} at the working size of 49 x 58 x 49 samples would take"
        ):
            run(tmp_path / stage, settings=settings[stage], **shared)
        assert not (tmp_path / stage).exists()


def test_a_pair_that_does_not_fit_leaves_nothing(tmp_path, monkeypatch, limited, mni_4mm):
    image = tmp_path / "a.nii"
    write_volume(image, mni_4mm.channel, mni_4mm.grid)
    limited(20 * 10**6)
    fixed = FixedVolume("fixed", str(image))
    with pytest.raises(InputError, match="register at the working size of 49 x 58 x 49 samples"):
        register_pair("volumes", VolumeSample("s", str(image), fixed), tmp_path / "out")
    assert not Path(tmp_path / "out").exists()
