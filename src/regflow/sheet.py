"""The sample sheet: a TSV or CSV table with one row per moving image."""

import csv
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regflow.core.errors import InputError
from regflow.core.names import SAFE, nearest
from regflow.samples import EXAMPLE, Fixed, Sample, atlas, resolve_example
from regflow.schemas import REQUIRED_COLUMNS, samples_schema

RESERVED = frozenset({"index", "images", "cohort", "cohort.tsv", "cohort.parquet"})
"""Ids that would take the place of the cohort's own files."""

_EMPTY = ("", "n/a")
_HASH_DIGITS = 8
_PATH_COLUMNS = ("moving", "moving_mask", "moving_labels", "moving_landmarks", "fixed_landmarks", "truth")
_FORMS = {
    "volume": "a number from 0, or the UID of a DICOM series",
    "companions": "NAME=PATH;NAME=PATH",
}


class Sheet:
    """One sheet while it is read: rows in, samples and problems out.

    Attributes:
        path: the sheet.
        config: the complete configuration, for its atlases and the default fixed image.
        problems: sentences found so far.
    """

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self.path = path
        self.config = config
        self.problems: list[str] = []
        self.columns = samples_schema()["properties"]
        self.patterns = {
            name: re.compile(entry["pattern"]) for name, entry in self.columns.items() if "pattern" in entry
        }
        self.beside: dict[str, bool] = {}
        self.lines: dict[str, int] = {}
        self.fixed: dict[tuple[str | None, ...], Fixed | None] = {}

    def read(self) -> list[Sample]:
        """Return the samples, in the sheet's order.

        Raises:
            InputError: one sentence for each problem, one to a line.
        """
        found = [self._sample(line, row) for line, row in self._rows()]
        if not found and not self.problems:
            self.problems.append(f"{self.path}: lists no samples; add one row per moving image")
        if self.problems:
            raise InputError("\n".join(self.problems))
        return [sample for sample in found if sample is not None]

    def _rows(self) -> list[tuple[int, dict[str, str]]]:
        if not self.path.is_file():
            raise InputError(
                f"{self.path}: this sample sheet does not exist; correct 'samples' in the configuration"
            )
        try:
            text = self.path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self.path}: not a text file; save the sheet as TSV or CSV in UTF-8"
            ) from error
        lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip() and line[0] != "#"]
        if not lines:
            raise InputError(f"{self.path}: this sample sheet is empty; its first line must name the columns")
        delimiter = "\t" if "\t" in lines[0][1] else ","
        header, *rows = csv.reader((line for _, line in lines), delimiter=delimiter)
        header = [name.strip() for name in header]
        self._check_header(header)
        numbered = zip((number for number, _ in lines[1:]), rows, strict=False)
        return [
            (line, row) for line, cells in numbered if (row := self._row(line, header, cells)) is not None
        ]

    def _check_header(self, header: list[str]) -> None:
        unknown = [name for name in header if name not in self.columns]
        meant = {nearest(name, self.columns) for name in unknown}
        missing = [name for name in REQUIRED_COLUMNS if name not in header and name not in meant]
        problems = [
            f"unknown column '{name}'; did you mean '{nearest(name, self.columns)}'?" for name in unknown
        ]
        problems += [f"the column '{name}' is missing" for name in missing]
        problems += [
            f"the column '{name}' is there twice" for name in {n for n in header if header.count(n) > 1}
        ]
        if problems:
            raise InputError("\n".join(f"{self.path}: {problem}" for problem in problems))

    def _row(self, line: int, header: list[str], cells: list[str]) -> dict[str, str] | None:
        cells = [cell.strip() for cell in cells]
        if len(cells) > len(header) and any(cells[len(header) :]):
            self._problem(line, f"has {len(cells)} cells for {len(header)} columns; check the tabs or commas")
            return None
        pairs = zip(header, cells, strict=False)
        return {name: cell for name, cell in pairs if cell not in _EMPTY}

    def _sample(self, line: int, row: dict[str, str]) -> Sample | None:
        before = len(self.problems)
        for name in REQUIRED_COLUMNS:
            if name not in row:
                self._problem(line, f"the cell '{name}' is empty; fill it in")
        self._check_id(line, row.get("sample"))
        for name in ("volume", "companions"):
            if name in row and not self.patterns[name].match(row[name]):
                self._problem(line, f"{name} is '{row[name]}', but must be {_FORMS[name]}")
        fixed = self._fixed(line, row)
        companions = self._companions(line, row.get("companions", ""))
        paths = {name: self._path(line, row.get(name)) for name in _PATH_COLUMNS}
        if len(self.problems) > before or fixed is None:
            return None
        volume = row.get("volume")
        return Sample(
            sample=row["sample"],
            moving=str(paths["moving"]),
            fixed=fixed,
            moving_mask=paths["moving_mask"],
            moving_labels=paths["moving_labels"],
            moving_landmarks=paths["moving_landmarks"],
            fixed_landmarks=paths["fixed_landmarks"] or fixed.landmarks,
            companions=companions,
            modality=row.get("modality"),
            volume=int(volume) if volume is not None and volume.isdigit() else volume,
            group=row.get("group"),
            session=row.get("session"),
            truth=paths["truth"],
        )

    def _check_id(self, line: int, sample: str | None) -> None:
        if sample is None:
            return
        if not self.patterns["sample"].match(sample):
            self._problem(
                line, f"sample '{sample}' may hold only letters, digits, '.', '_', '+' and '-'; rename it"
            )
        if sample.casefold() in RESERVED:
            self._problem(line, f"sample '{sample}' is a name of the cohort's own files; rename it")
        # Without regard to capitals, because some file systems have none.
        first = self.lines.setdefault(sample.casefold(), line)
        if first != line:
            self._problem(line, f"sample '{sample}' is already on line {first}; give each row its own id")

    def _fixed(self, line: int, row: Mapping[str, str]) -> Fixed | None:
        """Return the row's fixed image; equal cells give one and the same."""
        cells = (row.get("fixed") or self.config["fixed"], row.get("fixed_mask"), row.get("fixed_labels"))
        if cells not in self.fixed:
            self.fixed[cells] = self._new_fixed(line, *cells)
        found = self.fixed[cells]
        if found is None and not self.problems:
            self._problem(line, "its fixed image is in error")
        return found

    def _new_fixed(self, line: int, image: str | None, mask: str | None, labels: str | None) -> Fixed | None:
        if image is None:
            self._problem(
                line, "names no fixed image; fill in the column or set 'fixed' in the configuration"
            )
            return None
        atlases = self.config["atlases"]
        suffix = hashlib.sha256("|".join((image, mask or "", labels or "")).encode()).hexdigest()[
            :_HASH_DIGITS
        ]
        try:
            base = atlas(self.config, image) if image in atlases else None
        except InputError as error:
            self.problems.append(f"atlas '{image}': {error}")
            return None
        if base is None and not image.startswith(EXAMPLE) and not re.search(r"[/\\.]", image):
            near = f"; did you mean '{nearest(image, atlases)}'?" if atlases else "; add it to 'atlases'"
            self._problem(line, f"the configuration has no atlas '{image}'{near}")
            return None
        own = {"mask": self._path(line, mask), "labels": self._path(line, labels)}
        if base is not None:
            if mask is None and labels is None:
                return base
            return Fixed(
                f"{base.name}-{suffix}",
                base.image,
                own["mask"] or base.mask,
                own["labels"] or base.labels,
                base.landmarks,
                base.modality,
            )
        stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(image).name.split(".")[0]).strip("-") or "fixed"
        return Fixed(f"{stem}-{suffix}", str(self._path(line, image)), own["mask"], own["labels"])

    def _companions(self, line: int, cell: str) -> dict[str, str]:
        companions: dict[str, str] = {}
        for part in filter(None, (part.strip() for part in cell.split(";"))):
            name, _, text = (piece.strip() for piece in part.partition("="))
            path = self._path(line, text or None)
            if not re.match(SAFE, name):
                self._problem(
                    line,
                    f"companion '{name}' may hold only letters, digits, '.', '_', '+' and '-'; rename it",
                )
            elif name in companions:
                self._problem(line, f"companion '{name}' is named twice; rename one")
            elif path is not None:
                companions[name] = path
        return companions

    def _path(self, line: int, text: str | None) -> str | None:
        if text is None:
            return None
        try:
            text = resolve_example(text)
        except InputError as error:
            self._problem(line, str(error))
            return None
        first = Path(text).parts[0]
        if first not in self.beside:
            # One look per first folder, not per file: a network disk would be slow for thousands.
            self.beside[first] = (self.path.parent / first).exists()
        return str(self.path.parent / text) if self.beside[first] else text

    def _problem(self, line: int, sentence: str) -> None:
        self.problems.append(f"{self.path}, line {line}: {sentence}")
