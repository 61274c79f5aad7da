"""Differences of normalized difference indices (NDVI, NDWI, NBR ...)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from regflow.core.errors import InputError
from regflow.methods.detect.model import ChangeModel, ChangeModelFit
from regflow.methods.detect.no_change import calibrate_model
from regflow.methods.detect.tiles import ChangeTiles, PairTile


def index_difference(tiles: ChangeTiles, options: Mapping[str, Any]) -> ChangeModelFit:
    """Fit the spread of index differences where nothing changed.

    Args:
        tiles: the scene pair.
        options: ``indices``: pairs ``[first, second]`` of bands counted from 1, for
            ``(first - second) / (first + second)``: NDVI is ``[nir, red]``.

    Raises:
        InputError: no index is named, or a band that a scene does not have.
        RegistrationError: too few pixels, or copies.
    """
    indices = tuple((int(first) - 1, int(second) - 1) for first, second in options["indices"])
    if not indices:
        raise InputError("index-difference: name bands in 'indices', as [[4, 3]] for (b4 - b3) / (b4 + b3)")
    bands = min(tiles.map(_bands))
    highest = max(max(pair) for pair in indices) + 1
    if highest > bands or min(min(pair) for pair in indices) < 0:
        raise InputError(
            f"index-difference: 'indices' names band {highest}, but the scenes have {bands} bands, "
            "counted from 1"
        )
    identity = np.eye(len(indices))
    start = ChangeModel(
        identity, identity, np.zeros(len(indices)), identity, indices=indices, unit="units of the index"
    )
    return ChangeModelFit(calibrate_model(tiles, start), {})


def _bands(tile: PairTile) -> int:
    return min(len(tile.before), len(tile.after))
