"""What the system tells about itself and a process in small files."""

from pathlib import Path


def read_system_file(path: str | Path) -> str:
    """Return what a file of the system says; nothing where the system has no such file."""
    try:
        return Path(path).read_text(encoding="ascii")
    except OSError:
        return ""
