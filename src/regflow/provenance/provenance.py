"""What a run was made from: versions, sources, hardware, configuration, sample sheet and command."""

import hashlib
import importlib.util
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from regflow import __version__
from regflow.cohort.reading import write_sheet
from regflow.core.devices import list_devices
from regflow.core.files import compute_sha256, write_json, write_whole
from regflow.core.processor import read_processor
from regflow.core.resources import find_lock
from regflow.core.threads import count_cores
from regflow.provenance.jobs import find_typed_command
from regflow.stages import layout


def collect_provenance(
    record: str | Path, *, settings: Mapping[str, Any], sources: Mapping[str, str]
) -> dict[str, Any]:
    """Write down what a run is made from, and what it takes to run it again.

    The complete configuration and the sample sheet are written beside the record.

    Args:
        record: the JSON file to write.
        settings: the complete configuration.
        sources: each stage's digest of its sources.

    Returns:
        What ``record`` holds: ``regflow``, ``python``, ``platform``, ``processor``
        (:func:`regflow.core.processor.read_processor`; each stage also records its own in ``stage.json``),
        ``machine`` (``cores``, ``memory_gb``, ``gpus``), ``command``, ``recorded`` (UTC, ISO 8601),
        ``folder`` (the working directory as seen from the record), ``sources``, ``lock``
        (:func:`compare_with_lock`) and ``packages`` (version by name).
    """
    import yaml

    folder, packages = Path(record).parent, list_packages()
    content = {
        "regflow": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "machine": _machine(),
        "command": find_typed_command(),
        "recorded": datetime.now(UTC).isoformat(timespec="seconds"),
        "folder": Path(os.path.relpath(Path.cwd(), folder)).as_posix(),
        "sources": dict(sources),
        "lock": compare_with_lock(packages),
        "packages": packages,
    }
    write_json(record, content)
    with write_whole(folder / layout.CONFIGURATION) as part:
        part.write_text(yaml.safe_dump(dict(settings), sort_keys=False), encoding="utf-8")
    write_sheet(settings, folder / layout.SHEET)
    return content


def list_packages() -> dict[str, str]:
    """Return the version of each installed package by its name, in order."""
    return {d.name: d.version for d in sorted(distributions(), key=lambda d: d.name.lower())}


def compute_environment_digest() -> str:
    """Return a short text that changes when Python or an installed package does."""
    told = repr((platform.python_version(), list_packages()))
    return hashlib.sha256(told.encode()).hexdigest()


def compare_with_lock(packages: Mapping[str, str]) -> dict[str, Any]:
    """Return the checksum of the lock and the installed packages that are not of its versions.

    Returns:
        ``sha256`` (None where there is no lock) and ``other``, by package the version that the lock has.
    """
    lock = find_lock()
    if lock is None:
        return {"sha256": None, "other": {}}
    installed = {_canonical(name): version for name, version in packages.items()}
    pinned = (line.split("==") for line in lock.read_text(encoding="utf-8").split())
    other = {name: version for name, version in pinned if installed.get(_canonical(name), version) != version}
    return {"sha256": compute_sha256(lock), "other": other}


def _canonical(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def _machine() -> dict[str, Any]:
    import psutil

    memory = round(psutil.virtual_memory().total / 1e9, 1)
    return {"cores": count_cores(), "memory_gb": memory, "gpus": len(list_devices())}


def _processor() -> dict[str, str]:
    """Return the processor with what torch says of it, where torch is installed."""
    if importlib.util.find_spec("torch") is not None:
        importlib.import_module("torch")
    return read_processor()
