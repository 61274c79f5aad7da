"""BIDS: which images a data set gives, and where their products go."""

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from regflow.cohort.volumes.bids import find_samples, parse_name
from regflow.cohort.volumes.derivatives import list_products, publish_cohort, publish_sample
from regflow.cohort.volumes.reading import read_samples
from regflow.cohort.volumes.samples import VolumeSample
from regflow.config.loading import load_config
from regflow.core.errors import InputError
from regflow.core.files import compute_sha256
from regflow.io.volumes import write_volume
from regflow.stages.volumes.ingest import check_inputs

FILES = (
    "sub-01/ses-pre/anat/sub-01_ses-pre_run-1_T1w.nii.gz",
    "sub-01/ses-pre/anat/sub-01_ses-pre_run-1_desc-brain_mask.nii.gz",
    "sub-01/ses-pre/anat/sub-01_ses-pre_run-1_dseg.nii.gz",
    "sub-01/ses-pre/anat/sub-01_ses-pre_run-2_T1w.nii.gz",
    "sub-01/ses-pre/anat/sub-01_ses-pre_FLAIR.nii.gz",
    "sub-01/ses-pre/anat/sub-01_ses-pre_run-1_T1w.json",
    "sub-01/ses-pre/pet/sub-01_ses-pre_trc-fdg_pet.nii.gz",
    "sub-01/ses-post/anat/sub-01_ses-post_T1w.nii",
    "sub-02/anat/sub-02_acq-mprage_T1w.nii.gz",
    "sub-02/anat/notes.txt",
    "derivatives/old/sub-01/anat/sub-01_T1w.nii.gz",
    "dataset_description.json",
)


@pytest.fixture
def dataset(tmp_path) -> Path:
    root = tmp_path / "raw"
    for name in FILES:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (root / "participants.tsv").write_text(
        "participant_id\tage\tgroup\nsub-01\t40\tpatient\nsub-02\t50\tn/a\n"
    )
    return root


def configured(root: Path, **bids: object) -> dict:
    atlases = {"mni_2009c": {"image": "atlas.nii.gz"}}
    return load_config({"bids": {"path": str(root), **bids}, "fixed": "mni_2009c", "atlases": atlases})


def ids(config: dict) -> list[str]:
    return [sample.sample for sample in read_samples(config)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sub-01_T1w.nii.gz", ({"sub": "01"}, "T1w")),
        ("sub-01_ses-a_acq-x_run-02_bold.nii", ({"sub": "01", "ses": "a", "acq": "x", "run": "02"}, "bold")),
        ("sub-01_T1w.json", None),
        ("sub-01_.nii.gz", None),
        ("T1w.nii.gz", None),
        ("sub-01_extra_T1w.nii.gz", None),
    ],
)
def test_names_are_parsed(name, expected):
    assert parse_name(name) == expected


def test_every_image_with_the_suffix_is_a_sample(dataset):
    assert ids(configured(dataset)) == [
        "sub-01_ses-post_T1w",
        "sub-01_ses-pre_run-1_T1w",
        "sub-01_ses-pre_run-2_T1w",
        "sub-02_acq-mprage_T1w",
    ]


def test_images_above_the_sessions_are_found_too(dataset):
    placed(dataset, "sub-01/anat/sub-01_desc-merged_T1w.nii.gz")
    assert "sub-01_desc-merged_T1w" in ids(configured(dataset))


