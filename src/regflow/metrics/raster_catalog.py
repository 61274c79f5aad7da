"""What each figure of two scenes is called: the catalog of kind ``rasters``."""

from collections.abc import Mapping

from regflow.metrics.catalog import Catalog, Figure

FIGURES: Mapping[str, Figure] = {
    "rmse_px": Figure("RMSE", "px", "low", True, "root mean squared residual of the held-out check points"),
    "ce90_px": Figure("CE90", "px", "low", True, "radius that holds 90 % of the check points' residuals"),
    "ce95_px": Figure("CE95", "px", "low", True, "radius that holds 95 % of the check points' residuals"),
    "bias_px": Figure("Bias", "px", "low", True, "length of the check points' mean residual"),
    "median_px": Figure("Median residual", "px", "low", True, "half of the check points are closer"),
    "max_px": Figure("Largest residual", "px", "low", True, "of a check point that counts"),
    "rmse_m": Figure("RMSE on the ground", "m", "low", True, "the same in meters"),
    "ce90_m": Figure("CE90 on the ground", "m", "low", True, "the same in meters"),
    "bias_m": Figure("Bias on the ground", "m", "low", True, "the same in meters"),
    "ncc": Figure("Correlation (NCC)", "", "high", True, "median over windows, whatever its sign"),
    "mi": Figure("Mutual information", "", "high", True, "of all windows together, in nats"),
    "ssim": Figure("Structural similarity (SSIM)", "", "high", True, "median over windows"),
    "truth_rmse_px": Figure("True error", "px", "low", True, "RMSE against the known displacement"),
    "truth_p95_px": Figure("True error, 95th percentile", "px", "low", True, "95 % of the overlap is closer"),
    "left_out_rms_px": Figure(
        "Landmarks left out", "px", "low", False, "RMS distance of landmarks from where the others put them"
    ),
    "check_points_used": Figure("Check points", "", "high", False, "held out from the fit, and matched"),
    "contradicted_px": Figure(
        "Second measure", "px", "low", False, "largest shared residual by another measure, beyond its errors"
    ),
    "shift_mean_px": Figure("Mean shift", "px", "low", False, "mean length of the whole correction"),
    "shift_max_px": Figure("Largest shift", "px", "low", False, "of the whole correction"),
    "local_mean_px": Figure("Mean local shift", "px", "low", False, "what the refinement added"),
    "local_max_px": Figure("Largest local shift", "px", "low", False, "what the refinement added"),
    "folding_percent": Figure("Folding", "%", "low", False, "part of the field that turns inside out"),
    "jacobian_min": Figure("Smallest J", "", "high", False, "smallest local change of area"),
    "jacobian_max": Figure("Largest J", "", "low", False, "largest local change of area"),
}

RASTERS = Catalog(
    figures=FIGURES,
    watched=(
        "rmse_px",
        "ce90_px",
        "bias_px",
        "ncc",
        "mi",
        "truth_rmse_px",
        "check_points_used",
        "shift_mean_px",
        "local_max_px",
    ),
    columns=("truth_rmse_px", "rmse_px", "rmse_m", "ce90_px", "bias_px", "ncc", "check_points_used"),
    states={"start": "Start", "initialize": "Initial", "refine": "End", "": ""},
)
"""For tables, outliers and the cohort's page."""
