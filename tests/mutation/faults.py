"""The faults that can be planted in a source file: small changes of one expression or statement each."""

import ast
import copy
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.MatMult: ast.Add,
}
SWAPS = {"min": "max", "minimum": "maximum", "any": "all", "floor": "ceil", "argmin": "argmax"}
SWAPS |= {"nanmin": "nanmax", "mean": "sum", "sin": "cos", "median": "max", "logical_and": "logical_or"}
SWAPS |= {after: before for before, after in SWAPS.items() if after not in SWAPS}
SWAPS |= {"sum": "mean", "max": "min"}
COMPILED = {"njit", "jit", "vectorize"}
WITHOUT_EFFECT = {
    "cache",
    "parallel",
    "nogil",
    "fastmath",
    "inline",
    "threads",
    "num_threads",
    "daemon",
    "encoding",
}
WITHOUT_EFFECT |= {"describe", "ignore_errors", "set_as_default"}
"""Arguments whose change makes a run faster or slower, alters what is told, or shows elsewhere alone."""
QUIET = {"debug", "info", "warning", "log", "tell", "note", "echo", "close", "flush"}
"""Calls that only speak to the user or let go of what is held."""


@dataclass(frozen=True)
class Fault:
    """One change of a source file: the text between two offsets is replaced.

    ``path`` is relative to the package; ``owner`` is the qualified name of the function or class that holds
    the change, or the name assigned at the module's level; ``compiled`` says whether numba compiles it, or
    what it compiles may use it; offsets count bytes.
    """

    path: str
    line: int
    column: int
    owner: str
    compiled: bool
    kind: str
    start: int
    end: int
    before: str
    after: str

    def applied(self, source: bytes) -> bytes:
        """Return the source with the fault in it."""
        return source[: self.start] + self.after.encode() + source[self.end :]

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.kind}: {_short(self.before)} -> {_short(self.after)}"


def _short(text: str, length: int = 70) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= length else flat[: length - 3] + "..."


Change = tuple[str, ast.AST, str]
"""Kind, the node to replace, and the text instead of it."""


def _text(node: ast.AST) -> str:
    """Return source text that keeps its meaning wherever the node stood."""
    text = ast.unparse(node)
    return text if isinstance(node, ast.Constant | ast.Name | ast.Call | ast.stmt) else f"({text})"


def _altered(node: ast.AST, **fields: object) -> ast.AST:
    twin = copy.copy(node)
    for name, value in fields.items():
        setattr(twin, name, value)
    return twin


def _of_comparison(node: ast.Compare) -> Iterator[Change]:
    for other in COMPARISONS[type(node.ops[0])]:
        yield "comparison", node, _text(_altered(node, ops=[other(), *node.ops[1:]]))


def _of_operation(node: ast.BinOp) -> Iterator[Change]:
    other = OPERATORS.get(type(node.op))
    strings = any(isinstance(side, ast.JoinedStr) or _is_text(side) for side in (node.left, node.right))
    if other is not None and not strings:
        yield "arithmetic", node, _text(_altered(node, op=other()))


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _of_logic(node: ast.BoolOp) -> Iterator[Change]:
    other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    yield "logic", node, _text(_altered(node, op=other))
    for left_out in range(len(node.values)):
        rest = [value for place, value in enumerate(node.values) if place != left_out]
        yield "operand", node, _text(rest[0] if len(rest) == 1 else _altered(node, values=rest))


def _of_sign(node: ast.UnaryOp) -> Iterator[Change]:
    if isinstance(node.op, ast.Not | ast.USub | ast.Invert):
        yield "sign", node, _text(node.operand)


def _of_constant(node: ast.Constant) -> Iterator[Change]:
    value = node.value
    if isinstance(value, bool):
        yield "constant", node, str(not value)
    elif isinstance(value, int):
        yield "constant", node, str(value + 1)
    elif isinstance(value, float):
        yield "constant", node, repr(value * 2 if value else 1.0)


def _of_call(node: ast.Call) -> Iterator[Change]:
    named = node.func
    if isinstance(named, ast.Attribute) and named.attr in SWAPS:
        yield "function", node, _text(_altered(node, func=_altered(named, attr=SWAPS[named.attr])))
    elif isinstance(named, ast.Name) and named.id in SWAPS:
        yield "function", node, _text(_altered(node, func=ast.Name(SWAPS[named.id])))
    for left_out in node.keywords:
        if left_out.arg is not None and left_out.arg not in WITHOUT_EFFECT:
            rest = [keyword for keyword in node.keywords if keyword is not left_out]
            yield "argument", node, _text(_altered(node, keywords=rest))


def _of_condition(node: ast.If | ast.IfExp | ast.While) -> Iterator[Change]:
    yield "condition", node.test, f"(not ({ast.unparse(node.test)}))"


