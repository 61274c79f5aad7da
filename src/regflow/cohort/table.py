"""A sample sheet as a table of text: rows in, problems with their line out.

What volumes and rasters share; the ``sheet`` of each kind makes samples of it.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from regflow.core.errors import InputError
from regflow.core.files import is_existing_path
from regflow.core.names import SAFE, find_nearest_name
from regflow.io.text_files import find_delimiter, read_text, split_rows

RESERVED = frozenset(
    f"{name}{ending}"
    for name, endings in {
        "index": ("",),
        "images": ("",),
        "cohort": ("", ".tsv", ".parquet"),
        "cohort_labels": (".tsv", ".parquet"),
    }.items()
    for ending in endings
)
"""Ids that would take the place of the cohort's own files."""

REQUIRED_COLUMNS = ("sample", "moving")
_EMPTY = ("", "n/a")
_SAFE_WORDS = "may hold only letters, digits, '.', '_', '+' and '-'; rename it"

Made = TypeVar("Made")


class Table:
    """One sheet while it is read.

    Attributes:
        path: the sheet.
        schema: of a row; its columns are those the sheet may have.
        forms: what a cell must be, in words, by column with a pattern.
        problems: sentences found so far.
    """

    def __init__(self, path: Path, schema: Mapping[str, Any], forms: Mapping[str, str]) -> None:
        self.path = path
        self.columns: Mapping[str, Any] = schema["properties"]
        self.required: list[str] = schema["required"]
        self.forms = forms
        self.patterns = {
            name: re.compile(entry["pattern"]) for name, entry in self.columns.items() if "pattern" in entry
        }
        self.problems: list[str] = []
        self._beside: dict[str, bool] = {}
        self._lines: dict[str, int] = {}

    def read(self, make: Callable[[int, dict[str, str]], Made | None]) -> list[Made]:
        """Return what ``make`` makes of each row that has no problem, in the sheet's order.

        Raises:
            InputError: one sentence for each problem, one to a line.
        """
        found = [self._made(line, row, make) for line, row in self.read_rows()]
        if not found and not self.problems:
            self.problems.append(f"{self.path}: lists no samples; add one row per moving image")
        if self.problems:
            raise InputError("\n".join(self.problems))
        return [item for item in found if item is not None]

    def add_problem(self, line: int, sentence: str) -> None:
        """Note what is wrong with a line."""
        self.problems.append(f"{self.path}, line {line}: {sentence}")

    def parse_pairs(self, line: int, cell: str) -> dict[str, str]:
        """Return the parts of ``NAME=VALUE;NAME=VALUE``; names that cannot name a file are problems."""
        found: dict[str, str] = {}
        for part in filter(None, (part.strip() for part in cell.split(";"))):
            name, _, text = (piece.strip() for piece in part.partition("="))
            if not re.match(SAFE, name):
                self.add_problem(line, f"companion '{name}' {_SAFE_WORDS}")
            elif name in found:
                self.add_problem(line, f"companion '{name}' is named twice; rename one")
            else:
                found[name] = text
        return found

    def resolve_path(self, text: str) -> str:
        """Return a path as looked up from the sheet's folder, where its first folder is there."""
        first = (*Path(text).parts, ".")[0]
        if first not in self._beside:
            # One look per first folder, not per file: a network disk would be slow for thousands.
            self._beside[first] = is_existing_path(self.path.parent / first)
        return str(self.path.parent / text) if self._beside[first] else text

    def _made(
        self, line: int, row: dict[str, str], make: Callable[[int, dict[str, str]], Made | None]
    ) -> Made | None:
        before = len(self.problems)
        for name in self.required:
            if name not in row:
                self.add_problem(line, f"the cell '{name}' is empty; fill it in")
        self._check_id(line, row.get("sample"))
        for name, form in self.forms.items():
            if name in row and not self.patterns[name].match(row[name]):
                self.add_problem(line, f"{name} is '{row[name]}', but must be {form}")
        made = make(line, row)
        return made if len(self.problems) == before else None

    def read_rows(self) -> list[tuple[int, dict[str, str]]]:
        """Return the filled cells of each row by column, with its line; malformed rows are problems.

        Raises:
            InputError: the sheet is missing or empty, or its columns are not those there may be.
        """
        if not self.path.is_file():
            raise InputError(
                f"{self.path}: this sample sheet does not exist; correct 'samples' in the configuration"
            )
        text = read_text(self.path, "save the sheet as TSV or CSV in UTF-8")
        rows = list(split_rows(self.path, text, find_delimiter(text)))
        if not rows:
            raise InputError(f"{self.path}: this sample sheet is empty; its first line must name the columns")
        header = _without_empty_end(rows[0].cells)
        self._check_header(header)
        found = ((line, self._row(line, header, cells)) for line, cells in rows[1:])
        return [(line, row) for line, row in found if row is not None]

    def _check_header(self, header: Iterable[str]) -> None:
        header = list(header)
        if "" in header:
            raise InputError(f"{self.path}: column {header.index('') + 1} has no name; name it or remove it")
        unknown = [name for name in header if name not in self.columns]
        meant = {find_nearest_name(name, self.columns) for name in unknown}
        missing = [name for name in self.required if name not in header and name not in meant]
        problems = [
            f"unknown column '{name}'; did you mean '{find_nearest_name(name, self.columns)}'?"
            for name in unknown
        ]
        problems += [f"the column '{name}' is missing" for name in missing]
        problems += [
            f"the column '{name}' is there twice" for name in {n for n in header if header.count(n) > 1}
        ]
        if problems:
            raise InputError("\n".join(f"{self.path}: {problem}" for problem in problems))

    def _row(self, line: int, header: list[str], cells: list[str]) -> dict[str, str] | None:
        if any(cells[len(header) :]):
            self.add_problem(
                line, f"has {len(cells)} cells for {len(header)} columns; check the tabs or commas"
            )
            return None
        pairs = zip(header, cells, strict=False)
        return {name: cell for name, cell in pairs if cell not in _EMPTY}

    def _check_id(self, line: int, sample: str | None) -> None:
        if sample is None:
            return
        if not self.patterns["sample"].match(sample):
            self.add_problem(line, f"sample '{sample}' {_SAFE_WORDS}")
        if sample.casefold() in RESERVED:
            self.add_problem(line, f"sample '{sample}' is a name of the cohort's own files; rename it")
        # Without regard to capitals, because some file systems have none.
        first = self._lines.setdefault(sample.casefold(), line)
        if first != line:
            self.add_problem(line, f"sample '{sample}' is already on line {first}; give each row its own id")


def _without_empty_end(cells: list[str]) -> list[str]:
    """Return a row without the empty cells at its end, which spreadsheets add."""
    filled = [number for number, cell in enumerate(cells, start=1) if cell]
    return cells[: filled[-1]]
