"""Options that elastix's rows share, importable without it."""

from typing import Any

METRICS = {
    "mutual-information": "AdvancedMattesMutualInformation",
    "correlation": "AdvancedNormalizedCorrelation",
    "mse": "AdvancedMeanSquares",
}
"""elastix's names of the metrics."""

METRIC: dict[str, Any] = {
    "enum": list(METRICS),
    "description": "what is compared. mutual-information: any two contrasts; correlation: one contrast up to "
    "gain and offset; mse: squared differences of one contrast on one scale",
    "default": "mutual-information",
}
