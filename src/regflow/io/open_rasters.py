"""Rasters opened by GDAL: local or by HTTP or S3, with handles kept for each thread."""

import os
import re
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from regflow.core.addresses import redact_address, resolve_address
from regflow.core.errors import InputError
from regflow.core.files import describe_absence, stamp_file
from regflow.io.raster_names import find_local_file, format_gdal_name
from regflow.io.refusals import explain_refusal

if TYPE_CHECKING:
    import rasterio
    from rasterio.io import DatasetReader


GDAL_DEFAULTS = {
    "GDAL_CACHEMAX": "128",
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "1",
    "GDAL_HTTP_CONNECTTIMEOUT": "15",
    "GDAL_HTTP_LOW_SPEED_TIME": "60",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "100",
}
"""GDAL's own cache is 5% of the memory, per process; megabytes here. Without the last three (seconds,
and bytes in a second) it waits forever for a server that falls silent. The environment overrides."""
_NETWORK = re.compile(r"(https?|ftp|s3|gs|az|adls|oss|swift)://|/vsi(curl|s3|gs|az|adls|oss|swift)", re.I)
_ENDPOINTS = ("SNAKEMAKE_STORAGE_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
"""Where an S3 is that is not Amazon's, as Amazon's own programs and Snakemake's plugin read it."""
_HANDLES_PER_THREAD = 8
MOST_NAMED = 4


def open_raster(path: str | Path) -> "DatasetReader":
    """Return this thread's handle of a raster, opening it if need be; never close it.

    GDAL's handles may not be shared by threads; a few of each thread stay open, because opening
    costs more than reading a window. A local file that was replaced since is opened anew.

    Raises:
        InputError: the file does not exist or is no raster.
    """
    name = redact_address(str(path))
    key = (os.getpid(), name, stamp_file(name))
    handles: OrderedDict[Any, DatasetReader] = _local.__dict__.setdefault("handles", OrderedDict())
    if key in handles:
        handles.move_to_end(key)
        _forget_errors()
        return handles[key]
    handles[key] = _open(name)
    while len(handles) > _HANDLES_PER_THREAD:
        handles.popitem(last=False)[1].close()
    return handles[key]


def _forget_errors() -> None:
    """Clear GDAL's last error: rasterio would raise it at whatever is asked next, of another file too."""
    from rasterio._err import stack_errors

    with stack_errors():
        pass


def import_gdal() -> "rasterio":
    """Import rasterio with GDAL's memory bounded (:data:`GDAL_DEFAULTS`) and return it."""
    for key, value in {**GDAL_DEFAULTS, **_describe_endpoint()}.items():
        os.environ.setdefault(key, value)
    import rasterio

    return rasterio


@contextmanager
def ignore_missing_georeference() -> Iterator[None]:
    """Keep rasterio from warning of a raster without georeference: what that means is said elsewhere."""
    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _describe_endpoint() -> dict[str, str]:
    """Return how GDAL is told of the S3 that other programs are told of by a URL."""
    url = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), None)
    if url is None:
        return {}
    parts = urlsplit(url)
    https = "YES" if parts.scheme == "https" else "NO"
    return {"AWS_S3_ENDPOINT": parts.netloc, "AWS_HTTPS": https, "AWS_VIRTUAL_HOSTING": "FALSE"}


def explain_gdal_errors() -> tuple[type[Exception], ...]:
    """Return what rasterio raises for a file that GDAL cannot read: its own errors, GDAL's, and texts'."""
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError

    return RasterioError, CPLE_BaseError, UnicodeDecodeError


def is_remote(path: str) -> bool:
    """Tell whether GDAL fetches a raster over a network."""
    return _NETWORK.search(path) is not None


_local = threading.local()


def _open(name: str) -> "DatasetReader":
    rasterio = import_gdal()
    file = find_local_file(name)
    if not name:
        raise InputError("an empty name: this file does not exist; name one")
    if file is not None and (why := describe_absence(file)) is not None:
        raise InputError(f"{name}: {why}")
    try:
        with ignore_missing_georeference():
            return rasterio.open(format_gdal_name(resolve_address(name)), sharing=False)
    except explain_gdal_errors() as error:
        reason = str(error).rstrip(".")
        raise InputError(f"{name}: {_refusal(name, reason)}") from error


def _refusal(name: str, reason: str) -> str:
    """Return what to tell a user of a raster that GDAL did not open for some reason."""
    told = explain_refusal(reason) if is_remote(name) else None
    return told or f"not a raster that GDAL reads, or cut off in its header ({reason})"
