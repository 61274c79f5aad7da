"""What a sheet says of a sample beside its files."""

from collections.abc import Iterable, Sequence
from typing import Any

_COLUMNS = {"volumes": ("group", "session", "modality"), "rasters": ("group", "date", "sensor")}

METADATA_COLUMNS = frozenset(name for columns in _COLUMNS.values() for name in columns)
"""Those of all kinds."""


def metadata_columns(kind: str) -> tuple[str, ...]:
    """Return the columns of a kind's sheet that are no files, ids or settings."""
    return _COLUMNS[kind]


def metadata_by_sample(samples: Iterable[Any], columns: Sequence[str]) -> dict[str, dict[str, str | None]]:
    """Return what the sheet says of each sample, and the name of its fixed image, by id.

    Args:
        samples: of any kind.
        columns: of :func:`metadata_columns`.
    """
    return {
        sample.sample: {"fixed": sample.fixed.name, **{key: getattr(sample, key) for key in columns}}
        for sample in samples
    }
