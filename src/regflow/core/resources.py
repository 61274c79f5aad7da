"""Where the files lie that belong to regflow but are no code: workflow, configuration, weights."""

from pathlib import Path

_INSTALLED = Path(__file__).parents[1] / "shipped"
_CLONED = Path(__file__).parents[3]


def find_shipped_folder() -> Path:
    """Return the folder of ``workflow``, ``config``, ``envs`` and ``resources``.

    Inside an installed package, else the clone, in which they lie beside ``src``.
    """
    return _INSTALLED if _INSTALLED.is_dir() else _CLONED


def find_resources() -> Path:
    """Return the folder of parameter maps, recipes and trained weights."""
    return find_shipped_folder() / "resources"


def find_lock() -> Path | None:
    """Return the file with the exact versions of all that regflow was tested with; None where it is not."""
    lock = find_shipped_folder() / "requirements.lock"
    return lock if lock.is_file() else None
