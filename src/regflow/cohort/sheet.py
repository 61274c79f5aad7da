"""A sample sheet of any kind of image: a TSV or CSV table with one row per moving image."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from regflow.cohort.examples import EXAMPLE, resolve_example
from regflow.cohort.table import Table
from regflow.core.addresses import redact_address
from regflow.core.errors import InputError
from regflow.core.json_schema import Schema
from regflow.core.names import find_nearest_name
from regflow.io.text_files import write_tsv

Sampled = TypeVar("Sampled")
FixedImage = TypeVar("FixedImage")

SheetRow = Mapping[str, str]

PAIRS = "NAME=PATH;NAME=PATH"
"""The form of cells that name several files."""

_HASH_DIGITS = 8


@dataclass(frozen=True)
class SheetKind(Generic[Sampled, FixedImage]):
    """What a kind of image has of its own in a sheet.

    Attributes:
        schema: of a row.
        forms: what a cell must be, in words, by column with a pattern.
        image: what an image is called: ``image``, ``scene``.
        named: the section of the configuration that names fixed images.
        noun: what one of them is called.
        path_marks: characters by which a path is told from a name.
        fixed_columns: what else a row may say of its fixed image.
        path_columns: those with the path of one file.
        locate: the path behind a cell; gets a function that looks a path up from the sheet's folder.
        named_fixed: the fixed image of a name in the configuration.
        make_fixed: a fixed image with a name of its own from the sheet, the one it builds on (or the cell
            with its path), and the cells of ``fixed_columns``.
        make_sample: a sample from the sheet, its line, its row and its fixed image.
    """

    schema: Schema
    forms: Mapping[str, str]
    image: str
    named: str
    noun: str
    path_marks: str
    fixed_columns: Sequence[str]
    path_columns: Sequence[str]
    locate: Callable[[str, Callable[[str], str]], str]
    named_fixed: Callable[[Mapping[str, Any], str], FixedImage]
    make_fixed: Callable[
        ["Sheet[Sampled, FixedImage]", int, str, FixedImage | str, Sequence[str | None]], FixedImage
    ]
    make_sample: Callable[["Sheet[Sampled, FixedImage]", int, SheetRow, FixedImage], Sampled]


class Sheet(Generic[Sampled, FixedImage]):
    """One sheet while it is read: rows in, samples and problems out.

    Attributes:
        table: the rows.
        config: the complete configuration, for its named fixed images and the default one.
        kind: of the images.
    """

    def __init__(self, config: Mapping[str, Any], kind: SheetKind[Sampled, FixedImage]) -> None:
        self.table = Table(Path(config["samples"]), kind.schema, kind.forms)
        self.config = config
        self.kind = kind
        self._fixed: dict[tuple[str | None, ...], FixedImage | None] = {}
        self._located: dict[str, str] = {}

    def read(self) -> list[Sampled]:
        """Return the samples, in the sheet's order.

        Raises:
            InputError: one sentence for each problem, one to a line.
        """
        return self.table.read(self._sample)

    def write_located(self, target: str | Path) -> None:
        """Write the sheet with its paths as the samples have them, so that it may be read from elsewhere.

        Paths are then as seen from the working directory, and addresses have no secrets.

        Raises:
            InputError: as :meth:`read`.
        """
        self.read()
        rows = [row for _, row in self.table.read_rows()]
        columns = [name for name in self.table.columns if any(name in row for row in rows)]
        table = [[self._located_cell(name, row.get(name, "")) for name in columns] for row in rows]
        write_tsv(target, columns, table)

    def _located_cell(self, column: str, cell: str) -> str:
        if column in self.kind.path_columns:
            return redact_address(self._located.get(cell, cell))
        if self.kind.forms.get(column) == PAIRS:
            pairs = self.table.parse_pairs(0, cell).items()
            return ";".join(f"{name}={redact_address(self._located.get(text, text))}" for name, text in pairs)
        return cell

    def parse_companions(self, line: int, cell: str) -> dict[str, str]:
        """Return the paths of ``NAME=PATH;NAME=PATH``."""
        paths = {
            name: self.locate_cell(line, text or None)
            for name, text in self.table.parse_pairs(line, cell).items()
        }
        return {name: path for name, path in paths.items() if path is not None}

    def locate_cell(self, line: int, text: str | None) -> str | None:
        """Return the path of a cell; None for an empty one, or one with a problem."""
        if text is None:
            return None
        try:
            found = self.kind.locate(resolve_example(text), self.table.resolve_path)
        except InputError as error:
            self.table.add_problem(line, str(error))
            return None
        self._located[text] = text if text.startswith(EXAMPLE) else found
        return found

    def _sample(self, line: int, row: SheetRow) -> Sampled | None:
        # What is made of a row reads its cells, which therefore have their form.
        sound = all(self.table.patterns[name].match(row[name]) for name in self.kind.forms if name in row)
        fixed = self._fixed_of(line, row) if sound else None
        if fixed is None or "sample" not in row:
            self._look_at_paths(line, row)
            return None
        return self.kind.make_sample(self, line, row, fixed)

    def _fixed_of(self, line: int, row: SheetRow) -> FixedImage | None:
        """Return the row's fixed image; equal cells give one and the same."""
        cells = (row.get("fixed") or self.config["fixed"], *map(row.get, self.kind.fixed_columns))
        if cells not in self._fixed:
            self._fixed[cells] = self._new_fixed(line, *cells)
        found = self._fixed[cells]
        if found is None and not self.table.problems:
            self.table.add_problem(line, f"its fixed {self.kind.image} is in error")
        return found

    def _new_fixed(self, line: int, image: str | None, *cells: str | None) -> FixedImage | None:
        if image is None:
            self.table.add_problem(
                line,
                f"names no fixed {self.kind.image}; fill in the column or set 'fixed' in the configuration",
            )
            return None
        known = self.config[self.kind.named]
        is_path = image.startswith(EXAMPLE) or any(mark in image for mark in self.kind.path_marks)
        if image not in known and not is_path:
            named, noun = self.kind.named, self.kind.noun
            near = (
                f"; did you mean '{find_nearest_name(image, known)}'?" if known else f"; add it to '{named}'"
            )
            self.table.add_problem(line, f"the configuration has no {noun} '{image}'{near}")
            return None
        try:
            base = self.kind.named_fixed(self.config, image) if image in known else None
        except InputError as error:
            self.table.problems.append(f"{self.kind.noun} '{image}': {error}")
            return None
        if base is not None and not any(cells):
            return base
        digest = hashlib.sha256("|".join([image, *(cell or "" for cell in cells)]).encode()).hexdigest()
        stem = image if base else re.sub(r"[^A-Za-z0-9]+", "-", Path(image).name.split(".")[0]).strip("-")
        name = f"{stem or 'fixed'}-{digest[:_HASH_DIGITS]}"
        return self.kind.make_fixed(self, line, name, base if base is not None else image, cells)

    def _look_at_paths(self, line: int, row: SheetRow) -> None:
        """Note what is wrong with the cells of a row of which nothing can be made."""
        self.locate_cell(line, row.get("moving"))
        for name, form in self.kind.forms.items():
            if form == PAIRS:
                self.parse_companions(line, row.get(name, ""))
