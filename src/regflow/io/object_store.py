"""Objects on S3 and servers like it, by Snakemake's storage plugins: fetched, stored, removed.

A raster is read where it lies, window by window; a volume is fetched as a whole, once per process, and its
copy goes by its address in whatever is written about it.
"""

import asyncio
import atexit
import logging
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from regflow.core.addresses import forget_copy, name_copy
from regflow.core.errors import InputError
from regflow.io.refusals import explain_refusal

FETCHED = re.compile(r"s3:/(?P<key>/?[^/]+/.+)")
"""Addresses of which a copy is fetched; a path of one has lost a slash."""
PARTNERS = {".hdr": ".img", ".img": ".hdr", ".HEAD": ".BRIK", ".BRIK": ".HEAD"}
"""Files that come in pairs, by their suffix."""

log = logging.getLogger(__name__)

Result = TypeVar("Result")


def find_copy(name: str | Path) -> str:
    """Return a file or folder of this machine that holds what a name leads to.

    Args:
        name: an ``s3://`` address, which is fetched unless this process has; any other name is returned.

    Raises:
        InputError: there is nothing at the address, or its server refuses or does not answer.
    """
    found = FETCHED.fullmatch(str(name))
    if found is None:
        return str(name)
    address = f"s3://{found['key'].removeprefix('/')}"
    with _lock:
        one_at_a_time = _fetching.setdefault(address, threading.Lock())
    with one_at_a_time:
        if address not in _copies:
            _copies[address] = _fetch_copy(address)
        return str(_copies[address])


def drop_copies(names: Iterable[str]) -> None:
    """Remove the copies of addresses that are not needed any more."""
    for name in names:
        if copy := _copies.pop(name, None):
            forget_copy(copy)
            shutil.rmtree(copy.parent)


def fetch_object(provider: str, address: str, target: Path) -> bool:
    """Fetch an object, or all below a prefix; tell whether there is one.

    Args:
        provider: name of Snakemake's plugin: ``s3`` ...
        address: as the plugin takes it: ``s3://BUCKET/KEY``.
        target: file, or folder, to make.

    Raises:
        OSError: the server refuses, or does not answer.
    """
    thing = _find_object(provider, address, target)
    if not _manage(address, thing.managed_exists()):
        return False
    _manage(address, thing.managed_retrieve())
    return True


def store_object(provider: str, address: str, source: Path) -> None:
    """Store a file as an object.

    Raises:
        OSError: the server refuses, or does not answer.
    """
    _manage(address, _find_object(provider, address, source).managed_store())


def drop_object(provider: str, address: str) -> None:
    """Remove an object, or all below a prefix, if there is one.

    Raises:
        OSError: the server refuses, or does not answer.
    """
    thing = _find_object(provider, address)
    if _manage(address, thing.managed_exists()):
        _manage(address, thing.managed_remove())


def measure_object(provider: str, address: str) -> int:
    """Return the bytes of an object, or of all below a prefix; 0 where there is nothing.

    Raises:
        OSError: the server refuses, or does not answer.
    """
    thing = _find_object(provider, address)
    exists = _manage(address, thing.managed_exists())
    return _manage(address, thing.managed_size()) if exists else 0


@dataclass(frozen=True)
class StoredObject:
    """An object on a server.

    Attributes:
        path: its key below what was asked for.
        size: bytes.
        modified: seconds since 1970.
    """

    path: str
    size: int
    modified: float


def list_objects(provider: str, address: str) -> Iterator[StoredObject]:
    """Yield all objects below a prefix, by their keys.

    Raises:
        InputError: only objects on S3 can be listed.
        OSError: the server refuses, or does not answer.
    """
    if provider != "s3":
        raise InputError(f"{address}: what lies there cannot be listed; only s3:// addresses can")
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, prefix = address.removeprefix("s3://").rstrip("/").partition("/")
    start = f"{prefix}/" if prefix else ""
    try:
        for found in _open_provider(provider, address).s3c.Bucket(bucket).objects.filter(Prefix=start):
            yield StoredObject(found.key.removeprefix(start), found.size, found.last_modified.timestamp())
    except (BotoCoreError, ClientError) as error:
        raise _refusal(address, error) from error


_local = threading.local()
_lock = threading.Lock()
_loading = threading.Lock()
_fetching: dict[str, threading.Lock] = {}
_copies: dict[str, Path] = {}


def _fetch_copy(address: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="regflow-copy-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copy = folder / address.rsplit("/", 1)[1]
    try:
        if not fetch_object("s3", address, copy):
            raise InputError(f"{address}: there is nothing at this address; correct it")
        if partner := PARTNERS.get(copy.suffix):
            stem = address.removesuffix(copy.suffix)
            fetch_object("s3", f"{stem}{partner}", copy.with_suffix(partner))
    except OSError as error:
        raise InputError(str(error)) from error
    name_copy(copy, address)
    return copy


def _find_object(provider: str, address: str, here: Path | None = None) -> Any:
    """Return what the plugin makes of an address."""
    thing = _open_provider(provider, address).object(address)
    if here is not None:
        thing.set_local_path(here)
    return thing


def _open_provider(name: str, address: str) -> Any:
    """Return this thread's connection: those of S3 may not be shared."""
    opened = _local.__dict__.setdefault("providers", {})
    if name not in opened:
        with _loading:
            plugin = _load_plugin(name, address)
        opened[name] = plugin.storage_provider(
            local_prefix=Path(tempfile.gettempdir()),
            logger=log,
            settings=_read_settings(plugin),
        )
    return opened[name]


def _load_plugin(name: str, address: str) -> Any:
    from snakemake_interface_common.exceptions import InvalidPluginException
    from snakemake_interface_storage_plugins.registry import StoragePluginRegistry

    try:
        return StoragePluginRegistry().get_plugin(name)
    except InvalidPluginException as error:
        raise InputError(
            f"{address}: this needs a plugin of Snakemake; pip install snakemake-storage-plugin-{name}"
        ) from error


def _read_settings(plugin: Any) -> Any:
    """Return a plugin's settings as the environment has them."""
    names = {one.name: plugin.get_envvar(one.name) for one in fields(plugin.settings_cls)}
    return plugin.settings_cls(**{name: os.environ[of] for name, of in names.items() if of in os.environ})


def _manage(address: str, work: Coroutine[Any, Any, Result]) -> Result:
    """Let a plugin do something, and turn what it raises into one sentence."""
    from snakemake_interface_common.exceptions import WorkflowError

    try:
        return asyncio.run(work)
    except WorkflowError as error:
        raise _refusal(address, error) from error


def _refusal(address: str, error: Exception) -> OSError:
    reason = " ".join(str(error).split()).rstrip(".")
    return OSError(f"{address}: {explain_refusal(reason) or reason}")
