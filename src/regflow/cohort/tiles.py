"""Tiles of a mosaic: which files, and what their names or a table say about where they lie."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regflow.core.errors import InputError
from regflow.core.files import list_visible_files
from regflow.io.text_files import find_beside, read_named_cells

SUFFIXES = frozenset((".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2", ".bmp", ".vrt", ".img"))
"""What is taken from a folder."""
COLUMNS = ("tile", "x", "y", "channel")
KNOWN_NAMES = {
    "rows and columns as of MIST (r001_c002)": re.compile(r"r(?P<row>\d+)[_-]?c(?P<column>\d+)", re.I),
    "columns and rows as of Micro-Manager (Pos_002_001)": re.compile(
        r"pos[_-]?(?P<column>\d{3})_(?P<row>\d{3})", re.I
    ),
    "rows and columns (001_002)": re.compile(r"(?P<row>\d+)_(?P<column>\d+)(?=$|[._])"),
}
"""Ways of naming tiles that are looked for where no pattern is given."""
_FIELDS = {
    **dict.fromkeys(("row", "r"), "row"),
    **dict.fromkeys(("column", "col", "c"), "column"),
    **dict.fromkeys(("channel", "ch"), "channel"),
    "x": "x",
    "y": "y",
}
_FORMS = {
    "row": r"\d+",
    "column": r"\d+",
    "x": r"-?\d+(?:\.\d+)?",
    "y": r"-?\d+(?:\.\d+)?",
    "channel": r"\w+?",
}


@dataclass(frozen=True)
class Tile:
    """One place of a mosaic.

    Attributes:
        name: its own, for messages and tables: the first channel's file.
        files: one for each channel.
        position: ``(x, y)`` as stated, None where nothing is.
        place: row and column, None where none are known.
    """

    name: str
    files: tuple[str, ...]
    position: tuple[float, float] | None = None
    place: tuple[int, int] | None = None


@dataclass(frozen=True)
class TileSet:
    """The tiles of a mosaic.

    Attributes:
        tiles: in the order of their names.
        channels: names of the files of each tile; empty for one without a name.
        source: how places were found, in words.
        problems: sentences on what was left out.
    """

    tiles: tuple[Tile, ...]
    channels: tuple[str, ...]
    source: str
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class _File:
    """A file and what is known of its place."""

    path: str
    fields: Mapping[str, str]


def find_tiles(
    sources: Sequence[str | Path], pattern: str | None = None, table: str | Path | None = None
) -> TileSet:
    """Return the tiles that files, folders and patterns of files name.

    Args:
        sources: files, folders, or patterns such as ``scan/*.tif``.
        pattern: of the files' names, with ``{row}`` and ``{column}`` or ``{x}`` and ``{y}``, perhaps
            ``{channel}``; a format as of ``{row:03}`` makes no difference. Known ways are looked for
            without one.
        table: CSV or TSV with the columns tile, x, y and perhaps channel; of ``sources``, those that it
            lists are taken, and its own where there are none.

    Raises:
        InputError: there is no tile, the table or the pattern is wrong, or no file fits the pattern.
    """
    if table is not None:
        return _group_files(_read_table(Path(table)), f"positions of {table}")
    files = list_tile_files(sources)
    if pattern is not None:
        expression = compile_pattern(pattern)
        found = [
            _File(file, match.groupdict()) for file in files if (match := expression.search(_stem(file)))
        ]
        if not found:
            raise InputError(f"{files[0]}: no tile's name is as the pattern '{pattern}' says; correct it")
        left = [f"{file}: is not named as '{pattern}' says, and was left out" for file in files]
        taken = {each.path for each in found}
        problems = tuple(line for line, file in zip(left, files, strict=True) if file not in taken)
        return _group_files(found, f"names as {pattern}", problems)
    for words, expression in KNOWN_NAMES.items():
        # Micro-Manager names folders so, and the files in them all alike.
        matches = [list(expression.finditer(f"{Path(file).parent.name}/{_stem(file)}")) for file in files]
        if len(files) > 1 and all(matches):
            named = [_File(file, each[-1].groupdict()) for file, each in zip(files, matches, strict=True)]
            if len({tuple(sorted(each.fields.items())) for each in named}) == len(named):
                return _group_files(named, words)
    return TileSet(tuple(Tile(Path(file).name, (file,)) for file in files), (), "no positions")


def list_tile_inputs(settings: Mapping[str, Any]) -> list[str]:
    """Return the files that a mosaic of the section ``mosaic`` is made of; none where none are named."""
    if settings["table"] is not None:
        found = find_tiles(settings["tiles"], settings["pattern"], settings["table"])
        files = [file for tile in found.tiles for file in tile.files if Path(file).exists()]
        return [str(settings["table"]), *files]
    return list_tile_files(settings["tiles"]) if settings["tiles"] else []


def list_tile_files(sources: Sequence[str | Path]) -> list[str]:
    """Return the files that paths, folders and patterns name, each once, in natural order.

    Raises:
        InputError: something named is not there, or there is no file at all.
    """
    found: list[str] = []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            found += _list_folder(path)
        elif any(mark in str(source) for mark in "*?["):
            folder = Path(path.anchor) if path.is_absolute() else Path()
            relative = path.relative_to(path.anchor) if path.is_absolute() else path
            found += [str(file) for file in folder.glob(str(relative)) if file.is_file()]
        elif path.exists():
            found.append(str(path))
        else:
            raise InputError(f"{source}: this tile does not exist; correct the path")
    if not found:
        raise InputError(
            f"{', '.join(map(str, sources))}: no tiles are there; name files, folders or patterns"
        )
    return sorted(dict.fromkeys(found), key=_split_numbers)


def _list_folder(folder: Path) -> list[str]:
    """Return the pictures of a folder, or of the folders in it where it holds none itself."""
    files = [file for file in list_visible_files(folder) if file.suffix.lower() in SUFFIXES]
    own = [file for file in files if file.parent == folder]
    return [str(file) for file in own or files]


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Return the expression for the names that a pattern with fields in braces describes.

    Raises:
        InputError: a field is unknown or stands twice, or those of a place are missing.
    """
    text, names = "", []
    for literal, field in re.findall(r"([^{}]*)(\{[^{}]*\})?", _stem(pattern)):
        text += re.escape(literal)
        if field:
            word = field[1:-1].partition(":")[0].strip().lower()
            if word not in _FIELDS or _FIELDS[word] in names:
                known = ", ".join(f"{{{name}}}" for name in ("row", "column", "x", "y", "channel"))
                raise InputError(f"the pattern '{pattern}' has the field {field}; it may have, once, {known}")
            names.append(_FIELDS[word])
            text += f"(?P<{_FIELDS[word]}>{_FORMS[_FIELDS[word]]})"
    if not ({"row", "column"} <= set(names) or {"x", "y"} <= set(names)):
        raise InputError(
            f"the pattern '{pattern}' says no place; it needs {{row}} and {{column}}, or {{x}} and {{y}}"
        )
    return re.compile(f"^{text}$", re.IGNORECASE)


def _group_files(files: Iterable[_File], source: str, problems: tuple[str, ...] = ()) -> TileSet:
    """Return tiles with a file for each channel; those of another set of channels are left out."""
    groups: dict[tuple[str, ...], dict[str, _File]] = {}
    notes = list(problems)
    for file in files:
        key = tuple(file.fields.get(name, "") for name in ("row", "column", "x", "y"))
        channel = file.fields.get("channel", "")
        group = groups.setdefault(key, {})
        if channel in group:
            other = Path(group[channel].path).name
            notes.append(f"{file.path}: lies in the same place as {other}, and was left out")
        else:
            group[channel] = file
    sets = [tuple(sorted(group)) for group in groups.values()]
    usual = max(sorted(set(sets)), key=lambda each: (sets.count(each), len(each)))
    tiles = []
    for key, group in groups.items():
        if tuple(sorted(group)) == usual:
            tiles.append(_make_tile(key, [group[channel].path for channel in usual]))
        else:
            first = group[min(group)].path
            has = ", ".join(sorted(name or "none" for name in group))
            wanted = ", ".join(name or "none" for name in usual)
            notes.append(f"{first}: has the channels {has} where most tiles have {wanted}; it was left out")
    tiles.sort(key=lambda tile: _split_numbers(tile.files[0]))
    return TileSet(tuple(_name_apart(tiles)), tuple(name for name in usual if name), source, tuple(notes))


def _make_tile(key: tuple[str, ...], files: list[str]) -> Tile:
    row, column, x, y = key
    return Tile(
        Path(files[0]).name,
        tuple(files),
        (float(x), float(y)) if x and y else None,
        (int(row), int(column)) if row and column else None,
    )


def _name_apart(tiles: Sequence[Tile]) -> list[Tile]:
    """Return tiles under their whole paths where names of files are not their own."""
    names = [tile.name for tile in tiles]
    if len(set(names)) == len(names):
        return list(tiles)
    return [Tile(tile.files[0], tile.files, tile.position, tile.place) for tile in tiles]


def _read_table(path: Path) -> list[_File]:
    header, rows = read_named_cells(path, "table of tiles")
    if not rows:
        raise InputError(f"{path}: lists no tiles; its first line names the columns tile, x and y")
    missing = [name for name in COLUMNS[:3] if name not in header]
    if missing:
        raise InputError(f"{path}: the column '{missing[0]}' is missing; it needs tile, x and y")
    return [_read_row(path, line, cells) for line, cells in rows]


def _read_row(path: Path, line: int, cells: Mapping[str, str]) -> _File:
    for name in COLUMNS[:3]:
        if not cells.get(name):
            raise InputError(f"{path}, line {line}: the cell '{name}' is empty; fill it in")
    for name in ("x", "y"):
        try:
            float(cells[name])
        except ValueError:
            raise InputError(
                f"{path}, line {line}: {name} is '{cells[name]}', but must be a number"
            ) from None
    fields = {name: cells[name] for name in ("x", "y", "channel") if cells.get(name)}
    return _File(find_beside(path, cells["tile"]), fields)


def _stem(path: str | Path) -> str:
    """Return a name without its ending."""
    name = Path(path).name
    return name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in SUFFIXES else name


def _split_numbers(text: str) -> tuple[tuple[int, str], ...]:
    """Return a key that sorts numbers within names by size."""
    parts = re.findall(r"\d+|\D+", text)
    return tuple((int(part), part) if part.isdigit() else (-1, part) for part in parts)