def test_a_sample_has_all_that_belongs_to_it(dataset):
    samples = {s.sample: s for s in read_samples(configured(dataset, companions=["FLAIR", "pet"]))}
    sample = samples["sub-01_ses-pre_run-1_T1w"]
    folder = dataset / "sub-01" / "ses-pre"
    assert sample.moving == str(folder / "anat/sub-01_ses-pre_run-1_T1w.nii.gz")
    assert sample.moving_mask == str(folder / "anat/sub-01_ses-pre_run-1_desc-brain_mask.nii.gz")
    assert sample.moving_labels == str(folder / "anat/sub-01_ses-pre_run-1_dseg.nii.gz")
    assert sample.companions == {
        "sub-01_ses-pre_FLAIR": str(folder / "anat/sub-01_ses-pre_FLAIR.nii.gz"),
        "sub-01_ses-pre_trc-fdg_pet": str(folder / "pet/sub-01_ses-pre_trc-fdg_pet.nii.gz"),
    }
    assert (sample.modality, sample.group, sample.session) == ("T1w", "patient", "pre")
    assert sample.fixed.name == "mni_2009c"
    other = samples["sub-01_ses-pre_run-2_T1w"]
    assert (other.moving_mask, other.moving_labels) == (None, None)
    assert samples["sub-02_acq-mprage_T1w"].group is None


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"session": "post"}, ["sub-01_ses-post_T1w"]),
        ({"ses": ["post", "ses-pre"], "run": "01"}, ["sub-01_ses-pre_run-1_T1w"]),
        ({"subject": ["02"]}, ["sub-02_acq-mprage_T1w"]),
        ({"acquisition": "mprage"}, ["sub-02_acq-mprage_T1w"]),
    ],
)
def test_filters_go_by_long_and_short_names(dataset, filters, expected):
    assert ids(configured(dataset, filters=filters)) == expected


def test_a_volume_of_4d_images_can_be_chosen(dataset):
    assert [sample.volume for sample in read_samples(configured(dataset, volume=3))] == [3] * 4
    assert read_samples(configured(dataset))[0].volume is None


@pytest.mark.parametrize(
    ("bids", "told"),
    [
        ({"suffix": ["T1"]}, "no image with suffix T1 and these filters; did you mean 'T1w'?"),
        ({"filters": {"sesion": "pre"}}, "unknown entity 'sesion'; did you mean 'session'?"),
        ({"path": "nowhere"}, "nowhere: this BIDS data set does not exist"),
    ],
)
def test_mistakes_get_one_sentence(dataset, bids, told):
    with pytest.raises(InputError) as caught:
        read_samples(configured(dataset, **bids))
    assert told in str(caught.value)
    assert check_inputs(configured(dataset, **bids)) == [str(caught.value)]


def test_an_empty_folder_and_a_missing_atlas_are_told(dataset, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="is it the root of a data set"):
        read_samples(configured(tmp_path / "empty"))
    with pytest.raises(InputError, match="set 'fixed' in the configuration"):
        read_samples(load_config({"bids": {"path": str(dataset)}}))


def placed(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


@pytest.mark.parametrize("twin", ["T1w.nii", "desc-brain_mask.nii", "dseg.nii"])
def test_a_file_that_is_there_compressed_and_plain_is_told(dataset, twin):
    path = f"sub-01/ses-pre/anat/sub-01_ses-pre_run-1_{twin}"
    placed(dataset, path)
    with pytest.raises(InputError) as caught:
        ids(configured(dataset))
    told = f"{dataset}/{path}: is there as {Path(path).name}.gz, too; remove one of the two"
    assert str(caught.value) == told


@pytest.fixture
def prepared(tmp_path) -> Path:
    """A data set of derivatives: one anatomy in its own space and in that of a template."""
    anat = "sub-10/anat/sub-10"
    placed(
        tmp_path / "fmriprep",
        f"{anat}_desc-preproc_T1w.nii.gz",
        f"{anat}_desc-brain_mask.nii.gz",
        f"{anat}_dseg.nii.gz",
        f"{anat}_label-GM_desc-lesion_mask.nii.gz",
        f"{anat}_space-MNI_desc-preproc_T1w.nii.gz",
        f"{anat}_space-MNI_desc-brain_mask.nii.gz",
        f"{anat}_FLAIR.nii.gz",
        f"{anat}_space-MNI_FLAIR.nii.gz",
    )
    return tmp_path / "fmriprep"


def test_an_anatomy_in_several_spaces_has_to_be_chosen_from(prepared):
    with pytest.raises(InputError, match=r"sub-10_desc-preproc_T1w is there in several spaces \(MNI"):
        ids(configured(prepared))


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (None, ["sub-10_desc-preproc_T1w"]),
        ("", ["sub-10_desc-preproc_T1w"]),
        ([None], ["sub-10_desc-preproc_T1w"]),
        ("*", ["sub-10_space-MNI_desc-preproc_T1w"]),
        ([None, "MNI"], ["sub-10_desc-preproc_T1w", "sub-10_space-MNI_desc-preproc_T1w"]),
    ],
)
def test_a_filter_may_ask_for_files_without_an_entity(prepared, space, expected):
    assert ids(configured(prepared, filters={"space": space, "sub": 10})) == expected


