"""What public names are made of: verbs for functions, one class for a noun, the field's words."""

import ast
import importlib
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import regflow
from regflow.config.keys import list_leaves
from regflow.config.schema import define_config_schema
from regflow.config.workflow import WORKFLOWS
from regflow.methods.table import Method

PACKAGE = Path(regflow.__file__).parent
ROOT = Path(__file__).parents[2]
VERB_LIST = """
    accumulate add align append apply assemble assess assign average blur build calibrate check choose
    close coarsen collate collect compare compile complete compose compute copy count crop cut decimate
    define deform degrade derive describe detect dilate displace draw drop enable encode erode estimate
    evaluate examine execute explain export extend extrapolate fetch fill filter find finish fit flatten
    fold follow forget format from gather grow halve has ignore import ingest initialize integrate invert
    is join judge keep label lacks lay lease limit linearize link list load locate log look make map mark
    match matches maximize measure merge mirror move multiply name normalize note open optimize orient pad
    paint pair parse place plan pool predict prepare preprocess preserves project publish pull rank read
    record redact refine refuse register release relocate remove render report represent require resample
    rescale resize resolve respace rotate round run sample save scale schedule score search segment select
    send shift show simplify simulate smooth solve spell split spread stack stamp stitch store subtract
    sum summarize take taper to trace train turn use validate verify view wait wants warp whiten wrap
    write
"""
VERBS = set(VERB_LIST.split())
FIELD_TERMS = {
    "correlation_ratio": "a measure",
    "dice": "a measure",
    "lncc": "a measure",
    "mutual_information": "a measure",
    "ncc": "a measure",
    "normalized_mutual_information": "a measure",
    "peak_ambiguity": "a measure",
    "second_peak_ratio": "a measure",
    "ssim": "a measure",
    "fov_disjoint": "a test of inputs",
    "grid_mismatch": "a test of inputs",
    "normalized_median_test": "a test of vectors",
    "existing_local_files": "what the workflow reads",
    "metadata_by_sample": "what the workflow reads",
    "metadata_columns": "what the workflow reads",
    "index_transform": "a map between the samples of two grids",
    "masked_image": "an image with its mask",
    "simulated_pair": "an image with known truth",
    "main": "where a program begins",
}
"""Functions that may bear the name of what they return."""
METHOD_TERMS = {
    "batch": "some of the examples",
    "identity": "a constructor, as of NumPy",
    "inverse": "what a transform has",
    "with_data": "a copy that differs in one thing",
    "with_mask": "a copy that differs in one thing",
    "with_spacing": "a copy that differs in one thing",
}
"""Methods that may bear the name of what they return, beside constructors that begin with ``from``."""
INTERFACE_METHODS = {"backward", "convert", "emit", "forward"}
"""Names that torch, logging and click ask for."""
PARTICIPLES = {"fixed", "moving", "spacing", "warped"}
"""The field's words for images and their grids."""
HOUSE_WORDS = {
    *("aftermath", "apart", "bold", "boldness", "brought", "journal", "likeness", "stiffness", "told"),
    *("polish", "polished", "polishes", "polishing", "twin", "twins"),
}
"""They give way to linear refinement, run record, simulated pair and other words of the field."""
PLAIN_ENGLISH = {"apart", "bold", "brought", "journal", "told"}
"""House words only where they name something of the program; a text may use them."""
ARRAY_TYPES = {"Array", "FixedImage", "Force", "Labels", "Mask"}
"""Aliases that a file may narrow to its own dtype."""
METHOD_PACKAGES = ("detect", "initialize", "preprocess", "refine", "representation")
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


@cache
def trees() -> dict[str, ast.Module]:
    """Return the syntax tree of every module by its name below ``regflow``."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
            path.read_text(encoding="utf-8")
        )
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def registered() -> set[str]:
    """Return the names of the functions that rows of the method tables name."""
    packages = [importlib.import_module(f"regflow.methods.{name}") for name in METHOD_PACKAGES]
    tables = [table for package in packages for table in vars(package).values() if isinstance(table, dict)]
    rows = [row for table in tables for row in table.values() if isinstance(row, Method)]
    rows += [variant for row in rows for variant in row.variants.values()]
    return {row.target.partition(":")[2] for row in rows}


def public_functions() -> Iterator[tuple[str, str]]:
    """Yield the module and the name of each public function."""
    for module, tree in trees().items():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                yield module, node.name


def class_members(*, properties: bool) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield the public properties, or the other public methods, of public classes, each with its class."""
    for tree in trees().values():
        for node in ast.walk(tree):
            if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
                continue
            for member in node.body:
                if isinstance(member, ast.FunctionDef) and not member.name.startswith("_"):
                    decorators = {ast.unparse(each).rpartition(".")[2] for each in member.decorator_list}
                    if bool(decorators & {"property", "cached_property", "setter"}) == properties:
                        yield node.name, member


def is_method_name(name: str) -> bool:
    """Tell whether a method's name says what it does, or what it makes an instance from."""
    return name.partition("_")[0] in VERBS | {"from"} or name in METHOD_TERMS


def is_property_name(name: str, annotation: str) -> bool:
    """Tell whether a property's name is a noun, or a question where the property is true or false."""
    first = name.partition("_")[0]
    if annotation == "bool":
        return first in ("has", "is")
    return not re.search("(ed|ing)$", first) or first in PARTICIPLES


