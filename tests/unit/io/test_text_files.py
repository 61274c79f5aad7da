"""Text that people write: any encoding, rows of a table, JSON."""

import pytest

from regflow.core.errors import InputError
from regflow.io.text_files import (
    find_delimiter,
    parse_json,
    parse_number,
    read_text,
    split_rows,
    write_tsv,
)

TEXT = "name,group\nAC,contrôle\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_every_encoding_that_programs_save_in_is_read(tmp_path, encoding):
    (tmp_path / "a.csv").write_bytes(TEXT.encode(encoding))
    assert read_text(tmp_path / "a.csv", "save it") == TEXT


@pytest.mark.parametrize("mark", ["big", "little"])
def test_utf_16_of_either_order_is_read(tmp_path, mark):
    order = f"utf-16-{mark[0]}e"
    (tmp_path / "a.csv").write_bytes(("\ufeff" + TEXT).encode(order))
    assert read_text(tmp_path / "a.csv", "save it") == TEXT


def test_a_guess_at_the_encoding_is_logged(tmp_path, caplog):
    (tmp_path / "a.csv").write_bytes(TEXT.encode("latin-1"))
    read_text(tmp_path / "a.csv", "save it")
    assert "not UTF-8, so read as Windows-1252" in caplog.text


@pytest.mark.parametrize(
    "content", [b"\x00\x01\x02", b"\x89PNG\r\n\x1a\n\xff", b"\xff\xfea", b"\xff\xfe\x00x", b"caf\xe9 \x81"]
)
def test_what_is_no_text_is_refused(tmp_path, content):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InputError, match="not a text file; save it"):
        read_text(tmp_path / "a.csv", "save it")


def test_what_cannot_be_opened_is_told(tmp_path):
    for path in (tmp_path, tmp_path / "none", tmp_path / ("a" * 300)):
        with pytest.raises(InputError, match="cannot be opened"):
            read_text(path, "save it")


def rows(text: str, delimiter: str = ",") -> list[tuple[int, list[str]]]:
    return [tuple(row) for row in split_rows("a.csv", text, delimiter)]


def test_rows_know_their_lines_whatever_stands_between():
    text = '# it\'s, "a comment\r\nname,note\r\n\r\n"a, b","two\r\nlines"\n#,"\n,,\n c , "d"\n'
    assert rows(text) == [(2, ["name", "note"]), (4, ["a, b", "two lines"]), (8, ["c", '"d"'])]
    assert rows("a,b\rc,d\r") == [(1, ["a", "b"]), (2, ["c", "d"])]


def test_characters_that_unicode_calls_line_breaks_are_none():
    assert rows("a\x85b,c\u2028d\n") == [(1, ["a\x85b", "c\u2028d"])]


@pytest.mark.parametrize("text", ['a,"b\nc,d\ne,f\n', 'a,"b"c\n', f"a,{'b' * 200_000}\n"])
def test_a_cell_without_an_end_does_not_swallow_the_table(text):
    with pytest.raises(InputError, match="line 2: not a row of a table"):
        rows("name,note\n" + text)


@pytest.mark.parametrize(
    ("header", "delimiter"),
    [
        ("a\tb\tc", "\t"),
        ("a,b", ","),
        ("a;b;c", ";"),
        ("a,b\t\t\t", ","),
        ("a;b\n1,5;2,5", ";"),
        ("# a;b\na,b", ","),
    ],
)
def test_the_first_row_tells_the_delimiter(header, delimiter):
    assert find_delimiter(header + "\n") == delimiter


def test_numbers_are_those_of_tables():
    assert parse_number("-1.5e3") == -1500
    for cell in ("1_000", "1,5", "", "x"):
        with pytest.raises(ValueError, match=r"not a number|could not convert"):
            parse_number(cell)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "9" * 5000, ""])
def test_what_is_no_json_is_refused(text):
    with pytest.raises(InputError, match="not valid JSON"):
        parse_json("a.json", text, "save it again")


def test_a_table_that_is_written_is_read_back(tmp_path):
    path = tmp_path / "a.tsv"
    write_tsv(path, ["name", "value"], [["contrôle\t1", None], ['a "b"', 0.5]])
    text = path.read_text(encoding="utf-8")
    assert text.splitlines()[0] == "name\tvalue"
    assert [row.cells for row in split_rows(path, text, "\t")] == [
        ["name", "value"],
        ["contrôle\t1", ""],
        ['a "b"', "0.5"],
    ]
