"""Where the files lie that belong to regflow but are no code: parameter maps and trained weights."""

from pathlib import Path

_INSTALLED = Path(__file__).parents[1] / "resources"
_CLONED = Path(__file__).parents[3] / "resources"


def resources() -> Path:
    """Return the folder ``resources``: inside an installed package, else beside ``src`` in the clone."""
    return _INSTALLED if _INSTALLED.is_dir() else _CLONED
