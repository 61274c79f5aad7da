"""What each figure is called, its unit, which way is better: one list for tables and report."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

STATES = ("start", "initialize", "refine")
"""The states of the moving image that are compared: as its header places it, after the affine, and
after the deformable registration."""


@dataclass(frozen=True)
class Figure:
    """One figure of quality.

    Attributes:
        title: a few words for a heading.
        unit: ``mm``, ``%``, or empty for a pure number.
        better: which way is better.
        staged: whether it is measured at each of :data:`STATES`, under ``<name>_<stage>``.
        meaning: one sentence for a tool tip.
    """

    title: str
    unit: str
    better: Literal["high", "low"]
    staged: bool
    meaning: str

    def format_value(self, value: float | None) -> str:
        """Return a value with its unit, rounded as its kind deserves."""
        if value is None or value != value:
            return "n/a"
        if self.unit == "%":
            return "0 %" if value == 0 else f"{value:.2g} %"
        digits = f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
        return f"{digits} {self.unit}".strip()


FIGURES: Mapping[str, Figure] = {
    "ncc": Figure("Correlation (NCC)", "", "high", True, "normalized cross-correlation inside the mask"),
    "lncc": Figure("Local correlation (LNCC)", "", "high", True, "mean of the correlation in small windows"),
    "mi": Figure("Mutual information", "", "high", True, "mutual information inside the mask, in nats"),
    "ssim": Figure("Structural similarity (SSIM)", "", "high", True, "structural similarity in the mask"),
    "dice_mean": Figure("Mean Dice", "", "high", True, "overlap of the label maps, mean over structures"),
    "hd95_mean_mm": Figure(
        "Hausdorff distance (95 %)",
        "mm",
        "low",
        True,
        "robust largest surface distance, mean of structures",
    ),
    "asd_mean_mm": Figure(
        "Surface distance", "mm", "low", True, "average symmetric surface distance, mean over structures"
    ),
    "tre_mean_mm": Figure("Landmark error (TRE)", "mm", "low", True, "mean distance of landmarks"),
    "tre_median_mm": Figure(
        "Landmark error, median", "mm", "low", True, "half of the landmarks are closer to their partner"
    ),
    "truth_mean_mm": Figure(
        "True error", "mm", "low", True, "mean distance from the known transform inside the mask"
    ),
    "truth_p95_mm": Figure(
        "True error, 95th percentile",
        "mm",
        "low",
        True,
        "95 % of the mask is closer to the truth",
    ),
    "folding_percent": Figure(
        "Folding", "%", "low", False, "part of the mask where the deformation turns inside out"
    ),
    "log_jacobian_std": Figure(
        "Spread of log J", "", "low", False, "standard deviation of the logarithm of local volume change"
    ),
    "jacobian_min": Figure("Smallest J", "", "high", False, "smallest Jacobian determinant in the mask"),
    "jacobian_max": Figure("Largest J", "", "low", False, "largest Jacobian determinant in the mask"),
    "sdlogj_learn2reg": Figure(
        "SDlogJ (Learn2Reg)", "", "low", False, "standard deviation of log(J + 3), as Learn2Reg computes it"
    ),
    "inverse_mean_mm": Figure(
        "Inverse error", "mm", "low", False, "mean distance from the start after going there and back"
    ),
    "inverse_p95_mm": Figure(
        "Inverse error, 95th percentile", "mm", "low", False, "95 % of the mask comes back closer"
    ),
}

WATCHED = (
    "ncc",
    "lncc",
    "mi",
    "dice_mean",
    "hd95_mean_mm",
    "tre_mean_mm",
    "truth_mean_mm",
    "folding_percent",
    "log_jacobian_std",
    "inverse_mean_mm",
)
"""The figures whose outliers over a cohort are marked, and whose distributions are drawn."""


@dataclass(frozen=True)
class Catalog:
    """The figures of a kind of image.

    Attributes:
        figures: by name.
        watched: those whose outliers over a cohort are marked, and whose distributions are drawn.
        columns: those of the cohort's table of samples, the most telling first.
        states: a short name for each of :data:`STATES`, and an empty one for unstaged figures.
    """

    figures: Mapping[str, Figure]
    watched: tuple[str, ...]
    columns: tuple[str, ...]
    states: Mapping[str, str]

    def name_final_column(self, name: str) -> str:
        """Return the column of a figure's value at the end of the registration."""
        return f"{name}_{STATES[-1]}" if self.figures[name].staged else name


VOLUMES = Catalog(
    figures=FIGURES,
    watched=WATCHED,
    columns=("truth_mean_mm", "tre_mean_mm", "dice_mean", "ncc", "mi", "folding_percent", "inverse_mean_mm"),
    states={"start": "Start", "initialize": "Affine", "refine": "End", "": ""},
)
"""For tables, outliers and the cohort's page."""


def name_final_column(name: str) -> str:
    """Return the column of a volumes' figure's value at the end of the registration."""
    return VOLUMES.name_final_column(name)
