"""Names that GDAL opens: files, sub-datasets, members of archives; and the local file behind each."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

_FORMS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        # KIND:FILE:PART
        r'((?:netcdf|hdf5|hdf4_eos:eos_grid|hdf4_sds|gpkg|sentinel2_l\w+):"?)(.+?)("?:[^:]+)',
        # KIND:PART:FILE
        r'((?:gtiff_dir:(?:off:)?\d+|derived_subdataset:\w+|nitf_im:\d+):"?)(.+?)("?)',
        # A member of an archive, as an address and in GDAL's own way.
        r"((?:zip|tar|gzip)(?:\+file)?://)([^!]+)((?:!.*)?)",
        r"(/vsi(?:zip|tar|gzip)/\{)([^}]+)(\}.*)",
        r"(/vsi(?:zip|tar|gzip)/)(.+?\.(?:zip|tar|tgz|tar\.gz|gz))((?:/.*)?)",
    )
)
"""What stands before the file, the file, what stands after it."""
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*://|/vsi", re.IGNORECASE)
_MEMBER = re.compile(r"(zip|tar|gzip)(?:\+file)?://([^!]+)!/*(.+)", re.IGNORECASE)


def find_local_file(name: str) -> Path | None:
    """Return the file on this machine behind what GDAL opens; None for one that lies elsewhere."""
    _, file, _ = _parts(name)
    return None if _ELSEWHERE.match(file) else Path(file)


def relocate_name(name: str, beside: Callable[[str], Any]) -> str:
    """Return what GDAL opens with its file looked up by ``beside(path) -> path``."""
    before, file, after = _parts(name)
    return name if _ELSEWHERE.match(file) else f"{before}{beside(file)}{after}"


def format_gdal_name(name: str) -> str:
    """Return a name as GDAL takes it: rasterio's ``zip://FILE!MEMBER`` wants whole paths of files."""
    member = _MEMBER.fullmatch(name)
    if member is None or _ELSEWHERE.match(member[2]):
        return name
    return f"/vsi{member[1].lower()}/{{{member[2]}}}/{member[3]}"


def _parts(name: str) -> tuple[str, str, str]:
    for form in _FORMS:
        found = form.fullmatch(name)
        if found is not None:
            return found[1], found[2], found[3]
    return "", name, ""
