"""Which trained networks a configuration leads to; light, for the workflow's rules."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from regflow.core.errors import RegistrationError
from regflow.core.files import compute_sha256
from regflow.methods import initialize, refine
from regflow.methods.weight_files import find_weight_file

TABLES = {"initialize": initialize.METHODS, "refine": refine.METHODS}


def find_used_networks(config: Mapping[str, Any], stages: Collection[str], ndim: int) -> dict[str, str]:
    """Return the networks that the ladders of some stages may ask, and the checksums of their files.

    A file that is not there yet is left out.

    Args:
        config: sections by stage: ``methods``, and ``options`` by method.
        stages: those that run; others than ``initialize`` and ``refine`` ask none.
        ndim: of the images.
    """
    named = {name for stage in stages if stage in TABLES for name in _asked(stage, config[stage], ndim)}
    found = {}
    for name in sorted(named):
        try:
            found[name] = compute_sha256(find_weight_file(name))
        except RegistrationError:
            continue  # A ladder's step says so when it comes to it; nothing depends on the file before.
    return found


def _asked(stage: str, section: Mapping[str, Any], ndim: int) -> Iterator[str]:
    """Yield the names of networks that a ladder may ask."""
    table = TABLES[stage]
    for method in section["methods"]:
        if method in table and (table[method].networks or "weights" in table[method].options):
            yield from _named(section.get("options", {}).get(method, {}))
            if ndim in table[method].networks:
                yield table[method].networks[ndim]


def _named(options: Mapping[str, Any]) -> Iterator[str]:
    """Yield what stands under ``weights`` at any depth of a method's options."""
    for key, value in options.items():
        if key == "weights" and isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            yield from _named(value)
