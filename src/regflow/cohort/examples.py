"""Real images of installed packages, named as ``example:NAME`` wherever a path may stand."""

from regflow.core.errors import InputError
from regflow.core.names import find_nearest_name
from regflow.datasets.packaged import RASTERS, SOURCES
from regflow.datasets.packaged import locate_source as locate_example

EXAMPLE = "example:"
"""Start of a path that names a real volume of an installed package, as in ``example:mni2009c``."""


def resolve_example(text: str) -> str:
    """Return the path behind ``example:NAME``; any other text as it is.

    Raises:
        InputError: there is no such example, or its package is not installed.
    """
    if not text.startswith(EXAMPLE):
        return text
    name = text.removeprefix(EXAMPLE)
    known = {**SOURCES, **RASTERS}
    if name not in known:
        raise InputError(f"'{text}' is not known; did you mean '{EXAMPLE}{find_nearest_name(name, known)}'?")
    path = locate_example(name)
    if path is None:
        package = known[name].package
        raise InputError(
            f"'{text}' is part of the package {package}; install that, or give a file of your own"
        )
    return str(path)
