"""Options of ``regflow register`` that stand for settings of a cohort: the same settings, the same bytes."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from regflow.commands.cli import main
from regflow.io.transforms import read_transform
from regflow.methods.initialize import METHODS
from regflow.methods.table import list_methods_of_kind

SETTINGS = {
    "preprocess": {"bias": {"method": "none"}},
    "initialize": {"methods": ["moments"]},
    "refine": {"methods": ["greedy"], "options": {"greedy": {"radius": [4, 4, 3]}}},
    "apply": {"inverse": True, "interpolation": "cubic"},
}
ASSIGNED = (
    *("--set", "preprocess.bias.method=none", "--set", "initialize.methods=[moments]"),
    *("--set", "refine.methods=[greedy]", "--set", "refine.options.greedy.radius=[4, 4, 3]"),
    *("--set", "apply={inverse: true, interpolation: cubic}"),
)
NAMED = (
    *("--initialize", "moments", "--refine", "greedy", "--interpolation", "cubic", "--inverse-image"),
    *("--set", "preprocess.bias.method=none", "--set", "refine.options.greedy.radius=[4, 4, 3]"),
)
QUICK = ("--set", "preprocess.bias.method=none", "--set", "assess.surfaces=false")
PRODUCTS = ("companions/t1.nii.gz", "inverse_fixed.nii.gz", "inverse_labels.nii.gz")


def register(*arguments: object) -> str:
    """Run ``regflow register``; a verdict is none of these tests' business."""
    ended = CliRunner().invoke(main, ["register", *map(str, arguments)])
    assert ended.exit_code in (0, 1), ended.output
    assert ended.exception is None or isinstance(ended.exception, SystemExit)
    return ended.output


def same(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


@pytest.fixture(scope="module")
def files(volume_file) -> dict[str, Path]:
    """The fixed and the moving image, the fixed one's labels, and another image of the moving one's space."""
    return {
        "fixed": volume_file("mni2009c", 4.0),
        "labels": volume_file("neuromorphometrics", 4.0),
        "moving": volume_file("mni6", 4.0),
        "companion": volume_file("mni6", 3.0),
    }


@pytest.fixture(scope="module")
def on_atlas(files, tmp_path_factory) -> Path:
    """The fixed image's labels on its own grid."""
    from regflow.core.resample import resample_array
    from regflow.io.volumes import read_header, read_volume, write_volume

    labels, grid = read_volume(files["labels"]), read_header(files["fixed"]).grid
    path = tmp_path_factory.mktemp("labels") / "labels.nii.gz"
    drawn = resample_array(labels.channel.astype(np.int16), labels.grid, grid, interpolation="nearest")
    write_volume(path, drawn, grid)
    return path


@pytest.fixture(scope="module")
def given(files, on_atlas) -> tuple[object, ...]:
    """What every command of this module names beside its settings."""
    return (
        *(files["fixed"], files["moving"], "--modality", "T1w", "--fixed-labels", on_atlas),
        *("--companion", f"t1={files['companion']}"),
    )


@pytest.fixture(scope="module")
def from_file(given, tmp_path_factory) -> Path:
    """The pair registered with a file of settings."""
    folder = tmp_path_factory.mktemp("pair")
    (folder / "settings.yaml").write_text(yaml.safe_dump(SETTINGS), encoding="utf-8")
    register(*given, "-o", folder / "aligned", "--config", folder / "settings.yaml")
    return folder / "aligned"


@pytest.mark.parametrize("options", [ASSIGNED, NAMED], ids=["set", "named"])
def test_a_setting_does_the_same_wherever_it_is_given(from_file, given, tmp_path, options):
    register(*given, "-o", tmp_path / "aligned", *options)
    for name in ("transform.h5", "warped.nii.gz", *PRODUCTS):
        assert same(tmp_path / "aligned" / name, from_file / name), name


@pytest.mark.slow
def test_a_cohort_with_these_settings_makes_the_same_bytes(from_file, files, on_atlas, make_study):
    atlas = {"image": str(files["fixed"]), "labels": str(on_atlas)}
    study = make_study(("mni6",), **SETTINGS, atlases={"mni": atlas})
    study.rows[0]["companions"] = f"t1={files['companion']}"
    ended = study.write().snakemake("results/apply/mni6")
    assert ended.returncode == 0, ended.stderr
    assert same(study.results("refine", "mni6", "transform.h5"), from_file / "transform.h5")
    for name in PRODUCTS:
        assert same(study.results("apply", "mni6", name), from_file / name), name


def test_what_follows_is_what_apply_makes_of_the_same_transform(from_file, files, on_atlas, tmp_path):
    made = {
        "companions/t1.nii.gz": ("transform.h5", files["companion"], files["fixed"], "--interpolation=cubic"),
        "inverse_fixed.nii.gz": ("inverse.h5", files["fixed"], files["moving"], "--interpolation=cubic"),
        "inverse_labels.nii.gz": ("inverse.h5", on_atlas, files["moving"], "--labels"),
    }
    for name, (transform, source, reference, how) in made.items():
        command = ["apply", from_file / transform, source, "-r", reference, "-o", tmp_path / "again.nii.gz"]
        assert CliRunner().invoke(main, [*map(str, command), how]).exit_code == 0
        assert same(tmp_path / "again.nii.gz", from_file / name), name


@pytest.mark.parametrize(
    "kind", list_methods_of_kind(METHODS, "volumes")["mutual-information"].options["transform"]["enum"]
)
def test_the_transform_is_of_the_kind_that_was_asked_for(kind, files, tmp_path):
    register(files["fixed"], files["moving"], "-o", tmp_path / "aligned", "--transform", kind, *QUICK)
    linear = read_transform(tmp_path / "aligned" / "transform.h5").linear
    stretch = np.linalg.svd(linear, compute_uv=False)
    assert np.linalg.det(linear) > 0
    if kind == "rigid":
        np.testing.assert_allclose(linear @ linear.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(linear) == pytest.approx(1, abs=1e-9)
    elif kind == "similarity":
        np.testing.assert_allclose(stretch, stretch.mean(), rtol=1e-9)
        assert abs(stretch.mean() - 1) > 1e-4
    else:
        assert stretch.max() > 1.001 * stretch.min()


def test_a_moving_mask_steers_the_deformation_where_both_are_asked_for(files, tmp_path):
    """Half a brain is left out, so that its half of the field is another."""
    from regflow.io.volumes import read_volume, write_volume

    common = [files["fixed"], files["moving"], *("--initialize", "header", "--refine", "greedy", *QUICK)]
    for name in ("fixed", "moving"):
        image = read_volume(files[name])
        mask = image.channel > 0
        if name == "moving":
            mask[:, :, : mask.shape[2] // 2] = False
        write_volume(tmp_path / f"{name}_mask.nii.gz", mask, image.grid)
        common += [f"--{name}-mask", tmp_path / f"{name}_mask.nii.gz"]
    for which in ("fixed", "both"):
        register(*common, "--masks", which, "-o", tmp_path / which)
    assert not same(tmp_path / "fixed" / "transform.h5", tmp_path / "both" / "transform.h5")
