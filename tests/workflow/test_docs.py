"""What the documentation tells to type works as it stands there, and what it names exists."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import page_files
import pytest
import rasterio
import yaml
from loose_modules import load_module
from page_blocks import Block, Reader, read_blocks, read_commands
from s3_server import serving_s3
from stand_ins import CONDA, write_program
from study import ROOT

from regflow.cohort.columns import define_samples_schema
from regflow.commands.cli import main
from regflow.config.loading import load_config

DOCS = ROOT / "docs"
PAGES = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))
QUICK = {"index.md"}
"""Pages whose commands take seconds; the others run workflows and many registrations."""
ALIGNED = {"howto/transforms.md", "howto/verdicts.md"}
"""Pages that begin where the quickstarts end: with the folders ``aligned`` and ``aligned_scene``."""
ON_CLUSTERS = {"howto/cluster.md"}
"""Pages that lead to results on S3, and name a conda."""
NEW_METHOD = "adding-a-method.md"
MADE_THERE = {"src/regflow/methods/refine/free_form.py", "tests/unit/methods/test_free_form.py"}
PROFILE_KEYS = {"default-resources", "set-resources", "default-storage-provider"}
WORDS = """
fixed image, moving image, grid, world, LPS, CRS, mask, companion, nodata, atlas, transform, affine,
homography, displacement field, velocity field, composite, Jacobian determinant, folding, inverse
consistency, interpolation, stage, method, ladder, gate, verdict, preset, manifest, landmark, tie
point, check point, outlier, TRE, Dice, HD95, ASD, CE90, RMSE, NCC, LNCC, MI, NMI, SSIM, MIND,
IR-MAD, CVA, minimum mapping unit, COG, STAC, BIDS
"""


def read_page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def has_steps(name: str) -> bool:
    return any(block.language in ("bash", "python") for block in read_blocks(read_page(name)))


def followed_pages() -> list[object]:
    pages = [name for name in PAGES if has_steps(name) and name != NEW_METHOD]
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in pages]


def blocks_of(language: str) -> list[object]:
    found = [(name, block) for name in PAGES for block in read_blocks(read_page(name))]
    return [
        pytest.param(name, block, id=f"{name}:{block.line}")
        for name, block in found
        if block.language == language
    ]


def regflow_commands() -> list[str]:
    pages = [(ROOT / "README.md").read_text(encoding="utf-8"), *map(read_page, PAGES)]
    blocks = (block for page in pages for block in read_blocks(page) if block.language == "bash")
    lines = {line for block in blocks for line in read_commands(block)}
    return sorted(line for line in lines if line.startswith("regflow "))


@pytest.mark.parametrize("line", regflow_commands())
def test_each_command_has_the_options_that_pages_give_it(line):
    _, name, *words = shlex.split(line)
    command = main.get_command(click.Context(main), name)
    assert command is not None, name
    command.make_parser(click.Context(command, info_name=name)).parse_args(words)


@pytest.fixture(scope="module")
def files(tmp_path_factory, volume_file) -> Path:
    """A folder with the files that the pages name; do not write to it."""
    folder = tmp_path_factory.mktemp("docs")
    page_files.write_volumes(folder, volume_file)
    page_files.write_volume_parts(folder)
    page_files.write_dataset(folder)
    page_files.write_dicom(folder)
    page_files.write_scenes(folder)
    page_files.write_scene_parts(folder)
    page_files.write_points(folder)
    page_files.write_tiles(folder)
    page_files.write_slides(folder, volume_file)
    return folder


@pytest.fixture(scope="module")
def aligned(tmp_path_factory, files) -> Path:
    """The folders ``aligned`` and ``aligned_scene``, as the quickstarts leave them."""
    import regflow as rf

    folder = tmp_path_factory.mktemp("aligned")
    brains = {
        "initialize": "moments",
        "refine": "greedy",
        "config": {"preprocess": {"bias": {"method": "none"}}},
    }
    rf.register(files / "atlas.nii.gz", files / "subject.nii.gz", output=folder / "aligned", **brains)
    rf.register(files / "reference.tif", files / "scene.tif", output=folder / "aligned_scene")
    return folder


@pytest.fixture
def s3(tmp_path) -> Iterator[dict[str, str]]:
    """The environment that leads to an S3 server with a bucket for results."""
    (tmp_path / "buckets" / "my-results").mkdir(parents=True)
    with serving_s3(tmp_path / "buckets") as environment:
        yield environment


def check_notebook(reader: Reader) -> None:
    result = reader.names["result"]
    assert result.verdict.status == "pass"
    moved = result.transform.apply([[36.0, 36.0, 36.0]])
    assert moved == pytest.approx(np.array([[39.0, 36.0, 36.0]]), abs=0.1)


def check_transforms(reader: Reader) -> None:
    """The scene as rasterio and scipy warp it is the scene as regflow does, but for the interpolation."""
    with rasterio.open(reader.here / "aligned_scene" / "warped.tif") as scene:
        product = scene.read(1)[20:-20, 20:-20].astype(np.float64)
    elsewhere = reader.names["warped"][20:-20, 20:-20]
    assert np.corrcoef(product.ravel(), elsewhere.ravel())[0, 1] > 0.99


CHECKS = {"quickstart/notebook.md": check_notebook, "howto/transforms.md": check_transforms}


@pytest.mark.parametrize("name", followed_pages())
def test_a_page_works_as_it_stands(name, files, tmp_path, request, monkeypatch):
    place = tmp_path / "reader"
    shutil.copytree(files, place)
    if name in ALIGNED:
        shutil.copytree(request.getfixturevalue("aligned"), place, dirs_exist_ok=True)
    if name in ON_CLUSTERS:
        write_program(tmp_path / "bin", "conda", CONDA)
        path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
        for variable, value in {**request.getfixturevalue("s3"), "PATH": path}.items():
            monkeypatch.setenv(variable, value)
    reader = Reader(place)
    reader.follow(read_page(name), name)
    if name in CHECKS:
        CHECKS[name](reader)


@pytest.fixture
def package(tmp_path, files) -> Path:
    """A copy of the package with what its reference pages and tests need."""
    copy = tmp_path / "clone"
    unwanted = shutil.ignore_patterns("*.egg-info")
    for name in ("src", "config", "workflow/schemas", "tests/support"):
        shutil.copytree(ROOT / name, copy / name, ignore=unwanted)
    for name in ("pyproject.toml", "tests/conftest.py"):
        shutil.copy2(ROOT / name, copy / name)
    (copy / "resources").symlink_to(ROOT / "resources")
    for name in ("atlas.nii.gz", "subject.nii.gz"):
        shutil.copy2(files / name, copy / name)
    return copy


def add_row(package: Path, block: Block) -> None:
    """Put a row at the head of the table, as its reader would."""
    table = package / str(block.title)
    text = table.read_text(encoding="utf-8")
    head = "METHODS: dict[str, Method] = {\n"
    assert text.count(head) == 1
    table.write_text(text.replace(head, head + block.text), encoding="utf-8")


@pytest.mark.slow
def test_a_method_is_added_as_the_page_says(package):
    reader = Reader(package, pythonpath=package / "src")
    for block in read_blocks(read_page(NEW_METHOD)):
        if block.title and block.title.endswith("__init__.py"):
            add_row(package, block)
        elif block.title:
            reader.write(block)
        elif block.language == "bash":
            for command in read_commands(block):
                reader.type(command)
    assert {str(path.relative_to(package)) for path in package.rglob("*.py")} >= MADE_THERE
    reference = (package / "config" / "README.md").read_text(encoding="utf-8")
    assert "`refine.options.free-form.cells`" in reference
    quality = json.loads((package / "aligned" / "quality.json").read_text(encoding="utf-8"))
    assert quality["transform_from"] == "refine"
    assert quality["verdict"]["status"] != "fail"
    assert "Rueckert" in (package / "aligned" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "block"), blocks_of("yaml"))
def test_configurations_have_the_keys_that_there_are(name, block):
    content = yaml.safe_load(block.text)
    if name == NEW_METHOD or PROFILE_KEYS & set(content):
        return
    source = {} if "bids" in content else {"samples": "config/samples.tsv"}
    load_config({**source, **content})


@pytest.mark.parametrize(("name", "block"), blocks_of("tsv"))
def test_sheets_have_the_columns_that_there_are(name, block):
    header, *rows = [line.split("\t") for line in block.text.splitlines()]
    kinds = [define_samples_schema(kind)["properties"] for kind in ("volumes", "rasters")]
    assert any(set(header) <= set(known) for known in kinds), header
    assert all(len(row) <= len(header) for row in rows)


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    generated = {(DOCS / place).resolve() for place in load_module(DOCS / "hooks.py").PAGES}
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", read_page(name)):
        path = (DOCS / name).parent / target
        assert path.is_file() or path.resolve() in generated, target


@pytest.mark.parametrize(
    "page", [DOCS / name for name in PAGES] + [ROOT / "CONTRIBUTING.md"], ids=lambda p: p.name
)
def test_files_that_are_named_exist(page):
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:workflow|config|src|docs|tests|benchmarks)/[a-z0-9_./-]+)`", text))
    for name in named - MADE_THERE:
        assert (ROOT / name).exists(), name


def test_the_site_has_every_page():
    def leaves(part: object) -> Iterator[str]:
        if isinstance(part, str):
            yield part
        else:
            for child in part.values() if isinstance(part, dict) else part:
                yield from leaves(child)

    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    assert sorted(leaves(nav)) == sorted([*PAGES, *load_module(DOCS / "hooks.py").PAGES])


def test_tables_of_methods_come_from_the_rows():
    hooks = load_module(DOCS / "hooks.py")
    marks = re.findall(
        r"^<!-- methods: (\w+) (volumes|rasters) -->$", "".join(map(read_page, PAGES)), re.MULTILINE
    )
    assert {name for name, _ in marks} == set(hooks.TABLES)
    for name, kind in marks:
        table = hooks.on_page_markdown(f"<!-- methods: {name} {kind} -->")
        assert table.count("\n") >= 3
        assert "<!--" not in table


def test_every_task_and_recipe_is_told():
    hooks = load_module(DOCS / "hooks.py")
    table = hooks.on_page_markdown(hooks.TASKS_MARK)
    assert {name for name in hooks.TASKS if f"| `{name}`" not in table} == set()
    assert {path.stem for path in hooks.RECIPES.glob("*.yaml") if f"`{path.stem}`" not in table} == set()


@pytest.mark.parametrize("kind", ["volumes", "rasters"])
def test_the_guideline_cites_what_was_measured(kind, tmp_path, monkeypatch):
    hooks = load_module(DOCS / "hooks.py")
    branches = hooks.BRANCHES[kind]
    results: dict[str, list[dict[str, object]]] = {}
    for branch in branches:
        for part, case in branch.measured:
            for method in (*branch.initialize, *branch.refine):
                figures = {"solved": 17, "pairs": 20, "error_median": 0.123, "cpu_s": 4.56}
                results.setdefault(part, []).append({"case": case, "method": method, **figures})
    file = tmp_path / "canon.json"
    monkeypatch.setattr(hooks, "CANON", file)
    bare = hooks.on_page_markdown(f"<!-- guideline: {kind} -->")
    file.write_text(json.dumps({"results": results}), encoding="utf-8")
    chart = hooks.on_page_markdown(f"<!-- guideline: {kind} -->")
    for branch in branches:
        for part, case in branch.measured:
            assert f"{part}, {case}: {branch.initialize[0]} 17 of 20 (0.12, 4.6 s)" in chart
    assert "17 of 20" not in bare
    bare_questions = [branch.question for branch in branches if not branch.measured]
    assert set(bare_questions) <= {"Are ground control points given?"}


@pytest.mark.parametrize("kind", ["volumes", "rasters"])
def test_the_guideline_cites_tables_that_the_benchmark_has(kind):
    source = (ROOT / "benchmarks" / "canon.py").read_text(encoding="utf-8")
    for branch in load_module(DOCS / "hooks.py").BRANCHES[kind]:
        for part, case in branch.measured:
            assert f'"{part}": (' in source
            words = re.split(r", | to |\d+ (?:mm|px)", case)
            assert all(word in source for word in words)


def defined_words() -> set[str]:
    """Return the words of the glossary: bold, on a line of their own with a definition below."""
    lines = re.findall(r"^(\*\*.+)\n:   \S", read_page("glossary.md"), re.MULTILINE)
    bold = re.findall(r"\*\*(.+?)\*\*", "\n".join(lines))
    return {word.strip() for names in bold for word in names.split(",")}


@pytest.mark.parametrize("word", [word.strip() for word in WORDS.replace("\n", " ").split(",")])
def test_the_glossary_has_the_word(word):
    assert word in defined_words()


@pytest.mark.slow
def test_the_site_is_built_and_asks_no_other_host(tmp_path):
    pytest.importorskip("mkdocs")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    ended = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > len(PAGES)
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<(?:script|img|iframe)[^>]+src=\"?(?:https?:)?//", text), page.name
        assert not re.search(
            r"<link[^>]+href=\"?(?:https?:)?//[^>]+stylesheet|stylesheet[^>]+https?://", text
        ), page.name
