"""Change vector analysis: the length of the band differences after radiometric normalization.

Malila, Purdue Symposium on Machine Processing of Remotely Sensed Data, 326-335, 1980. The length is
given in the bands' units; what counts as a change is judged by the Mahalanobis distance, which knows
how far the bands differ, and differ together, where nothing changed.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from regflow.methods.detect.ir_mad import ir_mad
from regflow.methods.detect.model import ChangeModel, ChangeModelFit
from regflow.methods.detect.no_change import calibrate_model
from regflow.methods.detect.normalization import fit_normalization
from regflow.methods.detect.tiles import ChangeTiles

_SEARCH = {"iterations": 50, "tolerance": 1e-3, "regularization": 1e-4, "calibrate": True}
"""How IR-MAD looks for the unchanged pixels."""


def cva(tiles: ChangeTiles, options: Mapping[str, Any]) -> ChangeModelFit:
    """Fit change vector analysis.

    Args:
        tiles: the scene pair, the same bands at both dates.
        options: ``no_change``, the probability above which a pixel serves the normalization.

    Raises:
        InputError: the dates have different numbers of bands.
        RegistrationError: as of :func:`~regflow.methods.detect.ir_mad.ir_mad` and
            :func:`~regflow.methods.detect.normalization.fit_normalization`.
    """
    search = ir_mad(tiles, _SEARCH)
    lines = fit_normalization(tiles, search.model, float(options["no_change"]))
    bands = len(lines.gain)
    identity = np.eye(bands)
    start = ChangeModel(identity, np.diag(lines.gain), -lines.offset, identity, unit="units of the bands")
    figures = {
        "normalization_pixels": float(lines.pixels),
        "normalization_correlation_min": float(lines.correlation.min()),
    }
    return ChangeModelFit(calibrate_model(tiles, start), {**search.figures, **figures}, search.history)
