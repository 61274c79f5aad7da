"""Where the workflow that belongs to this package lies."""

from pathlib import Path

from regflow.core.errors import InputError


def checkout() -> Path:
    """Return the folder that holds ``workflow/`` and ``config/``: the clone regflow was installed from.

    Raises:
        InputError: the package was installed without its clone.
    """
    root = Path(__file__).resolve().parents[3]
    if not (root / "workflow" / "Snakefile").is_file():
        raise InputError(
            "this command needs the workflow that lies beside the package; "
            "install regflow from a clone: make install"
        )
    return root
