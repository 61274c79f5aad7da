"""Samples that stand apart from their cohort."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

FEWEST = 5
"""Cohorts below this size have no outliers: their spread is not known well enough."""
MAD_TO_SIGMA = 1.4826
MEAN_DEVIATION_TO_SIGMA = 1.2533


def compute_robust_scores(values: ArrayLike) -> NDArray[np.float64]:
    """Return each value's distance from the median in robust standard deviations.

    The scale is the median absolute deviation; where more than half of the values are equal, the
    mean absolute deviation (Iglewicz and Hoaglin, 1993). NaN stays NaN; 0 for all when fewer than
    :data:`FEWEST` values are known or when all are equal.
    """
    values = np.asarray(values, dtype=np.float64)
    known = values[np.isfinite(values)]
    blank = np.where(np.isfinite(values), 0.0, np.nan)
    if known.size < FEWEST:
        return blank
    middle = np.median(known)
    deviation = np.abs(known - middle)
    scale = MAD_TO_SIGMA * np.median(deviation) or MEAN_DEVIATION_TO_SIGMA * deviation.mean()
    return np.asarray((values - middle) / scale) if scale > 0 else blank