def _of_statement(node: ast.Expr) -> Iterator[Change]:
    if isinstance(node.value, ast.Call):
        yield "statement", node, "pass"


def _of_step(node: ast.AugAssign) -> Iterator[Change]:
    other = OPERATORS.get(type(node.op))
    if other is not None:
        yield "arithmetic", node, _text(_altered(node, op=other()))


CHANGES: dict[type[ast.AST], Callable[..., Iterator[Change]]] = {
    ast.Compare: _of_comparison,
    ast.BinOp: _of_operation,
    ast.BoolOp: _of_logic,
    ast.UnaryOp: _of_sign,
    ast.Constant: _of_constant,
    ast.Call: _of_call,
    ast.If: _of_condition,
    ast.IfExp: _of_condition,
    ast.While: _of_condition,
    ast.Expr: _of_statement,
    ast.AugAssign: _of_step,
}


def _is_quiet(node: ast.AST) -> bool:
    """Tell nodes whose change no result can show: messages, annotations, text and compilers' options."""
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Assert):
        return True
    if isinstance(node, ast.Dict):
        keys = {key.value for key in node.keys if isinstance(key, ast.Constant)}
        return bool(keys & {"cache", "description"} and keys & {"cache", "parallel", "nogil"})
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        called = node.value.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        return name.lstrip("_") in QUIET
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what may be changed below a node."""
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list", "type_params"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.keyword) and child.arg in WITHOUT_EFFECT:
                continue
            if isinstance(child, ast.AST):
                yield child


def join(owner: str, name: str, holder: ast.AST) -> str:
    """Return the qualified name, as Python makes it, of what a function, class or module holds."""
    if isinstance(holder, ast.FunctionDef | ast.AsyncFunctionDef):
        return f"{owner}.<locals>.{name}"
    return f"{owner}.{name}" if owner else name


def _is_compiled(node: ast.AST) -> bool:
    return any(COMPILED & set(_names(mark)) for mark in getattr(node, "decorator_list", []))


def _names(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            yield part.id


def _changes(node: ast.AST, owner: str, compiled: bool) -> Iterator[tuple[str, bool, Change]]:
    """Walk a tree and yield every change with its owner, and whether the owner is compiled."""
    for child in _children(node):
        if _is_quiet(child):
            continue
        inside, jitted = owner, compiled
        if isinstance(child, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            inside, jitted = join(owner, child.name, node), compiled or _is_compiled(child)
        elif isinstance(node, ast.Module) and isinstance(child, ast.Assign | ast.AnnAssign):
            inside = ast.unparse(child.targets[0] if isinstance(child, ast.Assign) else child.target)
        for change in CHANGES.get(type(child), lambda _: iter(()))(child):
            yield inside, jitted, change
        yield from _changes(child, inside, jitted)


def _as_long(text: str, breaks: int) -> str:
    """Add line breaks, so that what follows keeps its line, by which compiled functions are known."""
    return f"{text[:-1]}{chr(10) * breaks})" if text.endswith(")") else text + "\n" * breaks


def find_faults(package: Path, path: str) -> list[Fault]:
    """Return every fault that can be planted in one source file of the package."""
    source = (package / path).read_bytes()
    tree = ast.parse(source)
    kernels = any(_is_compiled(node) for node in ast.walk(tree))
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []
    for owner, jitted, (kind, node, after) in _changes(tree, "", False):
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        before = source[start:end].decode()
        compiled = jitted or (kernels and owner.partition(".")[0] not in functions)
        after = _as_long(after, before.count("\n"))
        place = path, node.lineno, node.col_offset, owner, compiled
        found.append(Fault(*place, kind, start, end, before, after))
    return found


def sample_faults(package: Path, paths: list[str], count: int, seed: int) -> list[Fault]:
    """Draw faults without repetition: a file by its number of faults, then a kind of change, then one."""
    drawn = random.Random(seed)
    pools: dict[str, dict[str, list[Fault]]] = {}
    for path in sorted(paths):
        kinds: dict[str, list[Fault]] = defaultdict(list)
        for fault in find_faults(package, path):
            kinds[fault.kind].append(fault)
        if kinds:
            pools[path] = dict(kinds)
    weights = {path: sum(map(len, kinds.values())) for path, kinds in pools.items()}
    chosen: list[Fault] = []
    while len(chosen) < count and pools:
        path = drawn.choices(list(pools), [weights[path] for path in pools])[0]
        kind = drawn.choice(sorted(pools[path]))
        faults = pools[path][kind]
        chosen.append(faults.pop(drawn.randrange(len(faults))))
        if not faults:
            del pools[path][kind]
        if not pools[path]:
            del pools[path]
    return chosen