def public_names() -> Iterator[str]:
    """Yield modules, functions, classes, constants, methods and attributes, each with where it stands."""
    for module, tree in trees().items():
        yield module
        for node in tree.body:
            inner = node.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_") else []
            for each in (node, *inner):
                yield from (f"{module} {name}" for name in bound(each) if not name.startswith("_"))


def bound(node: ast.stmt) -> list[str]:
    """Return the names that a statement binds."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def words(text: str) -> set[str]:
    """Return the words of a text or a name, in lower case."""
    return set(re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", text).lower()))


def headwords() -> list[str]:
    """Return the terms that the glossary explains."""
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    marked = [term for line in re.findall(r"^\*\*.*$", text, re.MULTILINE) for term in line.split("**")[1::2]]
    return [word.strip() for term in marked for word in term.split(",")]


def test_a_class_name_is_defined_once() -> None:
    names = Counter(
        node.name for tree in trees().values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_an_alias_of_a_type_is_no_class_and_means_one_thing() -> None:
    aliases: dict[str, set[str]] = {}
    for tree in trees().values():
        for node in tree.body:
            if isinstance(node, ast.Assign) and re.match("[A-Z][a-z]", name := ast.unparse(node.targets[0])):
                aliases.setdefault(name, set()).add(ast.unparse(node.value))
    classes = {node.name for tree in trees().values() for node in tree.body if isinstance(node, ast.ClassDef)}
    assert aliases.keys() & classes == set()
    assert {name for name, meant in aliases.items() if len(meant) > 1} <= ARRAY_TYPES


def test_functions_begin_with_a_verb() -> None:
    methods = registered()
    others = [
        f"{module}.{name}"
        for module, name in public_functions()
        if name.partition("_")[0] not in VERBS
        and name not in FIELD_TERMS
        and not (module.startswith("methods.") and name in methods)
        and module != f"commands.{name}"
    ]
    assert others == []


def test_methods_begin_with_a_verb() -> None:
    members = [(name, member.name) for name, member in class_members(properties=False)]
    assert len(members) > 100
    others = [f"{name}.{member}" for name, member in members if not is_method_name(member)]
    assert [each for each in others if each.partition(".")[2] not in INTERFACE_METHODS] == []


def test_properties_are_nouns_or_questions() -> None:
    members = [
        (name, member.name, ast.unparse(member.returns) if member.returns else "")
        for name, member in class_members(properties=True)
    ]
    assert len(members) > 50
    assert [f"{name}.{member}" for name, member, kind in members if not is_property_name(member, kind)] == []


@pytest.mark.parametrize("name", ["averaged", "mine", "joined", "opened", "told", "of", "at"])
def test_participles_and_pronouns_are_no_names_of_methods(name: str) -> None:
    assert not is_method_name(name)


@pytest.mark.parametrize(
    ("name", "annotation"), [("judged", "float"), ("deformed", "bool"), ("used", "NDArray[np.bool_]")]
)
def test_participles_are_no_names_of_properties(name: str, annotation: str) -> None:
    assert not is_property_name(name, annotation)


def test_no_term_is_listed_that_nothing_bears() -> None:
    assert set(FIELD_TERMS) - {name for _, name in public_functions()} == set()
    assert set(METHOD_TERMS) - {member.name for _, member in class_members(properties=False)} == set()


def test_public_names_are_no_house_words() -> None:
    assert [name for name in public_names() if words(name) & HOUSE_WORDS] == []


@pytest.mark.parametrize("kind", list(WORKFLOWS))
def test_configuration_keys_are_no_house_words(kind: str) -> None:
    keys = [path for path, _ in list_leaves(define_config_schema(kind))]
    assert len(keys) > 50
    assert [key for key in keys if words(str(key)) & HOUSE_WORDS] == []


def test_messages_of_the_log_have_no_house_words() -> None:
    calls = [node for tree in trees().values() for node in ast.walk(tree) if isinstance(node, ast.Call)]
    logged = [call for call in calls if is_log_call(call.func)]
    assert len(logged) > 20
    texts: list[Any] = [
        node.value for call in logged for node in ast.walk(call) if isinstance(node, ast.Constant)
    ]
    assert [text for text in texts if isinstance(text, str) and words(text) & HOUSE_WORDS] == []


def test_the_documentation_has_no_house_words() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "config").rglob("*.md")]
    for page in pages:
        found = words(page.read_text(encoding="utf-8")) & HOUSE_WORDS - PLAIN_ENGLISH
        assert found == set(), page


def is_log_call(function: ast.expr) -> bool:
    """Tell whether a function writes to the log."""
    return (
        isinstance(function, ast.Attribute)
        and function.attr in LEVELS
        and isinstance(function.value, ast.Name)
        and function.value.id == "log"
    )


def test_terms_of_the_glossary_are_those_of_the_code_and_the_configuration() -> None:
    files = [*PACKAGE.rglob("*.py"), *(ROOT / "workflow" / "schemas").glob("*.json")]
    text = " ".join(path.read_text(encoding="utf-8") for path in files).lower()
    plain = re.sub(r"[\W_]+", " ", re.sub(r"[-_]", " ", text))
    terms = [re.sub(r"[-_]", " ", term.lower()) for term in headwords()]
    assert [term for term in terms if not re.search(rf"\b{re.escape(term)}s?\b", plain)] == []


def test_the_glossary_explains_every_public_class() -> None:
    classes = [name for name in regflow.__all__ if name[0].isupper()]
    explained = {term.lower().replace(" ", "") for term in headwords()}
    assert [name for name in classes if name.lower() not in explained] == []
