"""What a run was made from: versions, sources, inputs by checksum, configuration and command."""

import importlib.util
import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from regflow import __version__
from regflow.core.files import read_json, write_json, write_whole
from regflow.core.processor import read_processor
from regflow.provenance.jobs import find_typed_command


def collect_provenance(
    record: str | Path,
    configuration: str | Path,
    *,
    settings: Mapping[str, Any],
    manifests: Iterable[str | Path],
    sources: Mapping[str, str],
) -> dict[str, Any]:
    """Write down what a run is made from.

    Args:
        record: the JSON file to write.
        configuration: the YAML file to write the complete configuration to; it can be run again.
        settings: the complete configuration.
        manifests: what ingest wrote about each image.
        sources: each stage's digest of its sources.

    Returns:
        What ``record`` holds: ``regflow``, ``python``, ``platform``, ``processor``
        (:func:`regflow.core.processor.read_processor`; each stage also records its own in ``stage.json``),
        ``command``, ``recorded`` (UTC, ISO 8601), ``sources``, ``packages`` (version by name) and
        ``inputs`` (checksums by image).
    """
    import yaml

    content = {
        "regflow": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "command": find_typed_command(),
        "recorded": datetime.now(UTC).isoformat(timespec="seconds"),
        "sources": dict(sources),
        "packages": {d.name: d.version for d in sorted(distributions(), key=lambda d: d.name.lower())},
        "inputs": {Path(path).stem: read_json(path)["sha256"] for path in manifests},
    }
    write_json(record, content)
    with write_whole(configuration) as part:
        part.write_text(yaml.safe_dump(dict(settings), sort_keys=False), encoding="utf-8")
    return content


def _processor() -> dict[str, str]:
    """Return the processor with what torch says of it, where torch is installed."""
    if importlib.util.find_spec("torch") is not None:
        importlib.import_module("torch")
    return read_processor()