def test_the_word_none_gets_advice(prepared):
    with pytest.raises(InputError, match=r"correct 'bids.filters', where null \(without quotes\)"):
        ids(configured(prepared, filters={"space": "none"}))


def test_masks_labels_and_companions_are_those_of_the_image_s_own_space(prepared):
    (own,) = read_samples(configured(prepared, filters={"space": None}, companions=["FLAIR"]))
    (other,) = read_samples(configured(prepared, filters={"space": "MNI"}))
    anat = f"{prepared}/sub-10/anat/sub-10"
    assert (own.moving_mask, own.moving_labels) == (f"{anat}_desc-brain_mask.nii.gz", f"{anat}_dseg.nii.gz")
    assert (other.moving_mask, other.moving_labels) == (f"{anat}_space-MNI_desc-brain_mask.nii.gz", None)
    assert own.companions == {"sub-10_FLAIR": f"{anat}_FLAIR.nii.gz"}
    assert own.derived == frozenset()


def test_masks_and_labels_are_found_in_derivatives(dataset):
    below = "sub-02/anat/sub-02_acq-mprage"
    placed(
        dataset / "derivatives",
        f"brains/{below}_space-orig_desc-brain_mask.nii.gz",
        f"brains/{below}_space-MNI_desc-brain_mask.nii.gz",
        f"manual/{below}_desc-expert_dseg.nii.gz",
    )
    found = read_samples(configured(dataset))[-1]
    brains, manual = (f"{dataset}/derivatives/{name}/{below}" for name in ("brains", "manual"))
    assert found.moving_mask == f"{brains}_space-orig_desc-brain_mask.nii.gz"
    assert found.moving_labels == f"{manual}_desc-expert_dseg.nii.gz"
    assert found.derived == {"mask", "labels"}
    assert read_samples(configured(dataset, derivatives=["brains"]))[-1].derived == {"mask"}
    assert read_samples(configured(dataset, derivatives=[]))[-1].moving_mask is None
    with pytest.raises(InputError, match=r"bids.derivatives: there is no folder 'brain'"):
        read_samples(configured(dataset, derivatives=["brain"]))


def test_masks_of_two_pipelines_have_to_be_chosen_from(dataset):
    below = "sub-02/anat/sub-02_acq-mprage_desc-brain_mask.nii.gz"
    placed(dataset / "derivatives", f"one/{below}", f"two/{below}")
    with pytest.raises(InputError, match=r"name the folder that counts in 'bids\.derivatives'"):
        read_samples(configured(dataset))
    chosen = read_samples(configured(dataset, derivatives=["two"]))[-1].moving_mask
    assert chosen == f"{dataset}/derivatives/two/{below}"


@pytest.mark.parametrize(
    ("encoding", "table"),
    [
        ("utf-16", "participant_id\tgroup\tsite\nsub-01\tcontrôle\tZürich\n"),
        ("latin-1", "participant_id\tgroup\tsite\nsub-01\tcontrôle\tZürich\n"),
        ("utf-8-sig", "participant_id\tgroup\t\t\r\nsub-01\tcontrôle\t\t\r\n\t\t\t\r\n"),
        ("utf-8", 'participant_id;age;group\n01;"4\n0";contrôle\n'),
    ],
)
def test_participants_are_read_as_spreadsheets_save_them(dataset, encoding, table):
    (dataset / "participants.tsv").write_bytes(table.encode(encoding))
    assert read_samples(configured(dataset))[0].group == "contrôle"


