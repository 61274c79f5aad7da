"""Relative radiometric normalization on the pixels that did not change.

Orthogonal regression of each band of the first date on that of the second, over the pixels that
IR-MAD leaves unchanged (Canty and Nielsen, Remote Sensing of Environment 112(3):1025-1036, 2008).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError, RegistrationError
from regflow.methods.detect.model import ChangeModel, compute_no_change_probability, compute_statistic
from regflow.methods.detect.moments import Moments, merge_moments
from regflow.methods.detect.tiles import ChangeTiles, PairTile

Array = NDArray[np.float64]

FEWEST_PIXELS = 100
"""Unchanged pixels that a line may be fitted to."""


@dataclass(frozen=True, eq=False)
class Normalization:
    """``before = gain * after + offset``, band by band, where nothing changed.

    Attributes:
        gain: ``(C,)``.
        offset: ``(C,)`` in the first date's units.
        correlation: ``(C,)`` of the two dates over the pixels used.
        pixels: number of pixels used.
    """

    gain: Array
    offset: Array
    correlation: Array
    pixels: int

    def apply(self, after: NDArray[Any]) -> NDArray[np.float32]:
        """Return the second date in the first date's radiometry, ``(C, ...)`` float32."""
        shape = (-1,) + (1,) * (after.ndim - 1)
        return (after * self.gain.reshape(shape) + self.offset.reshape(shape)).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description."""
        return {
            "gain": self.gain.tolist(),
            "offset": self.offset.tolist(),
            "correlation": self.correlation.tolist(),
            "pixels": self.pixels,
        }


def fit_normalization(tiles: ChangeTiles, model: ChangeModel, probability: float) -> Normalization:
    """Fit the second date to the first on pixels whose no-change probability exceeds ``probability``.

    Raises:
        InputError: the dates have different numbers of bands.
        RegistrationError: too few pixels did not change, or a band does not correlate there.
    """
    found = merge_moments(tiles.map(partial(_unchanged_moments, model=model, probability=probability)))
    if found.weight < FEWEST_PIXELS:
        raise RegistrationError(
            f"normalization: {found.weight:.0f} pixels have a no-change probability above {probability:g}; "
            "lower 'no_change' or check that both scenes show the same place"
        )
    bands = len(found.mean) // 2
    variance = np.diag(found.covariance)
    first, second = variance[:bands], variance[bands:]
    mixed = np.diag(found.covariance[:bands, bands:])
    if not ((mixed > 0) & (first > 0) & (second > 0)).all():
        band = int(np.argmin(mixed)) + 1
        raise RegistrationError(f"normalization: band {band} of both scenes does not correlate; leave it out")
    spread = first - second
    gain = (spread + np.sqrt(spread**2 + 4 * mixed**2)) / (2 * mixed)
    offset = found.mean[:bands] - gain * found.mean[bands:]
    return Normalization(gain, offset, mixed / np.sqrt(first * second), int(found.weight))


def _unchanged_moments(tile: PairTile, model: ChangeModel, probability: float) -> Moments:
    before, after = tile.gather_pixels()
    if len(before) != len(after):
        raise InputError(
            f"normalization: the scenes have {len(before)} and {len(after)} bands; "
            "name the same bands of both"
        )
    chance = compute_no_change_probability(
        compute_statistic(model.compute_difference(before, after)), model.degrees_of_freedom
    )
    rows = np.ascontiguousarray(np.vstack([before, after]).T)
    return Moments.from_rows(rows, (chance > probability).astype(np.float64))
