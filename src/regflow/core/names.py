"""Names that people type: what they may look like, and what a mistyped one was meant to be."""

from collections.abc import Iterable
from difflib import get_close_matches

SAFE = r"^(?!.*\n)[A-Za-z0-9][A-Za-z0-9._+-]*$"
"""Names that become names of files and folders: letters, digits, and ``. _ + -`` after the first; ``$`` alone
would let a line's end pass."""


def find_nearest_name(name: str, known: Iterable[str]) -> str:
    """Return the known name most like ``name``; capitals and separators count little.

    Raises:
        ValueError: nothing is known.
    """
    plain = {_plain(item): item for item in known}
    if not plain:
        raise ValueError("no known names to choose from")
    return plain[get_close_matches(_plain(name), plain, n=1, cutoff=0.0)[0]]


def _plain(name: str) -> str:
    return name.casefold().replace("_", "-").replace(" ", "-")
