"""Change methods. One row per method; imports happen when one runs.

A method is a function ``(tiles, options) -> Fit``: it looks at the two scenes tile by tile, any
number of times, and returns the model by which every pixel is then judged.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

from regflow.methods.detect.model import ChangeModelFit
from regflow.methods.detect.tiles import ChangeTiles
from regflow.methods.table import Method

_HERE = "regflow.methods.detect"

FitMethod = Callable[[ChangeTiles, Mapping[str, Any]], ChangeModelFit]

_IR_MAD: dict[str, dict[str, Any]] = {
    "iterations": {
        "type": "integer",
        "minimum": 1,
        "description": "rounds at most; 1 is MAD without reweighting",
        "default": 50,
    },
    "tolerance": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "change of the canonical correlations at which the rounds end",
        "default": 0.001,
    },
    "regularization": {
        "type": "number",
        "minimum": 0,
        "exclusiveMaximum": 1,
        "description": "weight of the penalty on the length of the band combinations; "
        "for many bands that depend on one another",
        "default": 0.0,
    },
    "calibrate": {
        "type": "boolean",
        "description": "keep the weights from narrowing plain noise round by round, so that the chi-square "
        "level is the share of false alarms; false gives the paper's statistic, which calls too much "
        "a change and may settle on a handful of pixels",
        "default": True,
    },
}

_CVA: dict[str, dict[str, Any]] = {
    "no_change": {
        "type": "number",
        "minimum": 0,
        "exclusiveMaximum": 1,
        "description": "no-change probability above which a pixel serves the radiometric normalization",
        "default": 0.9,
    },
}

_INDEX_DIFFERENCE: dict[str, dict[str, Any]] = {
    "indices": {
        "type": "array",
        "items": {
            "type": "array",
            "items": {"type": "integer", "minimum": 1},
            "minItems": 2,
            "maxItems": 2,
        },
        "description": "pairs of bands [a, b], from 1, for (a - b) / (a + b); NDVI is [nir, red]",
        "default": [],
    },
}

METHODS: dict[str, Method] = {
    "ir-mad": Method(
        f"{_HERE}.ir_mad:ir_mad",
        "Differences of canonical variates, reweighted by the chance of no change until they settle.",
        "Nielsen, IEEE Trans. Image Processing 16(2):463-478, 2007",
        _IR_MAD,
        kinds=("rasters",),
    ),
    "cva": Method(
        f"{_HERE}.cva:cva",
        "Length of the band differences after radiometric normalization on unchanged pixels.",
        "Malila, Purdue Symposium on Machine Processing of Remotely Sensed Data, 326-335, 1980; "
        "Canty and Nielsen, Remote Sensing of Environment 112(3):1025-1036, 2008",
        _CVA,
        kinds=("rasters",),
    ),
    "index-difference": Method(
        f"{_HERE}.index_difference:index_difference",
        "Differences of normalized difference indices of chosen bands.",
        "Singh, International Journal of Remote Sensing 10(6):989-1003, 1989",
        _INDEX_DIFFERENCE,
        kinds=("rasters",),
    ),
}


def load_method(method: Method) -> FitMethod:
    """Import a row's function."""
    return cast(FitMethod, cast(Any, method.load()))