def test_participants_without_their_id_are_told(dataset):
    (dataset / "participants.tsv").write_text("id\tgroup\nsub-01\ta\n")
    with pytest.raises(InputError, match="has no column 'participant_id'"):
        read_samples(configured(dataset))


def test_a_name_that_repeats_an_entity_is_none_of_bids():
    assert parse_name("sub-01_desc-a_desc-b_T1w.nii.gz") is None


@pytest.mark.parametrize(
    ("space", "warped", "transform"),
    [
        (
            None,
            "sub-10_space-mni2009c_desc-preprocWarped_T1w",
            "sub-10_from-T1w_to-mni2009c_mode-image_desc-preproc",
        ),
        (
            "MNI",
            "sub-10_space-mni2009c_desc-MNIPreprocWarped_T1w",
            "sub-10_space-MNI_from-T1w_to-mni2009c_mode-image_desc-preproc",
        ),
    ],
)
def test_products_repeat_no_entity_and_no_name(prepared, space, warped, transform):
    (sample,) = read_samples(configured(prepared, filters={"space": space}))
    made = list_products(sample, ["warped.nii.gz", "transform.h5", "inverse_fixed.nii.gz"])
    assert made["warped.nii.gz"] == f"sub-10/anat/{warped}.nii.gz"
    assert made["transform.h5"] == f"sub-10/anat/{transform}_xfm.h5"
    assert parse_name(Path(made["inverse_fixed.nii.gz"]).name) is not None


@pytest.fixture
def finished(dataset, tmp_path) -> tuple[VolumeSample, Path, Path]:
    """A sample with what apply and refine leave of it."""
    samples = read_samples(configured(dataset, companions=["FLAIR", "pet"]))
    applied, refined = tmp_path / "apply", tmp_path / "refine"
    companions = [f"companions/{name}.nii.gz" for name in samples[1].companions]
    for name in ("warped.nii.gz", "labels.nii.gz", "stage.json", *companions):
        (applied / name).parent.mkdir(parents=True, exist_ok=True)
        (applied / name).write_text(name)
    refined.mkdir()
    for name in ("transform.h5", "inverse.h5", "stage.json"):
        (refined / name).write_text(name)
    return samples[1], applied, refined


def test_products_get_the_names_of_bids_derivatives(finished, tmp_path):
    sample, applied, refined = finished
    placed = publish_sample(sample, applied, refined, tmp_path / "derivatives")
    names = sorted(path.relative_to(tmp_path / "derivatives").as_posix() for path in placed)
    anat, pet = "sub-01/ses-pre/anat/sub-01_ses-pre", "sub-01/ses-pre/pet/sub-01_ses-pre"
    stems = [
        f"{anat}_run-1_space-mni2009c_desc-warped_T1w.nii.gz",
        f"{anat}_run-1_space-mni2009c_desc-warped_dseg.nii.gz",
        f"{anat}_run-1_from-T1w_to-mni2009c_mode-image_xfm.h5",
        f"{anat}_run-1_from-mni2009c_to-T1w_mode-image_xfm.h5",
        f"{anat}_space-mni2009c_desc-warped_FLAIR.nii.gz",
        f"{pet}_trc-fdg_space-mni2009c_desc-warped_pet.nii.gz",
    ]
    sidecars = [name.split(".")[0] + ".json" for name in stems]
    assert names == sorted(stems + sidecars)
    assert all(path.is_file() for path in placed)
    for name in stems:
        # Each derivative is itself a name that BIDS tools parse.
        assert name.endswith(".h5") or parse_name(Path(name).name) is not None
    image = tmp_path / "derivatives" / stems[0]
    assert image.samefile(applied / "warped.nii.gz")


