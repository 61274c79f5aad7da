"""Sections of a stack: which files, in which order, and which numbers are skipped."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regflow.cohort.tiles import list_tile_files
from regflow.core.errors import InputError
from regflow.io.rasters import list_tiff_pages
from regflow.io.text_files import find_beside, read_named_cells

COLUMNS = ("section", "number")
MOST_GAP = 50
"""Sections in a row that numbers may skip; more are another numbering."""


def list_stack_inputs(settings: Mapping[str, Any]) -> list[str]:
    """Return the files that a stack of the section ``stack`` is made of; none where none are named."""
    named = [settings["table"], settings["reference"]]
    files = list_tile_files(settings["sections"]) if settings["sections"] else []
    if settings["table"] is not None:
        files += [file for _, file in _read_table(Path(settings["table"])) if Path(file).exists()]
    return [*(str(file) for file in named if file is not None), *files]


def list_section_files(sources: Sequence[str], table: str | None = None) -> dict[str, str | None]:
    """Return the file of each section by its name, in order; None for numbers that are skipped.

    Args:
        sources: files, folders and patterns, or one TIFF with several pages; not read where a table is given.
        table: CSV or TSV with the columns section and perhaps number.

    Raises:
        InputError: nothing is there, or a table is wrong.
    """
    if table is not None:
        rows = _read_table(Path(table))
        files = [file for _, file in rows]
        return _add_skipped(_name_files(files), files, [number for number, _ in rows], "number ")
    files = list_tile_files(sources)
    if len(files) == 1:
        pages = list_tiff_pages(files[0])
        if not pages:
            raise InputError(f"{files[0]}: one section is no stack; name two or more, or a TIFF with pages")
        width = len(str(len(pages)))
        return {f"page{number:0{width}d}": page for number, page in enumerate(pages, start=1)}
    names = _name_files(files)
    parts = [re.fullmatch(r"(.*?)(\d+)(\D*)", name) for name in names]
    known = [part for part in parts if part is not None]
    if len(known) < len(names) or len({(part[1], part[3]) for part in known}) > 1:
        return dict(zip(names, files, strict=True))
    first = known[0]
    width = len(first[2]) if first[2].startswith("0") else 0
    return _add_skipped(names, files, [int(part[2]) for part in known], first[1], width, first[3])


def _name_files(files: Sequence[str]) -> list[str]:
    names = [Path(file).stem for file in files]
    return names if len(set(names)) == len(names) else [str(Path(file)) for file in files]


def _add_skipped(
    names: Sequence[str],
    files: Sequence[str],
    numbers: Sequence[int | None],
    head: str,
    width: int = 0,
    tail: str = "",
) -> dict[str, str | None]:
    """Return files by name with None for each number that is skipped in an even numbering.

    A skipped section is named by ``head``, its number with at least ``width`` digits, and ``tail``.
    """
    found: dict[str, str | None] = dict(zip(names, files, strict=True))
    known = [number for number in numbers if number is not None]
    steps = np.diff(known)
    if len(known) < len(names) or not len(steps) or not (steps > 0).all():
        return found
    step, _ = Counter(steps.tolist()).most_common(1)[0]
    if (steps % step).any() or steps.max() > MOST_GAP * step:
        return found
    by_number = dict(zip(known, names, strict=True))
    whole = range(known[0], known[-1] + 1, step)
    listed = [by_number.get(number, f"{head}{number:0{width}d}{tail}") for number in whole]
    return {name: found.get(name) for name in listed}


def _read_table(path: Path) -> list[tuple[int | None, str]]:
    """Return the number, None without one, and the file of each row, by number."""
    header, rows = read_named_cells(path, "table of sections")
    if "section" not in header or len(rows) < 2:
        raise InputError(f"{path}: needs the column section, perhaps number, and two rows or more")
    found: list[tuple[int | None, str]] = []
    for line, row in rows:
        file, number = row.get("section", ""), row.get("number", "")
        if not file:
            raise InputError(f"{path}, line {line}: the cell 'section' is empty; fill it in")
        if number and not re.fullmatch(r"\d+", number):
            raise InputError(f"{path}, line {line}: number is '{number}', but must be a whole number")
        found.append((int(number) if number else None, find_beside(path, file)))
    numbers = [number for number, _ in found if number is not None]
    if numbers and (len(numbers) < len(found) or len(set(numbers)) < len(numbers)):
        raise InputError(f"{path}: numbers are missing or stand twice; give each section one of its own")
    return sorted(found, key=lambda row: row[0] or 0)
