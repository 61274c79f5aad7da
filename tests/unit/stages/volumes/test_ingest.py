"""Ingest: every kind of bad input leaves a manifest with one sentence for each problem."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from regflow.cohort.samples import list_fixed_images
from regflow.cohort.volumes.reading import read_samples
from regflow.cohort.volumes.samples import FixedVolume, VolumeSample
from regflow.config.loading import load_config
from regflow.core.errors import InputError
from regflow.core.files import compute_sha256, read_json
from regflow.core.grid import Grid
from regflow.core.landmarks import Landmarks
from regflow.io.header import TimeAxis
from regflow.io.landmarks import write_landmarks
from regflow.io.volumes import write_series, write_volume
from regflow.stages.checks import Findings, find_problems
from regflow.stages.volumes.ingest import check_inputs, examine_volume, ingest, read_manifest
from regflow.stages.volumes.originals import read_parts

POINTS = np.array([[-35.0, -60, 20], [40, 35, 40], [10, -70, 60], [-50, 30, 10], [5, 0, -20], [25, 50, 0]])
NAMES = tuple("abcdef")


@pytest.fixture
def brain(mni_4mm):
    return mni_4mm


@pytest.fixture
def sample(tmp_path, brain) -> VolumeSample:
    """A sound sample of real volumes, with everything a row can name."""
    for name in ("fixed", "moving", "flair"):
        write_volume(tmp_path / f"{name}.nii.gz", brain.channel, brain.grid)
    write_volume(tmp_path / "mask.nii.gz", brain.mask, brain.grid)
    write_volume(tmp_path / "labels.nii.gz", brain.mask.astype(np.uint8) * 2, brain.grid)
    for name in ("fixed", "moving"):
        write_landmarks(tmp_path / f"{name}.csv", Landmarks(NAMES, POINTS))
    return VolumeSample(
        sample="sub-01",
        moving=str(tmp_path / "moving.nii.gz"),
        fixed=FixedVolume("mni", str(tmp_path / "fixed.nii.gz"), str(tmp_path / "mask.nii.gz")),
        moving_mask=str(tmp_path / "mask.nii.gz"),
        moving_labels=str(tmp_path / "labels.nii.gz"),
        moving_landmarks=str(tmp_path / "moving.csv"),
        fixed_landmarks=str(tmp_path / "fixed.csv"),
        companions={"flair": str(tmp_path / "flair.nii.gz")},
        modality="T1w",
        group="patients",
    )


def only(subject: VolumeSample | FixedVolume) -> str:
    """Return the one sentence about a subject with one problem."""
    (sentence,) = examine_volume(subject).problems
    assert "\n" not in sentence
    return sentence


def shifted(grid: Grid, *offset: float) -> Grid:
    affine = np.array(grid.affine)
    affine[:3, 3] += offset
    return Grid(grid.shape, affine)


def test_a_sound_sample_has_a_full_manifest(tmp_path, sample, brain):
    manifest = ingest(tmp_path / "out" / "sub-01.json", subject=sample)
    assert manifest["state"] == "done"
    assert manifest["problems"] == manifest["warnings"] == []
    stored = read_manifest(tmp_path / "out" / "sub-01.json")
    assert Grid.from_dict(stored["grid"]).matches(brain.grid)
    assert (stored["name"], stored["fixed"], stored["format"]) == ("sub-01", "mni", "NIfTI")
    assert (stored["dtype"], stored["modality"], stored["group"]) == ("float32", "T1w", "patients")
    assert stored["paths"]["companions"] == sample.companions
    assert stored["sha256"]["image"] == compute_sha256(sample.moving)
    assert stored["sha256"]["companions"]["flair"] == compute_sha256(sample.companions["flair"])


def test_a_fixed_image_has_a_manifest_too(tmp_path, sample):
    manifest = ingest(tmp_path / "mni.json", subject=sample.fixed)
    assert (manifest["name"], manifest["fixed"], manifest["state"]) == ("mni", None, "done")
    assert set(manifest["paths"]) == {"image", "mask"}


def test_a_manifest_is_written_for_a_bad_sample_and_using_it_tells_why(tmp_path, sample):
    Path(sample.moving).write_bytes(b"")
    manifest = ingest(tmp_path / "a.json", subject=replace(sample, moving_labels="none.nii"))
    assert manifest["state"] == "error"
    assert manifest["grid"] is None
    assert len(manifest["problems"]) == 2
    assert read_json(tmp_path / "a.json") == manifest
    with pytest.raises(
        InputError, match=r"none\.nii: this file does not exist.*; .*moving\.nii\.gz: this file is empty"
    ):
        read_manifest(tmp_path / "a.json")


def test_a_missing_file_of_each_part_is_named(sample):
    for part in ("moving", "moving_mask", "moving_labels", "moving_landmarks", "fixed_landmarks", "truth"):
        assert "none.nii: this file does not exist" in only(replace(sample, **{part: "none.nii"}))
    assert "none.nii: this file" in only(replace(sample, companions={"flair": "none.nii"}))


@pytest.mark.parametrize("content", [b"", b"not an image at all" * 40])
def test_an_empty_or_foreign_file_of_each_part_is_named(sample, tmp_path, content):
    path = tmp_path / "bad.nii.gz"
    path.write_bytes(content)
    for part in ("moving", "moving_mask", "moving_labels"):
        assert str(path) in only(replace(sample, **{part: str(path)}))


def test_a_truncated_file_is_named(sample):
    path = Path(sample.moving)
    path.write_bytes(path.read_bytes()[:-500])
    assert "end early" in only(sample)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_told(sample, brain, bad):
    data = brain.channel.copy()
    data[3, 4, 5] = bad
    write_volume(sample.moving, data, brain.grid)
    assert "1 NaN or infinite samples" in only(sample)


def test_a_constant_image_is_told(sample, brain):
    write_volume(sample.moving, np.full(brain.grid.shape, 3, np.int16), brain.grid)
    assert "every sample is 3" in only(sample)


def test_a_companion_with_nan_is_only_warned_of(sample, brain):
    data = brain.channel.copy()
    data[0, 0, 0] = np.nan
    write_volume(sample.companions["flair"], data, brain.grid)
    found = examine_volume(sample)
    assert found.problems == []
    assert "NaN" in found.warnings[0]


@pytest.mark.parametrize("part", ["moving_mask", "moving_labels"])
def test_a_mask_or_label_map_on_another_grid_is_told(sample, brain, tmp_path, part):
    path = tmp_path / "other.nii.gz"
    write_volume(path, np.ones(brain.grid.shape, np.uint8), shifted(brain.grid, 2, 0, 0))
    told = only(replace(sample, **{part: str(path)}))
    assert "other.nii.gz: lies on another grid" in told
    coarse = brain.grid.with_spacing(8)
    write_volume(path, np.ones(coarse.shape, np.uint8), coarse)
    assert "lies on another grid" in only(replace(sample, **{part: str(path)}))


@pytest.mark.parametrize("part", ["moving_mask", "moving_labels"])
def test_a_mask_or_label_map_off_by_what_headers_round_is_taken_and_told(sample, brain, tmp_path, part):
    path = tmp_path / "rounded.nii.gz"
    write_volume(path, brain.mask.astype(np.uint8), shifted(brain.grid, 0.012 * 4, 0, 0))
    found = examine_volume(replace(sample, **{part: str(path)}))
    assert found.problems == []
    assert found.warnings == [
        f"{path}: lies 0.012 voxels off its image, which the rounding of headers explains; the image's grid "
        "is taken"
    ]


def test_labels_beside_whole_numbers_by_their_scaling_are_rounded_and_told(sample, brain, tmp_path):
    path = tmp_path / "scaled.nii"
    labels = np.where(brain.mask, 7015, 0)
    labels[:20][brain.mask[:20]] = 1
    stored = nib.Nifti1Image(labels.T.astype(float), np.diag([-1, -1, 1, 1]) @ brain.grid.affine)
    stored.set_data_dtype(np.int16)
    nib.save(stored, path)
    found = examine_volume(replace(sample, moving_labels=str(path)))
    assert found.problems == []
    assert f"{path}: labels up to " in found.warnings[0]
    assert "its file stores them in steps of 0.107" in found.warnings[0]
    image = read_parts({"image": sample.moving, "labels": str(path)})
    assert np.array_equal(image.labels, labels)


def test_a_file_whose_content_was_not_fetched_is_told_in_every_part(sample, tmp_path):
    path = tmp_path / "annexed.nii.gz"
    path.symlink_to(".git/annex/objects/aa/bb/MD5E-s1--0.nii.gz")
    for part in ("moving", "moving_mask", "moving_labels", "moving_landmarks"):
        told = only(replace(sample, **{part: str(path)}))
        assert f"{path}: its content has not been fetched; run 'datalad get'" in told


def test_an_image_for_a_label_map_and_an_empty_mask_are_told(sample, brain, tmp_path):
    write_volume(tmp_path / "image.nii", brain.channel + 0.5, brain.grid)
    assert "not whole numbers" in only(replace(sample, moving_labels=str(tmp_path / "image.nii")))
    write_volume(tmp_path / "empty.nii", np.zeros(brain.grid.shape, np.uint8), brain.grid)
    assert "mask is empty" in only(replace(sample, moving_mask=str(tmp_path / "empty.nii")))


def test_a_companion_may_have_several_volumes(sample, brain):
    series = np.stack([brain.channel, brain.channel]).astype(np.float32)
    write_series(sample.companions["flair"], series, series.dtype, brain.grid, TimeAxis(2, 2.0, "sec"))
    assert examine_volume(sample).problems == []
    series[1, 0, 0, 0] = np.nan
    write_series(sample.companions["flair"], series, series.dtype, brain.grid, TimeAxis(2, 2.0, "sec"))
    found = examine_volume(sample)
    assert found.problems == []
    assert "1 NaN" in found.warnings[0]


def test_a_diffusion_series_is_no_companion(sample, tmp_path):
    (tmp_path / "flair.bvec").write_text("0 1 0\n0 0 1\n1 0 0\n")
    assert "gradient directions (flair.bvec) would no longer fit" in only(sample)


def test_a_mask_of_derivatives_on_another_grid_is_left_out_with_a_warning(sample, brain, tmp_path):
    write_volume(tmp_path / "mask.nii.gz", brain.mask, shifted(brain.grid, 2.0, 0, 0))
    found = replace(sample, fixed=replace(sample.fixed, mask=None), derived=frozenset({"mask"}))
    manifest = ingest(tmp_path / "sub-01.json", subject=found)
    assert manifest["state"] == "done"
    assert "mask" not in manifest["paths"]
    assert "labels" in manifest["paths"]
    (warning,) = manifest["warnings"]
    assert f"{tmp_path / 'mask.nii.gz'}: lies on another grid" in warning
    assert warning.endswith("; found in derivatives, it is not used")


def test_a_companion_may_have_its_own_grid_but_not_lie_elsewhere(sample, brain):
    coarse = brain.grid.with_spacing(8)
    write_volume(sample.companions["flair"], np.arange(np.prod(coarse.shape)).reshape(coarse.shape), coarse)
    assert examine_volume(sample).problems == []
    write_volume(sample.companions["flair"], brain.channel, shifted(brain.grid, 0, 900, 0))
    assert "does not overlap" in only(sample)


def test_fields_of_view_that_do_not_overlap_are_told_and_do_not_stop_the_sample(sample, brain):
    write_volume(sample.moving, brain.channel, shifted(brain.grid, 0, 0, 400))
    found = examine_volume(VolumeSample("a", sample.moving, sample.fixed))
    assert found.problems == []
    (told,) = found.warnings
    assert "its field of view does not overlap that of" in told
    assert sample.fixed.image in told


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_a_volume_in_another_unit_is_refused(sample, brain, factor):
    scaled = Grid(brain.grid.shape, np.diag([factor] * 3 + [1.0]) @ brain.grid.affine)
    write_volume(sample.moving, brain.channel, scaled)
    bare = VolumeSample(sample.sample, sample.moving, sample.fixed)
    assert only(bare).startswith(f"{sample.moving}: its voxels are 1,000 times as")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda p: p / 1000, "look like meters"),
        (lambda p: p[:, [1, 0, 2]], "mirror image"),
        (lambda p: p + 300, "lie outside the image"),
    ],
)
def test_landmarks_in_other_units_or_columns_are_told(sample, change, told):
    write_landmarks(sample.moving_landmarks, Landmarks(NAMES, change(POINTS)))
    sentence = only(sample)
    assert told in sentence
    assert sample.moving_landmarks in sentence


def test_landmarks_without_a_partner_of_their_name_are_only_warned_of(sample):
    write_landmarks(sample.moving_landmarks, Landmarks((*NAMES[:4], "F"), POINTS[[0, 1, 2, 3, 5]]))
    found = examine_volume(sample)
    assert found.problems == []
    assert "e, f of the fixed image and F of the moving image; 4 are compared" in found.warnings[0]


def test_landmarks_that_share_no_name_or_differ_in_counts_are_told(sample):
    write_landmarks(sample.moving_landmarks, Landmarks(("u", "v"), POINTS[:2]))
    assert "share no name of a landmark (fixed: a, b, c, d, e, f; moving: u, v)" in only(sample)
    numbers = tuple("123456")
    write_landmarks(sample.fixed_landmarks, Landmarks(numbers, POINTS))
    write_landmarks(sample.moving_landmarks, Landmarks(numbers[:5], POINTS[:5]))
    assert "6 fixed but 5 moving landmarks, and no names to tell which is which" in only(sample)


def test_landmarks_in_another_order_are_warned_of(sample, caplog):
    numbers = tuple("123456")
    write_landmarks(sample.fixed_landmarks, Landmarks(numbers, POINTS))
    write_landmarks(sample.moving_landmarks, Landmarks(numbers, POINTS[[3, 0, 1, 2, 4, 5]]))
    found = examine_volume(sample)
    assert found.problems == []
    (warning,) = found.warnings
    assert warning.startswith(f"{sample.moving_landmarks} and {sample.fixed_landmarks}: the order")
    assert "another order would fit far better (0.0 mm apart instead of" in warning
    find_problems([sample], examine_volume, 1, None)
    assert f"sub-01: {warning}" in caplog.text


def test_a_broken_fixed_image_is_told_once_by_its_own_manifest(sample):
    Path(sample.fixed.image).write_bytes(b"")
    assert examine_volume(sample).problems == []
    assert "empty" in only(sample.fixed)


def cohort(tmp_path: Path, sample: VolumeSample, rows: str) -> dict:
    (tmp_path / "samples.tsv").write_text(f"sample\tmoving\n{rows}")
    atlases = {"mni": {"image": sample.fixed.image}}
    return load_config({"samples": str(tmp_path / "samples.tsv"), "fixed": "mni", "atlases": atlases})


def test_check_tells_all_problems_of_all_samples_at_once(tmp_path, sample):
    (tmp_path / "empty.nii").touch()
    config = cohort(tmp_path, sample, "a\tmoving.nii.gz\nb\tempty.nii\nc\tnone.nii\n")
    seen = []
    problems = check_inputs(config, threads=2, progress=lambda done, total: seen.append((done, total)))
    assert [problem.split(":")[0] for problem in problems] == ["b", "c"]
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert check_inputs(config, threads=1) == problems


def test_what_nobody_foresaw_about_one_image_hides_no_other(caplog):
    def look(subject: SimpleNamespace):
        if subject.name == 1:
            raise KeyError(7)
        return Findings(problems=[f"{subject.name} is bad"])

    told = find_problems([SimpleNamespace(name=number) for number in range(3)], look, 2, None)
    assert told[0::2] == ["0: 0 is bad", "2: 2 is bad"]
    assert told[1].startswith("1: could not be looked at (KeyError: 7)")
    assert "\n" not in told[1]


def test_check_tells_all_problems_of_the_sheet(tmp_path, sample):
    config = cohort(tmp_path, sample, "a b\tmoving.nii.gz\nc\t\n")
    assert len(check_inputs(config)) == 2


def test_check_finds_nothing_wrong_with_a_sound_cohort(tmp_path, sample):
    config = cohort(tmp_path, sample, "a\tmoving.nii.gz\n")
    assert check_inputs(config) == []
    assert list(list_fixed_images(read_samples(config))) == ["mni"]


def test_a_soft_mask_is_told_and_taken_from_a_half(sample, brain, tmp_path):
    soft = np.where(brain.mask, np.float32(0.5), np.float32(0.49))
    write_volume(tmp_path / "soft.nii", soft, brain.grid)
    found = examine_volume(replace(sample, moving_mask=str(tmp_path / "soft.nii")))
    assert found.problems == []
    assert any("soft mask" in sentence and "0.5" in sentence for sentence in found.warnings)
    parts = {"image": sample.moving, "mask": str(tmp_path / "soft.nii")}
    assert np.array_equal(read_parts(parts).mask, brain.mask)
    write_volume(tmp_path / "faint.nii", 0.9 * soft, brain.grid)
    assert "nowhere reaches 0.5" in only(replace(sample, moving_mask=str(tmp_path / "faint.nii")))


@pytest.mark.parametrize("values", [(0, 1), (0, 255), (0.0, 1.0), (0, 3)])
def test_whole_numbers_but_zero_are_inside_without_a_word(sample, brain, tmp_path, values):
    written = np.where(brain.mask, values[1], values[0]).astype(type(values[0]))
    write_volume(tmp_path / "whole.nii", written, brain.grid)
    assert examine_volume(replace(sample, moving_mask=str(tmp_path / "whole.nii"))).warnings == []
    parts = {"image": sample.moving, "mask": str(tmp_path / "whole.nii")}
    assert np.array_equal(read_parts(parts).mask, brain.mask)
