import json

import numpy as np
import pytest

from regflow.cohort.volumes.samples import FixedVolume, VolumeSample
from regflow.commands.register import STAGE_COUNTS
from regflow.config.presets import PRESETS, load_preset, merge_settings
from regflow.core.errors import InputError
from regflow.core.processor import read_processor_name
from regflow.io.landmarks import read_landmarks
from regflow.io.volumes import read_volume, write_volume
from regflow.pipeline.pair import STEPS, register_pair

QUICK = {"initialize": {"methods": ["mutual-information"]}}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A known-warp subject of the demo at 4 mm, and its atlas, by name."""
    from regflow.examples import volumes as demo

    folder = tmp_path_factory.mktemp("pair")
    demo._write_templates(folder, 4.0)
    demo._write_warped(folder, 4.0)
    return folder


def atlas(files, **more):
    return FixedVolume("fixed", str(files / "mni2009c.nii.gz"), **more)


def subject(files, fixed, name="warped-mild", **more):
    return VolumeSample(name, str(files / f"{name}.nii.gz"), fixed, **more)


@pytest.fixture(scope="module")
def events():
    """What a registration tells of its stages, filled by the one whose ``result`` is looked at."""
    return []


@pytest.fixture(scope="module")
def result(files, tmp_path_factory, events):
    fixed = atlas(
        files,
        labels=str(files / "mni2009c_tissues.nii.gz"),
        landmarks=str(files / "mni2009c_landmarks.csv"),
    )
    moving = subject(
        files,
        fixed,
        moving_labels=str(files / "warped-mild_tissues.nii.gz"),
        moving_landmarks=str(files / "warped-mild_landmarks.csv"),
        truth=str(files / "warped-mild_truth.h5"),
        companions={"t1": str(files / "warped-mild.nii.gz")},
    )
    output = tmp_path_factory.mktemp("out") / "aligned"
    config = {**QUICK, "apply": {"inverse": True}}
    return register_pair("volumes", moving, output, config=config, threads=2, progress=events.append)


def test_all_products_are_there_and_nothing_else(result):
    assert {path.name for path in result.output.iterdir()} == set(STEPS["volumes"].products)
    assert list(result.output.parent.iterdir()) == [result.output]


def test_quality_improves_and_the_true_error_is_small(result):
    figures = json.loads((result.output / "quality.json").read_text(encoding="utf-8"))["figures"]
    assert result.verdict.status != "fail"
    for name in ("ncc", "lncc", "mi", "dice_mean"):
        assert figures[f"{name}_start"] < figures[f"{name}_initialize"] < figures[f"{name}_refine"]
    # A quarter of a sample.
    assert figures["truth_mean_mm_refine"] < 1.0 < figures["truth_mean_mm_initialize"]
    assert figures["tre_mean_mm_refine"] < figures["tre_mean_mm_initialize"]
    assert figures["folding_percent"] == 0


def test_simpleitk_reproduces_the_warped_image_from_the_stored_transform(result, files):
    import SimpleITK as sitk

    fixed, moving = (sitk.ReadImage(str(files / f"{n}.nii.gz")) for n in ("mni2009c", "warped-mild"))
    transform = sitk.ReadTransform(str(result.output / "transform.h5"))
    again = sitk.Resample(sitk.Cast(moving, sitk.sitkFloat32), fixed, transform, sitk.sitkLinear, 0.0)
    ours = read_volume(result.output / "warped.nii.gz").channel
    # The file rounds displacements to a thousandth of a sample, and the subject holds 0 to 4095.
    assert np.abs(sitk.GetArrayFromImage(again) - ours).mean() < 0.5
    assert np.percentile(np.abs(sitk.GetArrayFromImage(again) - ours), 99) < 5


def test_what_goes_back_comes_near_what_was_there(result, files):
    """The fixed image on the moving one's grid resembles it, and its landmarks lie on their partners."""
    there, back = files / "warped-mild.nii.gz", result.output / "inverse_fixed.nii.gz"
    moving, came = (read_volume(path) for path in (there, back))
    assert came.grid.matches(moving.grid)
    inside = moving.channel > 0
    assert np.corrcoef(moving.channel[inside], came.channel[inside])[0, 1] > 0.9
    partners, found = (
        read_landmarks(path).points
        for path in (files / "warped-mild_landmarks.csv", result.output / "inverse_landmarks.csv")
    )
    assert np.linalg.norm(partners - found, axis=1).mean() < 1.5


def test_a_companion_on_the_same_samples_is_warped_as_the_image(result):
    image, companion = (
        read_volume(result.output / name) for name in ("warped.nii.gz", "companions/t1.nii.gz")
    )
    # The file that companions follow rounds displacements to a thousandth of a sample.
    assert np.abs(image.channel - companion.channel).max() < 0.01 * image.channel.max()


