"""What rows say of their methods, what methods are handed, and that nobody else knows them by name."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import regflow
from regflow.core.errors import SettingError
from regflow.core.gate import Verdict
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine, Composite, DisplacementField, Transform
from regflow.methods import detect, initialize, preprocess, refine, representation
from regflow.methods.context import Prediction, RunContext
from regflow.methods.ladder import InitialTransform, LadderResult, run_ladder
from regflow.methods.refine.voxelmorph import voxelmorph
from regflow.methods.result import MethodResult
from regflow.methods.table import Method, list_methods_of_kind, run_method, wants_gpu

PACKAGE = Path(regflow.__file__).parent
WITHOUT_NAMES = ("stages", "commands", "pipeline", "provenance")
WORDS = {"none", "auto", "header", "intensity", "landmarks", "given"}
"""Names of methods that mean other things as well: no value, any device, a start, a preprocessing step, and
what a user gives."""
IMAGE = Image(np.zeros((1, 2, 2, 2), np.float32), Grid.from_geometry((2, 2, 2), (1, 1, 1), (0, 0, 0)))
KINDS = ("volumes", "rasters")


def tables(module: ModuleType) -> Iterator[dict[str, Method]]:
    for value in vars(module).values():
        if isinstance(value, dict) and value and all(isinstance(row, Method) for row in value.values()):
            yield value


def rows() -> dict[str, Method]:
    """Every row of every table, those of one kind by the kind's name as well."""
    found = {}
    for module in (initialize, refine, detect, preprocess, representation):
        for table in tables(module):
            for name, row in table.items():
                found[name] = row
                found |= {f"{name}, {kind}": variant for kind, variant in row.variants.items()}
    return found


def names_told(path: Path, names: set[str]) -> list[str]:
    """Return the method names that a module's code holds, but for defaults of its options."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    defaults = {
        id(value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and key.value == "default"
    }
    constants = (
        node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in defaults
    )
    return [f"{path.name}:{node.lineno}: {node.value}" for node in constants if node.value in names]


@pytest.mark.parametrize("folder", WITHOUT_NAMES)
def test_nothing_but_tables_and_defaults_knows_a_method_by_its_name(folder):
    names = {name for name in rows() if "," not in name} - WORDS
    assert {"voxelmorph", "tie-points", "atlas", "ir-mad"} <= names
    paths = sorted((PACKAGE / folder).rglob("*.py"))
    assert paths
    assert [told for path in paths for told in names_told(path, names)] == []


def test_a_name_in_code_is_seen_and_a_default_is_not(tmp_path):
    path = tmp_path / "stage.py"
    path.write_text('OPTIONS = {"default": "greedy"}\nif first == "greedy":\n    pass\n', encoding="utf-8")
    assert names_told(path, {"greedy"}) == ["stage.py:2: greedy"]


@pytest.mark.parametrize("name", rows())
def test_what_a_row_says_is_there(name):
    row = rows()[name]
    assert row.gpu == ("device" in row.options)
    assert not row.predict or callable(row.load_predict())
    assert not row.choose or callable(row.load_choose())
    assert not row.target or callable(row.load())


def test_a_gpu_is_wanted_by_rows_alone_and_unless_the_options_say_no():
    table = {
        "one": Method("", "", gpu=True, options={"device": {"default": "auto"}}),
        "other": Method("", ""),
    }

    def wanted(*methods: str, **options: Any) -> bool:
        return wants_gpu(table, "volumes", {"methods": methods, "options": options})

    assert wanted("other", "one")
    assert not wanted("other")
    assert not wanted("one", one={"device": "cpu"})


SEEN: list[tuple[dict[str, Any], RunContext]] = []


def record(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> MethodResult:
    SEEN.append((dict(options), context))
    return MethodResult(Affine.identity(3), tie_points="what was measured")  # type: ignore[arg-type]


def climbed(context: RunContext, **options: Any) -> tuple[LadderResult, list[MethodResult]]:
    judged = []

    def examine(candidate: MethodResult) -> tuple[Verdict, float]:
        judged.append(candidate)
        return Verdict("pass", "as good as any"), 1.0

    row = Method(f"{__name__}:record", "", options={"steps": {"default": 3}})
    start = InitialTransform(Affine.identity(3), "start", lambda candidate, incoming: False)
    section = {"methods": ["record"], "options": {"record": options}}
    return run_ladder(
        "refine", "volumes", {"record": row}, section, (IMAGE, IMAGE), start, context, examine
    ), judged


def test_options_hold_what_the_schema_lists_and_the_context_comes_as_it_is():
    context = RunContext(threads=2, seed=5, log_file=Path("tool.log"))
    SEEN.clear()
    climbed(context, steps=7)
    climbed(context)
    assert [options for options, _ in SEEN] == [{"steps": 7}, {"steps": 3}]
    assert all(given is context for _, given in SEEN)


def test_what_lies_behind_a_transform_reaches_the_gate_and_the_stage():
    found, judged = climbed(RunContext())
    assert [candidate.tie_points for candidate in judged] == ["what was measured"]
    assert found.result is judged[0]
    assert found.transform is found.result.transform


@pytest.mark.parametrize("kind", KINDS)
def test_methods_of_the_other_kind_only_are_unknown_to_a_ladder(kind):
    for table in (initialize.METHODS, refine.METHODS):
        other = set(table) - set(list_methods_of_kind(table, kind))
        assert other
        for name in other:
            start = InitialTransform(Affine.identity(3), "start", lambda candidate, incoming: False)
            with pytest.raises(SettingError, match=f"unknown method '{name}'"):
                run_ladder(
                    *("refine", kind, table, {"methods": [name]}, (IMAGE, IMAGE), start, RunContext()),
                    examine=lambda candidate: (Verdict("pass", ""), 1.0),
                )


def test_a_network_that_was_asked_before_is_not_asked_again():
    field = DisplacementField(np.zeros((3, 2, 2, 2), np.float32), IMAGE.grid)
    known = Prediction(Composite((field, Affine.identity(3))), gain=0.5)
    options = refine.METHODS["voxelmorph"].complete({"weights": "no such network", "refinement": "none"})
    context = RunContext(prediction=known)
    assert voxelmorph(IMAGE, IMAGE, Affine.identity(3), options, context) is known.transform


def test_a_method_that_gives_a_transform_alone_has_no_tie_points():
    row = refine.METHODS[refine.NO_DEFORMATION]
    found = run_method(row, IMAGE, IMAGE, Affine.identity(3), {}, RunContext())
    assert found.tie_points is None


def test_intensities_are_no_representation_of_volumes():
    assert "intensity" in list_methods_of_kind(representation.METHODS, "rasters")
    assert list_methods_of_kind(representation.METHODS, "volumes") == {}
