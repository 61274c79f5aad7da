import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from warped_cohort import WarpedCohort, make_warped_cohort

import regflow as rf
from regflow.core.files import list_checksums
from regflow.core.progress import StageEvent
from regflow.io.volumes import read_volume, write_volume
from regflow.pipeline.template_samples import choose_names, read_template_samples

SPACING_MM = 7.0
LINEAR = [{"kind": "rigid"}, {"kind": "affine"}]
QUICK_ENGINE = {"shrink": [2, 1], "iterations": [20, 12], "radius": [2, 2], "field_sigma": [0.27, 0.27]}
ROUNDS = [{"kind": "rigid"}, *[{"kind": "deformable", "options": {"greedy": QUICK_ENGINE}}] * 2]
PLAIN = {"preprocess": {"bias": {"method": "none"}}, "initialize": {"methods": ["moments"]}}
PRODUCTS = ("template.nii.gz", "template_mask.nii.gz", "rounds.tsv")


def build(images: Any, **more: Any) -> rf.TemplateResult:
    """Build on one thread, which takes least in all."""
    return rf.build_template(images, **{"threads": 1, **more})


def settings(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    return {**PLAIN, "template": {"rounds": rounds}}


@pytest.fixture(scope="module")
def cohort(volume: Callable[..., rf.Image], tmp_path_factory: pytest.TempPathFactory) -> WarpedCohort:
    """Four brains whose mean is the atlas."""
    return make_warped_cohort(volume("mni2009c", SPACING_MM), tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="module")
def built(cohort: WarpedCohort, tmp_path_factory: pytest.TempPathFactory) -> rf.TemplateResult:
    """Their template."""
    folder = tmp_path_factory.mktemp("built") / "template"
    return build(list(cohort.files.values()), output=folder, config=settings(ROUNDS), threads=1)


def products(folder: Path) -> dict[str, str]:
    """Return the checksums of what does not name the images' folder."""
    sums = list_checksums(folder)
    return {
        name: each
        for name, each in sums.items()
        if name in PRODUCTS or name.startswith(("transforms/", "inverses/"))
    }


def test_a_template_of_symmetric_warps_is_the_brain_they_were_made_of(built, cohort):
    error = cohort.measure_template_error(built.transforms)
    first = read_volume(built.folder / "steps/rounds/01/mean/image.nii")
    assert error < 0.1 * SPACING_MM
    assert set(built.transforms) == set(cohort.files)
    made = read_volume(built.folder / "template.nii.gz")
    again = rf.apply_transform(rf.Affine.identity(3), cohort.atlas, made.grid)
    mask = read_volume(built.folder / "template_mask.nii.gz").channel > 0
    alike = [np.corrcoef(again.channel[mask], each.channel[mask])[0, 1] for each in (first, made)]
    assert alike[0] < alike[1] > 0.97


def test_the_history_tells_of_a_sharper_image_and_of_drift_and_spread(built):
    kinds = [record["kind"] for record in built.history]
    assert kinds == ["rigid", "deformable", "deformable"]
    assert built.history[-1]["gradient_energy"] > 1.1 * built.history[0]["gradient_energy"]
    assert built.history[-1]["drift_mm"] < 0.2 * built.history[-1]["spread_mm"]
    assert all(record["used"] and record["ncc"] > 0.9 for record in built.samples.values())
    assert "4 images in 3 rounds" in repr(built)


def test_the_folder_holds_what_others_read(built):
    import SimpleITK as sitk

    names = {path.name for path in built.folder.iterdir()}
    assert names == {
        *PRODUCTS,
        "template.json",
        "samples.tsv",
        "report.html",
        "steps",
        "transforms",
        "inverses",
    }
    page = (built.folder / "report.html").read_text(encoding="utf-8")
    assert page.count("After round") == 1
    assert "there-0" in page
    point = (10.0, 20.0, 30.0)
    there = sitk.ReadTransform(str(built.folder / "transforms/there-0.h5"))
    back = sitk.ReadTransform(str(built.folder / "inverses/there-0.h5"))
    assert back.TransformPoint(there.TransformPoint(point)) == pytest.approx(point, abs=0.3)
    saved = built.save(built.folder.parent / "saved")
    assert not (saved / "steps").exists()
    assert (saved / "template.nii.gz").read_bytes() == (built.folder / "template.nii.gz").read_bytes()


def test_a_stopped_build_goes_on_to_the_same_bytes_in_any_order(cohort, tmp_path):
    engine = {"shrink": [2], "iterations": [6], "radius": [2], "field_sigma": [0.27]}
    config = settings([LINEAR[0], {"kind": "deformable", "options": {"greedy": engine}}])
    files = list(cohort.files.values())[:3]
    whole = build(files, output=tmp_path / "whole", config=config)

    def stop(event: StageEvent) -> None:
        if event.title == "round 2, back-0":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(files[::-1], output=tmp_path / "t", config=config, progress=stop)
    assert not (tmp_path / "t/template.nii.gz").exists()
    kept = read_key_times(tmp_path / "t")
    build(files[::-1], output=tmp_path / "t", config=config, threads=2)
    assert kept.items() <= read_key_times(tmp_path / "t").items()
    assert products(tmp_path / "t") == products(whole.folder)
    assert len(products(whole.folder)) == len(PRODUCTS) + 2 * len(files)


def read_key_times(folder: Path) -> dict[str, int]:
    """Return when each step was done."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("stamp.json")}


def test_what_is_done_is_not_done_again_unless_a_file_changes(cohort, tmp_path):
    files = [shutil.copy(path, tmp_path) for path in list(cohort.files.values())[:2]]

    def build_again(**more: Any) -> dict[str, int]:
        build(files, output=tmp_path / "t", config=settings(LINEAR[:1]), **more)
        return read_key_times(tmp_path / "t")

    first = build_again()
    assert build_again() == first
    median = build_again(average="median")
    assert {name for name in first if median[name] != first[name]} == {"steps/rounds/01/mean/stamp.json"}
    image = read_volume(files[0])
    write_volume(files[0], image.channel * np.float32(1.5) + 3, image.grid)
    changed = build_again(average="median")
    assert sum(changed[name] == median[name] for name in median) == 1


def test_linear_rounds_stay_linear_and_keep_the_pose_of_a_given_start(cohort, tmp_path):
    turned = Path(next(iter(cohort.files.values())))
    image = read_volume(turned)
    shift = rf.Affine.from_parts(np.eye(3), (12.0, -9.0, 6.0))
    moved = rf.Image(image.data, rf.Grid(image.grid.shape, shift.matrix @ image.grid.affine))
    images = {"one": moved, "two": rf.Image(read_volume(list(cohort.files.values())[1]).data, moved.grid)}
    given = build(images, start=str(turned), mode="affine", config=settings([*LINEAR, ROUNDS[-1]]))
    assert [record["kind"] for record in given.history] == ["rigid", "affine"]
    assert all(isinstance(each, rf.Affine) for each in given.transforms.values())
    # Its axes run as the world's do.
    assert given.image.grid.center == pytest.approx(image.grid.center)
    assert given.image.grid.affine[:3, :3] == pytest.approx(SPACING_MM * np.eye(3))
    translation = np.mean([each.apply([[0.0, 0.0, 0.0]])[0] for each in given.transforms.values()], axis=0)
    assert translation == pytest.approx([12.0, -9.0, 6.0], abs=2.0)
    free = build(images, mode="rigid", config=settings(LINEAR))
    assert len(free.history) == 1
    center = np.mean([each.apply([[0.0, 0.0, 0.0]])[0] for each in free.transforms.values()], axis=0)
    assert center == pytest.approx(np.zeros(3), abs=0.5)
    assert given.save(tmp_path / "saved") == tmp_path / "saved"


def test_weights_draw_the_template_and_channels_follow(cohort, tmp_path):
    files = {name: cohort.files[name] for name in ("there-0", "back-0")}
    inverted = []
    for name, path in files.items():
        image = read_volume(path)
        inverted.append(str(tmp_path / f"{name}-t2.nii.gz"))
        write_volume(inverted[-1], image.channel.max() - image.channel, image.grid)
    built = build(
        files, weights=[9, 1], channels={"T2w": inverted}, config=settings(LINEAR[:1]), output=tmp_path / "t"
    )
    alike = {name: record["ncc"] for name, record in built.samples.items()}
    assert alike["there-0"] > 0.99 > alike["back-0"]
    one, two = (read_volume(tmp_path / "t" / f"template{end}.nii.gz").channel for end in ("", "_T2w"))
    mask = read_volume(tmp_path / "t/template_mask.nii.gz").channel > 0
    assert np.corrcoef(one[mask], two[mask])[0, 1] < -0.9


def test_an_image_of_the_opposite_contrast_and_a_damaged_one_are_left_out(cohort, tmp_path):
    files = list(cohort.files.values())[:3]
    image = read_volume(files[0])
    mask = cohort.atlas.mask
    inverted = np.where(mask, image.channel[mask].max() * 1.05 - image.channel, 0)
    write_volume(tmp_path / "opposite.nii.gz", inverted.astype(np.float32), image.grid)
    (tmp_path / "damaged.nii.gz").write_bytes(b"no image")
    odd = [str(tmp_path / f"{name}.nii.gz") for name in ("opposite", "damaged")]
    built = build([*files, *odd], config=settings(LINEAR[:1]))
    left_out = {name: own["verdict"]["reason"] for name, own in built.samples.items() if not own["used"]}
    assert set(left_out) == {"opposite", "damaged"}
    assert "contrast contradicts the template's" in left_out["opposite"]
    assert "not compressed NIfTI" in left_out["damaged"]
    assert set(built.transforms) == set(built.samples) - set(left_out)


@pytest.mark.slow
def test_sessions_of_a_subject_make_a_template_of_their_own_first(cohort, tmp_path):
    names = list(cohort.files)
    sheet = tmp_path / "sessions.tsv"
    rows = [f"{name}\t{cohort.files[name]}\t{who}" for name, who in zip(names, "aabc", strict=True)]
    sheet.write_text("\n".join(["sample\tmoving\tsubject", *rows]), encoding="utf-8")
    built = build(sheet, output=tmp_path / "t", config=settings(LINEAR[:1]))
    assert set(built.samples) == {"a", *names[2:]}
    assert (tmp_path / "t/subjects/a/template.nii.gz").is_file()
    outer, inner = (
        rf.read_transform(tmp_path / path / "transforms" / f"{name}.h5")
        for path, name in (("t", "a"), ("t/subjects/a", names[0]))
    )
    chained = rf.read_transform(tmp_path / "t/transforms" / f"{names[0]}.h5")
    points = np.array([[0.0, 10.0, 20.0], [-30.0, 0.0, 5.0]])
    assert chained.apply(points) == pytest.approx(inner.apply(outer.apply(points)), abs=0.01)


@pytest.mark.slow
def test_a_symmetric_template_is_its_own_mirror_image(cohort):
    files = list(cohort.files.values())[:2]
    built = build(files, symmetric=True, config=settings(LINEAR[:1]))
    made = read_volume(built.image)
    assert np.array_equal(made.channel, made.channel[..., ::-1])
    assert made.grid.center[0] == pytest.approx(0.0, abs=1e-6)
    assert sorted(built.samples) == ["back-0", "back-0_mirrored", "there-0", "there-0_mirrored"]
    assert min(own["ncc"] for own in built.samples.values()) > 0.8


def test_bad_input_gets_a_sentence(cohort, tmp_path):
    files = list(cohort.files.values())
    flat = tmp_path / "flat.png"
    flat.write_bytes(b"")
    for images, more, sentence in (
        (files[:1], {}, "needs 2 images, and 1 is given"),
        ([], {}, "needs 2 images, and none is given"),
        ([*files, str(flat)], {}, "is a volume and .*flat.png is none"),
        ([np.zeros((4, 4)), np.zeros((4, 5))], {}, "is no volume"),
        (files, {"modality": ["T1w", "T2w", "T1w", "T1w"]}, "there-0 is T1w and back-0 is T2w"),
        (files, {"weights": [1, 1]}, "weights has 2 entries for 4 images"),
        (files, {"weights": [1, 1, 0, 1]}, "its weight is 0; give a number above 0"),
        (files, {"average": "mode"}, "average is 'mode'"),
        (files, {"config": {"apply": {}}}, "a template reads preprocess.* but not 'apply'"),
        (files, {"config": settings([ROUNDS[-1]])}, "the first round is deformable"),
        (files, {"start": str(tmp_path / "none.nii")}, "this file does not exist"),
        (files, {"start": files[0], "symmetric": True}, "a given start is not symmetric"),
        (str(files[0]), {}, "give a list of images, or a sheet"),
        (
            [str(tmp_path / "a.nii"), str(tmp_path / "b.nii")],
            {},
            "needs 2 images that can be read, and 0 can",
        ),
    ):
        with pytest.raises(rf.InputError, match=sentence):
            build(images, output=tmp_path / "t", **more)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").touch()
    with pytest.raises(rf.InputError, match="holds other files"):
        build(files, output=tmp_path / "other")


def test_names_come_from_files_and_from_their_folders_where_those_are_alike():
    assert choose_names(["a/t1.nii.gz", "b/t1.nii.gz", "c/x y.mha"]) == ["a-t1", "b-t1", "x-y"]
    assert choose_names(["t1.nii", "t1.nii"]) == ["t1-1", "t1-2"]


def test_a_sheet_names_masks_channels_and_weights(tmp_path):
    (tmp_path / "one.nii").touch()
    sheet = tmp_path / "images.csv"
    sheet.write_text(
        "sample,moving,moving_mask,companions,weight\na,one.nii,m.nii,T2w=t2.nii,2\nb,one.nii,,T2w=x.nii,\n",
        encoding="utf-8",
    )
    first, second = read_template_samples([str(sheet)])
    assert first.image == str(tmp_path / "one.nii")
    assert (first.weight, second.weight, second.mask) == (2.0, 1.0, None)
    assert set(first.channels) == {"T2w"}
    sheet.write_text("sample,moving,weight\na,one.nii,-1\nb,one.nii,1\n", encoding="utf-8")
    with pytest.raises(rf.InputError, match="line 2: weight is '-1', but must be a number"):
        read_template_samples([str(sheet)])
    with pytest.raises(rf.InputError, match="stand in its column 'weight'"):
        read_template_samples([str(sheet)], [1.0])


def test_the_command_builds_and_tells_what_it_left_out(cohort, tmp_path):
    from click.testing import CliRunner

    from regflow.commands.cli import main

    config = tmp_path / "template.yaml"
    config.write_text(json.dumps(settings(LINEAR[:1])), encoding="utf-8")
    (tmp_path / "damaged.nii.gz").write_bytes(b"no image")
    images = [*list(cohort.files.values())[:2], str(tmp_path / "damaged.nii.gz")]
    asked = ["template", *images, "-o", str(tmp_path / "t"), "--config", str(config), "--average", "median"]
    told = CliRunner().invoke(main, [*asked, "--weights", "1,2,1", "--set", "template.sharpen=unsharp"])
    assert told.exit_code == 0, told.output
    assert "left out: damaged: " in told.output
    assert "the mean of 2 images in 1 rounds" in told.output
    wrong = CliRunner().invoke(main, [*asked, "--set", "detect.method=cva"])
    assert wrong.exit_code == 2
