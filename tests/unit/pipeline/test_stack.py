import json

import nibabel
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

import regflow as rf
from regflow.commands.cli import main
from regflow.core.errors import InputError
from regflow.core.files import compute_sha256
from regflow.core.grid import Grid
from regflow.datasets.serial_sections import SectionFaults, measure_stack_error, simulate_sections
from regflow.datasets.volumes import load_volume
from regflow.io.nifti import write_nifti
from regflow.io.raster_files import write_raster

SMALL = {"rotation_deg": 4.0, "shift_px": 1.5, "warp_px": 0.3, "warp_width_px": 10.0}
MILLIMETERS = 3


@pytest.fixture(scope="module")
def brain():
    """Return coronal planes of a real brain of 3 mm, ``(N, rows, columns)``."""
    volume = np.asarray(load_volume("mni6").channel, np.float32)
    whole = [size // MILLIMETERS * MILLIMETERS for size in volume.shape]
    cut = volume[: whole[0], : whole[1], : whole[2]]
    shape = [part for size in whole for part in (size // MILLIMETERS, MILLIMETERS)]
    coarse = cut.reshape(shape).mean(axis=(1, 3, 5))
    return np.ascontiguousarray(np.moveaxis(coarse, 1, 0)[20:44, ::-1])


def write_pictures(folder, pictures, name="s{:03d}.tif"):
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures):
        values = np.clip(np.rint(picture * 180 + 10), 0, 255).astype(np.uint8)
        values = values[None] if values.ndim == 2 else values
        write_raster(folder / name.format(number), values, Grid(values.shape[1:], np.eye(3)))
    return folder


def read_maps(found, left_out=()):
    return [
        None
        if row["state"] == "missing" or row["section"] in left_out
        else rf.read_transform(found.folder / "transforms" / f"{row['section']}.h5")
        for row in sorted(found.sections, key=lambda row: row["section"])
    ]


@pytest.fixture(scope="module")
def damaged(brain, tmp_path_factory):
    """Return sections of which one each is torn, missing, stained and blank, and the stack of them."""
    damages = {6: "torn", 10: "missing", 16: "stained"}
    cut = simulate_sections(brain, SectionFaults(**SMALL, damages=damages), seed=1)
    folder = tmp_path_factory.mktemp("damaged")
    write_pictures(folder / "in", cut.pictures)
    (folder / "in" / "s013.tif").unlink()
    given = {"fill": "interpolate", "deform": False, "mirrored": False, "pixel_size_um": 3000, "turn_deg": 40}
    return cut, rf.assemble_stack(folder / "in", folder / "out", section_um=3000, **given)


def test_damaged_sections_are_named_and_the_rest_lies_right(damaged):
    cut, found = damaged
    states = {row["section"]: row["state"] for row in found.sections}
    assert {name: state for name, state in states.items() if state != "sound"} == {
        **{"s006": "fits none", "s010": "missing", "s013": "missing", "s016": "other contrast"}
    }
    said = "\n".join(found.problems)
    assert "s013: is missing: its number is skipped" in said
    assert "s010: shows no tissue; its neighbors were bridged" in said
    errors = measure_stack_error(cut, read_maps(found, ("s006",)))
    assert errors["mean_percent"] < 1.2
    assert errors["shape_worst_percent"] < 1.2
    assert found.figures["continuity_linear"] > found.figures["continuity_scanned"] + 0.03


def test_the_volume_is_whole_and_says_where_it_lies(damaged):
    _, found = damaged
    image = nibabel.load(found.path)
    assert image.shape == found.shape[::-1]
    np.testing.assert_allclose(image.header.get_zooms(), 3)
    values = np.asarray(image.dataobj).transpose(2, 1, 0)
    with tifffile.TiffFile(found.folder / "stack.ome.tif") as tiff:
        assert tiff.series[0].axes == "ZYX"
        np.testing.assert_array_equal(tiff.asarray(), values)
        assert 'PhysicalSizeZ="3000' in tiff.ome_metadata
    # A filled place shows what is around it.
    rows = {row["section"]: row for row in found.sections}
    assert rows["s010"]["filled_by"] == "s009, s011"
    around = values[[9, 11]].astype(float)
    inside = ((around > 0) & (around < 255)).all(axis=0)
    assert inside.mean() > 0.8
    assert np.abs(values[10] - around.mean(axis=0))[inside].max() <= 1
    record = json.loads((found.folder / "stack.json").read_text(encoding="utf-8"))
    assert record["shape"] == list(found.shape)
    assert "s006" in (found.folder / "report.html").read_text(encoding="utf-8")


def test_transforms_lead_to_the_pixels_of_the_sections(damaged):
    cut, found = damaged
    values = np.asarray(nibabel.load(found.path).dataobj).transpose(2, 1, 0)[4]
    rows, columns = np.nonzero(values > 90)
    points = np.stack([columns, rows], axis=1)[::7]
    places = np.rint(read_maps(found)[4].apply(points.astype(float))).astype(int)
    seen = cut.pictures[4][places[:, 1], places[:, 0]]
    assert np.corrcoef(seen, values[points[:, 1], points[:, 0]])[0, 1] > 0.9


@pytest.mark.slow
def test_no_result_depends_on_threads(brain, tmp_path):
    pictures = simulate_sections(brain[:8], SectionFaults(**SMALL)).pictures
    made = [rf.assemble_stack(pictures, tmp_path / str(count), threads=count).folder for count in (1, 2)]
    assert compute_sha256(made[0]) == compute_sha256(made[1])


@pytest.mark.slow
def test_swapped_sections_are_sorted_if_asked(brain, tmp_path):
    cut = simulate_sections(brain, SectionFaults(**SMALL, swaps=((5, 17),)))
    write_pictures(tmp_path / "in", cut.pictures)
    given = {"deform": False, "mirrored": False, "turn_deg": 30}
    kept = rf.assemble_stack(tmp_path / "in", tmp_path / "kept", **given)
    assert [row["section"] for row in kept.sections if row["state"] == "out of order"] == ["s005", "s017"]
    found = rf.assemble_stack(tmp_path / "in", tmp_path / "out", order="sort", **given)
    assert [int(row["section"][1:]) for row in found.sections] == cut.places.tolist()
    assert "s005: is out of order; by its looks it belongs before s018" in "\n".join(found.problems)


@pytest.mark.slow
def test_a_reference_gives_the_block_its_shape(brain, tmp_path):
    # Sections far off their places say nothing; a block that is bent as a banana is told by its volume.
    bent = np.stack([np.roll(plane, round(6 * np.sin(n / 7)), axis=1) for n, plane in enumerate(brain)])
    cut = simulate_sections(bent, SectionFaults(**{**SMALL, "shift_px": 5.0}))
    write_pictures(tmp_path / "in", cut.pictures)
    turn = np.deg2rad(8)
    direction = [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    grid = Grid.from_geometry(bent.shape, (3, 3, 3), (4, -7, 11), direction)
    write_nifti(tmp_path / "mri.nii.gz", bent, grid)
    sizes = {"pixel_size_um": 3000, "section_um": 3000, "deform": False, "mirrored": False}
    alone = rf.assemble_stack(tmp_path / "in", tmp_path / "alone", **sizes)
    found = rf.assemble_stack(tmp_path / "in", tmp_path / "out", reference=tmp_path / "mri.nii.gz", **sizes)
    before, after = (measure_stack_error(cut, read_maps(each))["shape_percent"] for each in (alone, found))
    assert after < 0.6
    assert after < 0.6 * before
    assert found.figures["reference_explained"] > 0.7
    with pytest.raises(InputError, match="a reference needs sizes"):
        rf.assemble_stack(tmp_path / "in", tmp_path / "x", reference=tmp_path / "mri.nii.gz")


def test_other_kinds_and_sizes_are_said(brain, tmp_path):
    pictures = simulate_sections(brain[8:14], SectionFaults(**SMALL)).pictures
    folder = write_pictures(tmp_path / "in", pictures)
    wide = np.pad(pictures[2], ((4, 4), (5, 5)))
    write_pictures(tmp_path / "wide", [wide], "w.tif").joinpath("w.tif").replace(folder / "s002.tif")
    color = np.repeat(pictures[3][None], 3, axis=0)
    write_pictures(tmp_path / "color", [color], "c.tif").joinpath("c.tif").replace(folder / "s003.tif")
    (folder / "s004.tif").write_bytes(b"II*\0 cut off")
    found = rf.assemble_stack(folder, tmp_path / "out", deform=False, mirrored=False)
    said = "\n".join(found.problems)
    rows, columns = pictures[0].shape
    assert f"s002: is {columns + 10} x {rows + 8} px where most sections are {columns} x {rows}" in said
    assert "s003: is 3 bands of uint8 where most sections are 1 band of uint8; convert it" in said
    assert "s004: cannot be read" in said
    assert [row["state"] for row in found.sections].count("missing") == 2


def test_too_few_sections_are_refused(brain, tmp_path):
    folder = write_pictures(tmp_path / "one", brain[:1])
    with pytest.raises(InputError, match="one section is no stack"):
        rf.assemble_stack(folder, tmp_path / "out")
    blank = write_pictures(tmp_path / "blank", np.zeros((3, 40, 40)))
    with pytest.raises(InputError, match="fewer than two sections show tissue"):
        rf.assemble_stack(blank, tmp_path / "out")
    with pytest.raises(InputError, match="no sections are named"):
        rf.assemble_stack([], tmp_path / "out")
    with pytest.raises(InputError, match="section 0 has 1 dimensions"):
        rf.assemble_stack(np.zeros((3, 4)), tmp_path / "out")
    with pytest.raises(InputError, match="rounds"):
        rf.assemble_stack(folder, tmp_path / "out", rounds=0)


def test_the_command_reads_a_table(brain, tmp_path):
    pictures = simulate_sections(brain[8:13], SectionFaults(**SMALL)).pictures
    write_pictures(tmp_path / "in", pictures, "slide-{}x.tif")
    lines = ["section,number", *(f"in/slide-{n}x.tif,{30 - 2 * n}" for n in (4, 0, 1, 3))]
    (tmp_path / "slides.csv").write_text("\n".join(lines), encoding="utf-8")
    words = ["--table", str(tmp_path / "slides.csv"), "-o", str(tmp_path / "out"), "--no-deform"]
    done = CliRunner().invoke(main, ["stack", *words, "--turn", "20", "--threads", "1"])
    assert done.exit_code == 0, done.output
    assert "of 5 sections are sound" in done.output
    table = (tmp_path / "out" / "sections.tsv").read_text(encoding="utf-8").splitlines()
    assert [line.split("\t")[0] for line in table[1:]] == [
        *("slide-4x", "slide-3x", "number 26", "slide-1x", "slide-0x")
    ]
    lines[1] = "in/slide-4x.tif,x"
    (tmp_path / "slides.csv").write_text("\n".join(lines), encoding="utf-8")
    done = CliRunner().invoke(main, ["stack", *words])
    assert done.exit_code == 2
    assert "line 2: number is 'x', but must be a whole number" in done.output