def test_side_cars_name_sources_and_reference(finished, tmp_path):
    sample, applied, refined = finished
    side = {
        path.name.rsplit("_", 1)[0].split("ses-pre_")[1] + path.name.rsplit("_", 1)[1]: json.loads(
            path.read_text(encoding="utf-8")
        )
        for path in publish_sample(sample, applied, refined, tmp_path / "derivatives")
        if path.suffix == ".json"
    }
    moving = "bids:raw:sub-01/ses-pre/anat/sub-01_ses-pre_run-1_T1w.nii.gz"
    atlas = Path("atlas.nii.gz").resolve().as_uri()
    assert side["run-1_space-mni2009c_desc-warpedT1w.json"] == {
        "Sources": [moving],
        "SpatialReference": atlas,
    }
    forward = side["run-1_from-T1w_to-mni2009c_mode-imagexfm.json"]
    assert (forward["FromFile"], forward["ToFile"]) == (moving, atlas)
    assert side["trc-fdg_space-mni2009c_desc-warpedpet.json"]["Sources"] == [
        "bids:raw:sub-01/ses-pre/pet/sub-01_ses-pre_trc-fdg_pet.nii.gz"
    ]
    assert "dseg" in side["run-1_space-mni2009c_desc-warpeddseg.json"]["Sources"][0]


def test_publishing_again_changes_nothing_and_a_failed_sample_places_nothing(finished, tmp_path):
    sample, applied, refined = finished
    first = {
        path: compute_sha256(path)
        for path in publish_sample(sample, applied, refined, tmp_path / "derivatives")
    }
    assert {
        path: compute_sha256(path)
        for path in publish_sample(sample, applied, refined, tmp_path / "derivatives")
    } == first
    for folder in (applied, refined):
        for path in [p for p in folder.rglob("*") if p.is_file() and p.name != "stage.json"]:
            path.unlink()
    assert publish_sample(sample, applied, refined, tmp_path / "none") == []
    assert list_products(sample, ["stage.json", "log.txt"]) == {}


def test_the_derivatives_describe_themselves(dataset, tmp_path):
    publish_cohort(tmp_path / "derivatives", samples=[], applied=[], refined=[], config=configured(dataset))
    content = json.loads((tmp_path / "derivatives" / "dataset_description.json").read_text(encoding="utf-8"))
    assert content["DatasetType"] == "derivative"
    assert content["GeneratedBy"][0]["Name"] == "regflow"
    assert content["DatasetLinks"]["raw"] == dataset.resolve().as_uri()


def test_a_real_data_set_passes_the_check(tmp_path, mni_4mm):
    folder = tmp_path / "raw" / "sub-01" / "anat"
    folder.mkdir(parents=True)
    write_volume(folder / "sub-01_T1w.nii.gz", mni_4mm.channel, mni_4mm.grid)
    write_volume(folder / "sub-01_desc-brain_mask.nii.gz", np.asarray(mni_4mm.mask), mni_4mm.grid)
    atlases = {"mni": {"image": str(folder / "sub-01_T1w.nii.gz")}}
    config = load_config({"bids": {"path": str(tmp_path / "raw")}, "fixed": "mni", "atlases": atlases})
    assert check_inputs(config) == []


def test_no_folder_is_listed_more_than_twice(tmp_path, monkeypatch):
    for number in range(300):
        folder = tmp_path / "raw" / f"sub-{number:04d}" / "anat"
        folder.mkdir(parents=True)
        (folder / f"sub-{number:04d}_T1w.nii.gz").touch()
    config = configured(tmp_path / "raw")
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or scandir(path))
    assert len(find_samples(config)) == 300
    times = Counter(listed)
    assert len(times) == 1 + 2 * 300
    assert max(times.values()) <= 2
