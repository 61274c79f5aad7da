"""What comes in is never trusted: ids, paths, text in pages and tables, YAML, archives, weights, code."""

import ast
import zipfile
from pathlib import Path

import numpy as np
import pytest
from docutils.core import publish_parts
from jinja2 import Template
from report_pages import Page
from study import ROOT

from regflow.cohort.columns import define_samples_schema
from regflow.cohort.reading import read_cohort
from regflow.config.loading import load_config, load_defaults
from regflow.core.errors import InputError
from regflow.core.files import write_json
from regflow.core.gate import Verdict
from regflow.metrics.catalogs import CATALOGS
from regflow.reporting.rasters.page import render_scene_page
from regflow.reporting.shared.cohort import render_cohort_page
from regflow.reporting.shared.multiqc import write_multiqc_files
from regflow.reporting.shared.story import PageStory
from regflow.reporting.volumes.sample import render_sample_page
from regflow.stages.freshness import find_record, is_current, record_key
from regflow.stages.gather import write_table
from regflow.stages.shell import make_outcome, run_stage_work

HOSTILE = "</pre></script><script>alert('x')</script><img src=x onerror=alert(1)>\"'><b>&amp;"
REFUSED = {
    *("pickle.load", "pickle.loads", "yaml.load", "yaml.full_load", "yaml.unsafe_load", "os.system", "eval"),
    *("exec", "zipfile.ZipFile", "tarfile.open", "shutil.unpack_archive", "marshal.loads", "shelve.open"),
}
"""What runs code out of a file, or writes where an archive says; nothing here needs it."""
READERS = {"src/regflow/methods/initialize/features/xfeat_network.py: zipfile.ZipFile"}
"""What reads members of an archive into memory, and writes none."""
SAFE_IF = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
"""What may be called when it is told not to run anything."""
ODD_IDS = ("../up", "/etc", "a/b", "a\\b", ".hidden", "-rf", "a b", "$(rm)", "{fixed}", "a;b", "<b>", "é")
TAKEN_IDS = ("index", "Cohort.tsv", "cohort_labels.parquet", "images")
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(10 * ['*' + before])}]\n"
    for before, name in zip("abcdefg", "bcdefgh", strict=True)
)
"""A file of YAML of some lines that spells out a hundred million words."""
COLUMNS_OF_TEXT = ("group", "session", "modality", "reason")


def read(folder: Path, text: str, **config):
    (folder / "s.tsv").write_text(text, encoding="utf-8")
    settings = {"samples": str(folder / "s.tsv"), "atlases": {"a": {"image": "a.nii"}}, "fixed": "a"}
    return read_cohort(load_config({**settings, **config}))


