"""What a job asks of the machine by the size of its images."""

import pytest

from regflow.cohort.samples import estimate_samples
from regflow.config.workflow import WORKFLOWS, JobNeeds, scale_needs

USUAL = JobNeeds("registration", 4, 8000, 60)


def test_images_of_usual_size_ask_for_what_the_table_says():
    for kind in WORKFLOWS:
        assert scale_needs(kind, USUAL, 14_000_000) == USUAL


def test_large_volumes_ask_for_memory_that_holds_them_and_for_more_time():
    large = scale_needs("volumes", USUAL, 2 * 512 * 512 * 600)
    assert large.mem_mb == pytest.approx(2000 + 95 * 314.6, rel=0.01)
    assert large.runtime == 472
    assert (large.env, large.threads) == (USUAL.env, USUAL.threads)


def test_the_memory_of_a_scene_does_not_depend_on_its_size():
    large = scale_needs("rasters", USUAL, 50_000**2)
    assert large.mem_mb == USUAL.mem_mb
    assert large.runtime > 60 * USUAL.runtime


def test_samples_are_told_from_the_sizes_of_files(tmp_path):
    for name, size in (("a.nii", 3000), ("b.nii.gz", 500)):
        (tmp_path / name).write_bytes(bytes(size))
    (tmp_path / "series").mkdir()
    for number in range(3):
        (tmp_path / "series" / f"{number}.dcm").write_bytes(bytes(100))
    names = ("a.nii", "b.nii.gz", "series", "missing.nii")
    assert [estimate_samples(str(tmp_path / name)) for name in names] == [1500, 500, 150, 0]
    assert estimate_samples("s3://data/a.nii") == 0