def test_seconds_are_told_by_stage(result):
    seconds = json.loads((result.output / "quality.json").read_text(encoding="utf-8"))["seconds"]
    stages = {"ingest", "preprocess", "initialize", "refine", "apply", "assess", "report", "total"}
    assert set(seconds) == stages
    assert all(isinstance(told, float) for told in seconds.values())


def test_each_stage_tells_when_it_begins_and_when_it_ends(result, events):
    begun = [event.title for event in events if event.state == "begun"]
    ended = {event.title: event.seconds for event in events if event.state == "ended"}
    assert len(begun) == len(ended) == STAGE_COUNTS["volumes"]
    assert set(begun) == set(ended)
    assert begun[0] == "ingest"
    assert sum(ended.values()) == pytest.approx(sum(result.seconds.values()) - result.seconds["total"])


def test_the_report_stands_alone(result):
    page = (result.output / "report.html").read_text(encoding="utf-8")
    assert "warped-mild" in page
    assert f"name: {read_processor_name()}" in page
    assert "data:image/" in page
    assert 'src="http' not in page


def test_bytes_do_not_depend_on_threads_and_an_earlier_result_is_replaced(files, tmp_path):
    fixed = atlas(files)
    names = ("transform.h5", "inverse.h5", "warped.nii.gz")
    contents = []
    for threads in (1, 2):
        output = register_pair(
            "volumes",
            subject(files, fixed),
            tmp_path / "aligned",
            preset="fast",
            config=QUICK,
            threads=threads,
        ).output
        contents.append([(output / name).read_bytes() for name in names])
    assert contents[0] == contents[1]


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in PRESETS for name in PRESETS[kind]])
def test_presets_are_valid_configurations(kind, name):
    from regflow.config.loading import load_config

    chosen = load_config({"kind": kind, "samples": "sheet.tsv", **load_preset(name, kind)})
    assert chosen["refine"]["methods"]
    plain = load_config({"kind": kind, "samples": "sheet.tsv"})
    assert (chosen == plain) == (name == "default")


def test_an_unknown_preset_is_named(files, tmp_path):
    fixed = atlas(files)
    with pytest.raises(InputError, match=r"'fats'; did you mean 'fast'\?"):
        register_pair("volumes", subject(files, fixed), tmp_path / "out", preset="fats")
    assert not (tmp_path / "out").exists()


def test_merging_replaces_lists_and_leaves_its_arguments_alone():
    base = {"refine": {"methods": ["a"], "options": {"a": {"x": 1, "y": 2}}}}
    over = {"refine": {"methods": ["b", "c"], "options": {"a": {"x": 3}}}}
    assert merge_settings(base, over) == {
        "refine": {"methods": ["b", "c"], "options": {"a": {"x": 3, "y": 2}}}
    }
    assert base == {"refine": {"methods": ["a"], "options": {"a": {"x": 1, "y": 2}}}}


def test_a_missing_file_and_a_mask_elsewhere_are_told_together(files, tmp_path):
    fixed = FixedVolume("fixed", str(files / "nowhere.nii.gz"))
    moving = subject(files, fixed, moving_mask=str(files / "mni6.nii.gz"))
    with pytest.raises(InputError) as raised:
        register_pair("volumes", moving, tmp_path / "out")
    lines = str(raised.value).splitlines()
    assert len(lines) >= 2
    assert any("nowhere.nii.gz: this file does not exist" in line for line in lines)
    assert any("mni6.nii.gz" in line and "grid" in line for line in lines)
    assert not any(tmp_path.iterdir())


def test_a_constant_image_is_refused_and_nothing_is_written(files, tmp_path):
    image = read_volume(files / "mni2009c.nii.gz")
    flat = tmp_path / "flat.nii.gz"
    write_volume(flat, np.full(image.grid.shape, 7, np.int16), image.grid)
    fixed = atlas(files)
    with pytest.raises(InputError, match=r"flat\.nii\.gz"):
        register_pair("volumes", VolumeSample("flat", str(flat), fixed), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["flat.nii.gz"]


def test_a_folder_of_other_things_is_not_written_over(files, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    fixed = atlas(files)
    with pytest.raises(InputError, match=r"thesis\.tex"):
        register_pair("volumes", subject(files, fixed), tmp_path)
    assert (tmp_path / "thesis.tex").read_text(encoding="utf-8") == "years of work"
    with pytest.raises(InputError, match="is a file"):
        register_pair("volumes", subject(files, fixed), tmp_path / "thesis.tex")


def test_a_mistyped_key_is_named(files, tmp_path):
    fixed = atlas(files)
    config = {"refine": {"metods": ["greedy"]}}
    with pytest.raises(InputError, match=r"refine\.methods"):
        register_pair("volumes", subject(files, fixed), tmp_path / "out", config=config)