@pytest.mark.parametrize("sample", [*ODD_IDS, *TAKEN_IDS])
@pytest.mark.parametrize("kind", ["volumes", "rasters"])
def test_an_id_that_could_lead_elsewhere_is_refused(sample, kind, tmp_path):
    given = {"kind": kind} if kind == "volumes" else {"kind": kind, "references": {"a": {"image": "a.tif"}}}
    settings = {"samples": str(tmp_path / "s.tsv"), "fixed": "a", "atlases": {"a": {"image": "a.nii"}}}
    if kind == "rasters":
        del settings["atlases"]
    (tmp_path / "s.tsv").write_text(f"sample\tmoving\n{sample}\tx.nii\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"may hold only letters|the cohort's own files|not text|binary"):
        read_cohort(load_config({**settings, **given}))


def test_a_name_in_the_configuration_holds_no_end_of_a_line(tmp_path):
    with pytest.raises(InputError, match="may hold only letters"):
        read(tmp_path, "sample\tmoving\na\tx.nii\n", atlases={"a\n": {"image": "a.nii"}}, fixed="a\n")
    assert "(?!" in define_samples_schema()["properties"]["sample"]["pattern"]


def test_an_id_that_ends_as_a_manifests_name_does_is_a_sample_like_others(tmp_path):
    folder = tmp_path / "sub-01.json"
    assert not is_current(folder, "key")
    with record_key("key"):
        run_stage_work("refine", folder.name, folder, [], lambda _: make_outcome(Verdict("pass", "good")))
    assert is_current(folder, "key")
    manifest = tmp_path / "ingest" / "sub-01.json.json"
    write_json(manifest, {"made_from": "other"})
    assert find_record(manifest) == manifest
    assert is_current(manifest, "other")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("samples: !!python/object/apply:os.system ['touch gone']", "not valid YAML"),
        ("samples: !!python/name:os.system", "not valid YAML"),
        (f"{LAUGHS}samples: *h", "spell out more than"),
        ("samples: &a [*a]", "spell out more than"),
        ("[" * 2000, "not valid YAML"),
    ],
    ids=["call", "name", "billions", "endless", "deep"],
)
def test_yaml_runs_nothing_and_grows_no_more_than_it_says(text, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InputError, match=told):
        load_config(tmp_path / "config.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def story() -> PageStory:
    verdict = {"status": "fail", "reason": HOSTILE, "figures": {}}
    record = {"stage": "refine", "title": HOSTILE, "state": "error", "verdict": verdict, "steps": []}
    return PageStory(
        HOSTILE, "error", HOSTILE, [record], {}, [(HOSTILE, HOSTILE)], [(HOSTILE, HOSTILE)], HOSTILE
    )


def cohort_page(kind: str) -> str:
    catalog = CATALOGS[kind]
    columns = {catalog.name_final_column(name): 0.5 for name in catalog.watched}
    texts = dict.fromkeys(("sample", "group", "modality", "sensor", "reason", "fixed"), HOSTILE)
    rows = [
        {**texts, "state": state, "status": "warn", "outliers": "", **columns} for state in ("done", "error")
    ]
    rows.append({**rows[0], "group": "other"})
    told = [(HOSTILE, HOSTILE)]
    return render_cohort_page(rows, [], [], {HOSTILE: "a.html"}, {}, told, catalog, {HOSTILE: "a.png"})


@pytest.mark.parametrize(
    "render",
    [
        lambda: render_sample_page(story(), None),
        lambda: render_scene_page(story(), None),
        lambda: cohort_page("volumes"),
        lambda: cohort_page("rasters"),
    ],
    ids=["volume", "scene", "volumes", "scenes"],
)
def test_a_page_shows_hostile_text_as_text(render):
    text = render()
    page = Page(text)
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert "alert('x')" in page.text
    assert not [image for image in page.images if "onerror" in image]


def test_a_model_card_shows_hostile_text_as_text():
    from regflow.methods.refine.weights import NetworkDescription
    from regflow.training.card import write_model_card
    from regflow.training.tasks import TASKS

    notes = {
        "title": HOSTILE,
        "license": HOSTILE,
        "data": [HOSTILE],
        "start_from": None,
        "kept": False,
        "parameters": 1,
    }
    notes |= {"steps": 1, "seconds": 1.0, "device": "cpu", "seed": 0}
    described = NetworkDescription(2, (4,), 4, (4,), 1.0, {"method": "none"}, notes=notes)
    settings = load_defaults()["train"]
    card = write_model_card(
        described, TASKS["registration"], {**settings, "about": HOSTILE}, [{"step": 1, "loss": 0.5}]
    )
    assert "<script>" not in card
    assert card.count("&lt;script&gt;alert") == 3


@pytest.mark.parametrize("name", ["sample", "picture"])
@pytest.mark.parametrize("sample", ["sub_", "a.b_", "x--y+_"])
def test_captions_of_snakemakes_report_take_an_id_as_it_is(name, sample):
    caption = Template((ROOT / "workflow" / "report" / f"{name}.rst").read_text(encoding="utf-8"))
    told = caption.render(snakemake={"wildcards": {"sample": sample}})
    shown = publish_parts(told, writer="html", settings_overrides={"report_level": 5})["body"]
    assert sample in shown
    assert "system-message" not in shown
    assert "problematic" not in shown


@pytest.mark.parametrize("text", ["=1+2", "+1", "-1+x", "@SUM(A1)", "=HYPERLINK('http://x')"])
def test_a_spreadsheet_computes_nothing_that_the_cohorts_table_tells(text, tmp_path):
    write_table(tmp_path / "t", [{"sample": "a", **dict.fromkeys(COLUMNS_OF_TEXT, text), "ncc": -0.5}], ())
    _, cells = (line.split("\t") for line in (tmp_path / "t.tsv").read_text(encoding="utf-8").splitlines())
    assert cells == ["a", *([f"'{text}"] * len(COLUMNS_OF_TEXT)), "-0.5"]


def test_multiqc_gets_no_text_but_ids_and_verdicts(tmp_path):
    row = {
        "sample": "a",
        "state": "done",
        "status": "pass",
        "reason": HOSTILE,
        "group": HOSTILE,
        "ncc_refine": 1.0,
    }
    write_multiqc_files(tmp_path / "multiqc", [row], CATALOGS["volumes"])
    written = list((tmp_path / "multiqc").iterdir())
    assert len(written) == 3
    assert not [path for path in written if "alert" in path.read_text(encoding="utf-8")]


def test_a_member_of_an_archive_leaves_nothing_outside(tmp_path):
    from regflow.io.rasters import read_raster_header

    inside = tmp_path / "in"
    inside.mkdir()
    with zipfile.ZipFile(inside / "a.zip", "w") as archive:
        archive.writestr("../evil.tif", b"II*\0 no scene")
    with pytest.raises(InputError):
        read_raster_header(f"zip://{inside / 'a.zip'}!../evil.tif")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.zip"]


def test_code_in_a_virtual_raster_is_not_run(tmp_path, monkeypatch):
    """GDAL can run Python that a VRT holds, where the environment allows it."""
    from regflow.core.grid import Grid
    from regflow.datasets.scenes import write_scene
    from regflow.io.rasters import read_window

    monkeypatch.delenv("GDAL_VRT_ENABLE_PYTHON", raising=False)
    grid = Grid((8, 8), np.array([[10.0, 0, 0], [0, -10, 0], [0, 0, 1]]), "EPSG:32633")
    write_scene(tmp_path / "a.tif", {"B": np.ones((8, 8), np.float32)}, grid)
    mark = tmp_path / "ran"
    code = f"def f(*a, **k):\n    open({str(mark)!r}, 'w')\n"
    (tmp_path / "a.vrt").write_text(
        '<VRTDataset rasterXSize="8" rasterYSize="8"><SRS>EPSG:32633</SRS>'
        "<GeoTransform>0,10,0,0,0,-10</GeoTransform>"
        '<VRTRasterBand dataType="Float32" band="1" subClass="VRTDerivedRasterBand">'
        "<PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>"
        f"<PixelFunctionCode><![CDATA[\n{code}]]></PixelFunctionCode>"
        '<SimpleSource><SourceFilename relativeToVRT="1">a.tif</SourceFilename></SimpleSource>'
        "</VRTRasterBand></VRTDataset>"
    )
    with pytest.raises(InputError):
        read_window(str(tmp_path / "a.vrt"), [1], slice(0, 8), slice(0, 8))
    assert not mark.exists()


def calls(path: Path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg: word.value for word in node.keywords}


def test_no_source_runs_what_a_file_holds():
    found = []
    for path in (ROOT / "src").rglob("*.py"):
        for name, given in calls(path):
            asked = SAFE_IF.get(name)
            unsafe = asked is not None and ast.unparse(given.get(asked[0], ast.Constant(None))) != str(
                asked[1]
            )
            shell = name.startswith("subprocess.") and "shell" in given
            if name in REFUSED or unsafe or shell:
                found.append(f"{path.relative_to(ROOT)}: {name}")
    assert set(found) == READERS
    for reader in READERS:
        text = (ROOT / reader.partition(":")[0]).read_text(encoding="utf-8")
        assert "extract" not in text
