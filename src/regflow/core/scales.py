"""Whether the samples of two images can be compared, or one of them is in another unit."""

OTHER_SCALE = 8.0
"""Samples so many times as large as the partner's may be in another unit."""
FEWEST_ACROSS = 4.0
"""Samples of the coarser image along the smaller one, below which they cannot be compared."""


def check_comparable_samples(fixed_across: float, moving_across: float, ratio: float) -> str | None:
    """Tell whether one image's samples are so large that the other image is hardly one of them across.

    Args:
        fixed_across: samples of the fixed image along a side: the mean of its sides, geometric.
        moving_across: of the moving image, likewise.
        ratio: length of the moving image's samples in those of the fixed one, in the same unit.

    Returns:
        What is to be put after "its samples".
    """
    coarser = max(ratio, 1 / ratio)
    across = min(fixed_across / max(ratio, 1), moving_across * min(ratio, 1))
    if coarser < OTHER_SCALE or across >= FEWEST_ACROSS:
        return None
    kind = "large" if ratio >= 1 else "small"
    return (
        f"{coarser:,.4g} times as {kind} as its partner's, so that the smaller image is {across:.2g} of the "
        "coarser samples across"
    )
