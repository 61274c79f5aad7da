"""Text that people and other programs write: its encoding, the rows of a table, JSON."""

import csv
import io
import json
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from regflow.core.errors import InputError
from regflow.core.files import write_whole

log = logging.getLogger(__name__)

DELIMITERS = "\t,;"
"""What may stand between the cells of a table, likeliest first; some countries' spreadsheets write ``;``."""

_MARKED = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_UNMARKED = ("utf-8", "cp1252")
"""Windows-1252 holds all printable characters of Latin-1, and is what spreadsheets mean by it."""
_BREAK = re.compile(r"\s*\n\s*")
_NO_TEXT = re.compile("[\x00-\x08\x0e-\x1f\ufeff\ufffe\uffff]")
"""Control characters, and marks that can only begin a file or stand nowhere."""
_PRINTABLE = re.compile(r"[\n -~]")
"""No table, no JSON and no YAML is without any of these; other bytes may pass for UTF-16."""


class TableRow(NamedTuple):
    """The cells of a table's row, and the line of the file on which it begins."""

    line: int
    cells: list[str]


def read_text(path: str | Path, remedy: str) -> str:
    """Read a text in UTF-8, in UTF-16 with a byte order mark, or else in Windows-1252, which is logged.

    Args:
        path: the file.
        remedy: what to do about a file that is no text, as ``save it as CSV``.

    Raises:
        InputError: the file cannot be opened or is not text.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror}); correct the path") from error
    marked = next((name for mark, name in _MARKED.items() if content.startswith(mark)), None)
    for encoding in (marked,) if marked else _UNMARKED:
        text = _decoded(content, encoding)
        if text is None or _NO_TEXT.search(text) or (text and not _PRINTABLE.search(text)):
            continue
        if encoding == _UNMARKED[-1]:
            log.warning(
                "%s: not UTF-8, so read as Windows-1252 (Latin-1); save it as UTF-8 if letters are wrong",
                path,
            )
        return text
    raise InputError(f"{path}: not a text file; {remedy}")


def split_rows(path: str | Path, text: str, delimiter: str) -> Iterator[TableRow]:
    """Yield the rows of a table; empty ones, and lines that begin with ``#``, are left out.

    Cells may stand in double quotes, and then hold delimiters and line breaks; the latter become spaces.
    Spaces around a cell go.

    Raises:
        InputError: a quotation mark stands where none may, or a cell has no end.
    """
    lines = enumerate(io.StringIO(text, newline=None), start=1)
    for number, line in lines:
        if line.startswith("#") or not line.strip():
            continue
        # A reader per row: only where a row begins is '#' a comment.
        reader = csv.reader(chain([line], (more for _, more in lines)), delimiter=delimiter, strict=True)
        try:
            cells = [_BREAK.sub(" ", cell.strip()) for cell in next(reader)]
        except csv.Error as error:
            raise InputError(
                f"{path}, line {number}: not a row of a table ({error}); check its quotation marks"
            ) from error
        if any(cells):
            yield TableRow(number, cells)


def read_named_cells(path: Path, what: str) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return a table's columns, in lower case, and of each row below them its line and its cells by column.

    Args:
        path: the file.
        what: it is, for messages: ``table of tiles``.

    Raises:
        InputError: it is not there, or no text, or a quotation mark is misplaced.
    """
    if not path.is_file():
        raise InputError(f"{path}: this {what} does not exist; correct the path")
    text = read_text(path, "save the table as TSV or CSV in UTF-8")
    rows = list(split_rows(path, text, find_delimiter(text)))
    header = [cell.lower() for cell in rows[0].cells] if rows else []
    return header, [(line, dict(zip(header, cells, strict=False))) for line, cells in rows[1:]]


def find_beside(path: Path, file: str) -> str:
    """Return a file that a table names: beside the table where it is there, else as it is named."""
    beside = path.parent / file
    return str(beside if beside.exists() else file)


def write_tsv(path: str | Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table with tabs between its cells, whole or not at all; None is an empty cell.

    Args:
        path: the file.
        columns: the first line.
        rows: the others, each with a cell for every column.
    """
    with write_whole(path) as part, part.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, delimiter="\t", lineterminator="\n").writerows([columns, *rows])


def find_delimiter(text: str) -> str:
    """Return what stands between the cells of a table: most often in its first row."""
    lines = (line for line in io.StringIO(text, newline=None) if line.strip() and line[0] != "#")
    header = next(lines, "").strip()
    return max(DELIMITERS, key=header.count)


def parse_number(cell: str) -> float:
    """Return the number in a cell.

    Raises:
        ValueError: it is none; ``1_000`` is one to Python, but may be meant as anything.
    """
    if "_" in cell:
        raise ValueError(f"'{cell}' is not a number")
    return float(cell)


def parse_json(path: str | Path, text: str, remedy: str) -> Any:
    """Return the content of a JSON text.

    Args:
        path: the file, for messages.
        text: its content.
        remedy: what to do about a file that is not JSON.

    Raises:
        InputError: it is not JSON, or nested deeper than any file of use.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error}); {remedy}") from error


def _decoded(content: bytes, encoding: str) -> str | None:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        return None
