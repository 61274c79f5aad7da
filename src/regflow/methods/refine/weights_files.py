"""Where trained networks lie, and which of them a configuration leads to; light, for the workflow's rules."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from regflow.core.errors import RegistrationError
from regflow.core.files import compute_sha256
from regflow.core.resources import find_resources
from regflow.methods.refine import METHODS

SUFFIX = ".safetensors"
SHIPPED = {2: "scenes2d", 3: "volumes3d"}
"""Name of the network in ``resources/weights`` that is taken when none is named, by dimensions."""
WEIGHTS_FOLDER = find_resources() / "weights"


def find_weights(name: str | None, ndim: int | None = None) -> Path:
    """Return the file of a network, given its path or its name in ``resources/weights``.

    Args:
        name: path or name; None for the shipped network of ``ndim``.
        ndim: of the images.

    Raises:
        RegistrationError: none is named or the file is missing, so that a ladder goes on.
    """
    name = name or SHIPPED.get(ndim or 0)
    if not name:
        raise RegistrationError(
            f"no network of {ndim} dimensions is shipped; set refine.options.voxelmorph.weights to a "
            f"{SUFFIX} file, or take voxelmorph out of refine.methods"
        )
    candidates = [Path(name), WEIGHTS_FOLDER / name, WEIGHTS_FOLDER / f"{name}{SUFFIX}"]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise RegistrationError(
            f"the network '{name}' is neither a file nor in resources/weights; "
            "correct the option 'weights' or put the file there"
        )
    return found


def find_used_networks(section: Mapping[str, Any], ndim: int) -> dict[str, str]:
    """Return the networks that a ladder may ask, and the checksums of their files.

    A file that is not there yet is left out.

    Args:
        section: ``methods``, and ``options`` by method.
        ndim: of the images.
    """
    asking = [name for name in section["methods"] if name in METHODS and METHODS[name].uses_weights]
    named = {name for method in asking for name in _named(section.get("options", {}).get(method, {}))}
    candidates = [*sorted(named), *([SHIPPED[ndim]] if asking else [])]
    found = {}
    for name in candidates:
        try:
            found[name] = compute_sha256(find_weights(name))
        except RegistrationError:
            continue  # A ladder's step says so when it comes to it; nothing depends on the file before.
    return found


def _named(options: Mapping[str, Any]) -> Iterator[str]:
    """Yield what stands under ``weights`` at any depth of a method's options."""
    for key, value in options.items():
        if key == "weights" and value is not None:
            yield value
        elif isinstance(value, Mapping):
            yield from _named(value)
