"""Addresses of files on servers, without their secrets: what is written has none, what opens them has all.

A signed URL carries its signature in the query (``?X-Amz-Signature=...``, ``?sig=...``), others carry a
password before the host. :func:`redact_address` takes both out and keeps them in this process's memory;
:func:`resolve_address` puts them back where a file is opened, and :func:`redact_text` cleans texts.
"""

import atexit
import hashlib
import json
import os
import re
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

ENVIRONMENT = "REGFLOW_ADDRESSES"
"""Environment variable with the file in which a process leaves its addresses to those it starts."""

SCHEMES = r"(?:https?|ftps?|s3|gs|az|adls|abfss?|oss|swift)://"
"""How addresses of files on servers begin, as a pattern."""
_USER = r"(?P<user>[^\s/?#@\"'<>]+@)?"
_END = r"\"'<>{}!|"
_ADDRESS = re.compile(
    rf"(?P<scheme>{SCHEMES}){_USER}(?P<place>[^?{_END}]*)(?P<query>\?[^{_END}]*?)?"
    rf"(?P<rest>(?<=[^/]):[^:/?&=]+)?(?=[{_END}]|$)",
    re.IGNORECASE,
)
"""In what GDAL opens: ``rest`` is a sub-dataset's name, and a path inside an archive follows ``!``."""
_IN_TEXT = re.compile(
    rf"(?P<scheme>{SCHEMES}){_USER}(?P<place>[^\s?{_END}]*)(?P<query>\?[^\s{_END}]*?)?"
    rf"(?=[:;,.)\]]*(?:[\s{_END}]|$))",
    re.IGNORECASE,
)
_CURL_OPTIONS = re.compile(r"/vsicurl\?(?P<options>[^\s\"'<>]*)", re.IGNORECASE)
"""GDAL's other spelling: the URL itself is an option among others."""
_ARCHIVE = re.compile(r"/vsi(zip|tar|gzip|7z|rar)/", re.IGNORECASE)
_SIGNATURE = re.compile(
    r"x-(amz|goog|ms)-.*|awsaccesskeyid|googleaccessid|signature|expires|key-pair-id|policy"
    r"|sig|sv|se|st|sr|ss|srt|sp|spr|sip|skoid|sktid|skt|ske|sks|skv|sdd|scid|ses|rsc[cdelt]"
    r"|(access_?|auth_?|id_?|session_?)?token|api_?key|password|passwd|pwd|secret",
    re.IGNORECASE,
)
"""Parameters that say who asks (S3, Google's storage and CloudFront; Azure; others); all other ones say
what is asked for."""
_SECRET_OPTION = re.compile(r"--\S*(secret|token|password|passwd|access[-_]key|api[-_]key)\S*", re.IGNORECASE)
"""Options of programs whose values say who asks, as those of Snakemake's storage plugins."""
_DIGITS = 8

_kept: dict[str, str] = {}
_copies: dict[str, str] = {}


def redact_address(address: str) -> str:
    """Return an address as it may be written, without query and password; they are kept to open it.

    Where the query also tells one file from another, a short digest of that part follows ``#``; a
    fresh signature of the same file leads to the same address.
    """
    clean = _without_secrets(address)
    if clean != address:
        _kept[clean] = address
    return clean


def resolve_address(address: str) -> str:
    """Return what opens an address that :func:`redact_address` returned, here or in a parent process."""
    if address not in _kept and (file := os.environ.get(ENVIRONMENT)):
        _take_over(Path(file))
    return _kept.get(address, address)


def redact_text(text: str) -> str:
    """Return a text with the queries and passwords taken out of all addresses in it.

    Copies of what lies on a server go by its address.
    """
    for copy, address in list(_copies.items()):
        text = text.replace(copy, address)
    if "://" not in text and "%3a" not in text.lower():
        return text
    shorter = _CURL_OPTIONS.sub("/vsicurl?...", text)
    return _IN_TEXT.sub(lambda found: found["scheme"] + found["place"], shorter)


def redact_command(words: Sequence[str]) -> str:
    """Return a command as it is typed in a shell, without the values of options that hold secrets."""
    clean: list[str] = []
    secret = False
    for word in words:
        # An option may take several values.
        secret = secret and not word.startswith("-")
        name, equals, _ = word.partition("=")
        if _SECRET_OPTION.fullmatch(name):
            secret = not equals
            clean.append(f"{name}=..." if equals else name)
        else:
            clean.append("..." if secret else word)
    return redact_text(shlex.join(clean))


def name_copy(copy: str | Path, address: str) -> None:
    """Let :func:`redact_text` name a file by the address that it was fetched from."""
    _copies[str(copy)] = address


def forget_copy(copy: str | Path) -> None:
    """Take back :func:`name_copy`."""
    _copies.pop(str(copy), None)


def redact_value(value: Any) -> Any:
    """Return :func:`redact_text` of a text, and anything else, finished markup too, as it is."""
    return redact_text(value) if type(value) is str else value


def list_kept_addresses() -> dict[str, str]:
    """Return the addresses with secrets by their public forms, for a worker elsewhere."""
    return dict(_kept)


def keep_addresses(addresses: Mapping[str, str]) -> None:
    """Take over what :func:`list_kept_addresses` returned in another process."""
    _kept.update(addresses)


def export_addresses() -> None:
    """Leave the addresses to processes started from here, in a file that only this user can read.

    It is removed when this process ends.
    """
    if not _kept:
        return
    handle, name = tempfile.mkstemp(prefix="regflow-", suffix=".json")
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        json.dump(_kept, stream)
    atexit.register(Path(name).unlink, missing_ok=True)
    os.environ[ENVIRONMENT] = name


def _take_over(file: Path) -> None:
    try:
        keep_addresses(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        # The process that left it has ended.
        return


def _without_secrets(address: str) -> str:
    options = _CURL_OPTIONS.fullmatch(address)
    if options is not None:
        given = dict(parse_qsl(options["options"]))
        return f"/vsicurl/{_without_secrets(given['url'])}" if "url" in given else address
    if not re.search(SCHEMES, address, re.IGNORECASE):
        return address
    inside = _ARCHIVE.search(address) is not None

    def cleaned(found: re.Match[str]) -> str:
        return found["scheme"] + found["place"] + _told_apart(found["query"], inside) + (found["rest"] or "")

    return _ADDRESS.sub(cleaned, address)


def _told_apart(query: str | None, inside: bool) -> str:
    """Return a digest of what a query asks for; nothing where it only says who asks."""
    if not query:
        return ""
    parts = [part for part in query[1:].split("&") if part]
    if not inside:
        parts = [part for part in parts if not _SIGNATURE.fullmatch(unquote(part).partition("=")[0])]
    # A path inside an archive may follow without a mark: then the whole query counts.
    return "#" + hashlib.sha256("&".join(parts).encode()).hexdigest()[:_DIGITS] if parts else ""
