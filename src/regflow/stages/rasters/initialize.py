"""The start of a raster's registration: a linear map in the fixed CRS, by a gated ladder of methods."""

import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regflow.core.errors import RegistrationError
from regflow.core.gate import Verdict, judge_figures
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.landmark_pairs import LandmarkPairs
from regflow.core.similarity import normalized_mutual_information
from regflow.core.transform import Affine, Transform
from regflow.methods.context import RunContext
from regflow.methods.initialize import METHODS
from regflow.methods.initialize.agreement import AgreementJudge
from regflow.methods.initialize.planar import (
    Matrix,
    coarsen_to,
    crop_to_overlap,
    find_common_spacing,
    find_corners,
    find_matrix,
    lacks_georeference,
    linearize_at,
    map_points,
    masked_image,
    resample_to,
)
from regflow.methods.initialize.projective import preserves_orientation
from regflow.methods.ladder import InitialTransform, LadderResult, run_ladder
from regflow.methods.result import MethodResult
from regflow.stages import mirroring
from regflow.stages.landmarks import read_landmark_pairs
from regflow.stages.shell import HEADER, Outcome, make_outcome, run_stage_work

if TYPE_CHECKING:
    from regflow.methods.initialize.gradient_shift import GradientShift
    from regflow.methods.initialize.linear_refinement import WindowMatcher

log = logging.getLogger(__name__)

EXAMINED_ACROSS = 1024
"""Pixels along the fixed image's longest side at which windows are asked about a candidate."""
RIVALS_ACROSS = 256
"""The same for the comparison with all other shifts."""
SCATTERS_ALLOWED = 2.0
MOST_ALLOWED = 1.0
"""Drift that is not counted, in median distances of the windows from the map they ask for, and at
most in pixels of the examined image: where an answer is wrong the windows scatter, too."""
REACH = 12
"""How far the windows look, in pixels of the examined image."""

LIMITS: dict[str, dict[str, float]] = {
    "neg_log10_p": {"fail_below": 3.5, "warn_below": 5.0},
    "agreeing_share": {"fail_below": 0.15, "warn_below": 0.25},
    "drift_px": {"fail_above": 1.0, "warn_above": 0.5},
    "second_peak_ratio": {"fail_above": 0.9, "warn_above": 0.75},
    "overlap_share": {"fail_below": 0.05, "warn_below": 0.15},
    "nmi_change": {"fail_below": -0.05},
    "determinant": {"fail_below": 0.02, "fail_above": 50.0},
    "scale_min": {"fail_below": 0.15, "warn_below": 0.3},
    "scale_max": {"fail_above": 7.0, "warn_above": 3.5},
    "scale_ratio": {"fail_above": 1.6, "warn_above": 1.25},
    "left_out_rms_px": {"warn_above": 3.0},
    "landmarks_outliers_percent": {"fail_above": 40.0, "warn_above": 20.0},
}
"""What the gate holds a candidate against; the figures are those of :class:`SceneStartEvaluator`."""

CONFIRMED_SIGMAS = 5.0
"""Agreement of the whole pictures from which windows that find too little, or another shift that is as
good, leave a map unconfirmed and do not refute it."""
SURE_SIGMAS = 9.0
"""Agreement that finding too little leaves nothing to say against."""
REFUTED, BACKED = 0.8, 1.1
"""Windows are wrong where what they ask for leaves less than this part of the agreement. Where that is sure,
they must raise it by as much: in bent pictures no linear map suits all of them."""
OVERWHELMING_SIGMAS = 12.0
"""From where no more agreement makes a map any likelier, and windows tell which of two is more exact."""
TOO_LITTLE = ("neg_log10_p", "agreeing_share", "second_peak_ratio", "nmi_change")
"""Figures that say how much was found; the others say that something is wrong."""
SURE_NEG_LOG10_P = 3.5
"""A candidate that the gate rejects replaces the georeference only with so much more evidence than it:
what would be too little by itself."""


class SceneStartEvaluator:
    """Measures candidates for one pair.

    Figures: ``neg_log10_p``, decimal logarithm of one over the chance of so many small windows
    agreeing with each other where they belong, if the images were unrelated there;
    ``agreeing_share`` of the windows; ``drift_px``, how far a corner moves at most, in pixels of the
    coarser image, when the agreeing windows have their way, beyond what they scatter (not given
    where too few agree to say); ``second_peak_ratio``, similarity of edges at the best other shift as a part
    of the candidate's; ``overlap_share``, valid pixels of the smaller image that have a partner;
    ``nmi``, normalized mutual information there, and ``nmi_change`` against the start;
    ``agreement_sigmas``, how many standard deviations the agreement of the whole pictures, in the
    directions of edges and in mutual information, lies above that at other shifts; ``determinant``,
    ``scale_min``, ``scale_max`` and their ``scale_ratio`` at the fixed image's center; of a map through
    landmarks how far those lie from the fit of the others, in pixels of the moving image
    (:class:`~regflow.methods.result.LandmarkErrors`): as far they explain a drift.

    In a scene so small that the gradients of all its pixels say more than windows do, ``neg_log10_p``,
    ``drift_px`` and ``second_peak_ratio`` are theirs, and there is no ``agreeing_share``.
    """

    def __init__(
        self, fixed: Image, moving: Image, start: Transform, limits: Mapping[str, Any], seed: int = 0
    ) -> None:
        self._fixed, self._moving = fixed, moving
        self._limits = {**LIMITS, **limits}
        self._seed = seed
        self._origin = start
        self._windows: dict[tuple[float, Grid], WindowMatcher] = {}
        self._agree = AgreementJudge(fixed, moving)
        self._start = self._similarity(self._asked(find_matrix(start)).fixed, find_matrix(start))

    def __call__(self, candidate: MethodResult) -> tuple[Verdict, float]:
        """Return the verdict of a candidate and how likely it is beside others, higher is better.

        The latter compares maps of any origin, the georeference among them: the agreement of the whole
        pictures, and between maps about which that leaves no doubt the evidence of windows.

        Raises:
            RegistrationError: it mirrors or collapses the scene, or leaves no overlap.
        """
        matrix = find_matrix(candidate.transform)
        figures = self._shape(matrix)
        if not _sane(figures):
            raise RegistrationError("the map mirrors the scene, or changes its size beyond all measure")
        windows = self._asked(matrix)
        figures.update(self._similarity(windows.fixed, matrix))
        figures["nmi_change"] = figures["nmi"] - self._start["nmi"]
        if not figures["overlap_share"] > 0:
            raise RegistrationError("the map leaves the scenes without valid pixels in common")
        sigmas = self._agree(matrix).sigmas
        figures["agreement_sigmas"] = sigmas
        whole = self._gradients(matrix)
        matches = windows.match_edges(matrix, REACH)
        figures.update(neg_log10_p=matches.neg_log10_p, agreeing_share=matches.share)
        if whole is None and candidate.landmarks is None and self._is_hopeless(figures):
            # What else could be measured would change neither the verdict nor the map's rank.
            return self._judged(figures), _rank(figures)
        figures.update(self._drift(windows, matrix, sigmas))
        figures["second_peak_ratio"] = self._rivals(matrix)
        if whole is not None and whole.neg_log10_p > figures["neg_log10_p"]:
            figures.pop("agreeing_share")
            figures["neg_log10_p"], figures["drift_px"] = whole.neg_log10_p, whole.pixels
            figures["second_peak_ratio"] = whole.second_peak_ratio
        if candidate.landmarks is not None:
            errors = candidate.landmarks.list_figures("px", float(self._moving.grid.spacing.max()))
            figures.update(errors)
            if "drift_px" in figures:
                figures["drift_px"] = max(figures["drift_px"] - errors["left_out_rms_px"], 0.0)
        return self._judged(figures), _rank(figures)

    def _is_hopeless(self, figures: Mapping[str, float]) -> bool:
        """Tell whether neither windows nor the whole pictures say anything for a map."""
        return self._breaks(figures, "neg_log10_p") and figures["agreement_sigmas"] < CONFIRMED_SIGMAS

    def _judged(self, figures: Mapping[str, float]) -> Verdict:
        """Hold figures against limits; finding too little does not refute what the whole pictures confirm."""
        verdict = judge_figures(figures, self._limits)
        sigmas = figures["agreement_sigmas"]
        if verdict.status == "pass" or sigmas < CONFIRMED_SIGMAS:
            return verdict
        little = set(TOO_LITTLE)
        if figures["second_peak_ratio"] > 1 and not lacks_georeference(self._fixed):
            # Another shift is better, and the georeference does not speak for this one.
            little.remove("second_peak_ratio")
        # Where it is not measured, the gradients of a small scene ask for the drift, and they are no chance.
        asked = figures.get("drift_agreement_ratio", math.inf)
        if self._breaks(figures, "neg_log10_p") or asked < (BACKED if sigmas >= SURE_SIGMAS else REFUTED):
            # Windows that agree by chance, or along outlines that both pictures share, ask for anything.
            little.add("drift_px")
        against = judge_figures(
            figures, {name: bounds for name, bounds in self._limits.items() if name not in little}
        )
        if against.status == "fail":
            return verdict
        drifts = "drift_px" in figures and self._breaks(figures, "drift_px")
        if sigmas >= SURE_SIGMAS and figures["second_peak_ratio"] <= 1 and not drifts:
            return against
        if verdict.status == "warn":
            return verdict
        reason = f"not confirmed by windows: {verdict.reason} (agreement {sigmas:.1f} standard deviations)"
        return Verdict("warn", reason, verdict.figures)

    def _breaks(self, figures: Mapping[str, float], name: str) -> bool:
        """Tell whether a figure is beyond the limit at which a map fails."""
        return judge_figures(figures, {name: self._limits.get(name, {})}).status == "fail"

    def is_start_as_near(self, transform: Transform) -> bool:
        """Tell whether windows are, at the start, no farther from where they belong than under a map.

        Where the ground is bent the best linear map is a matter of taste, and the start's may be as good.
        """
        from regflow.methods.initialize.linear_refinement import measure_remaining_error

        before, after = find_matrix(self._origin), find_matrix(transform)
        whole = [self._gradients(matrix) for matrix in (before, after)]
        if whole[0] is not None and whole[1] is not None:
            return whole[0].pixels <= whole[1].pixels
        windows = self._asked(after)
        fixed = windows.fixed
        ends = find_corners(fixed.grid)
        back = map_points(np.asarray(np.linalg.inv(before), np.float64), map_points(after, ends))
        if np.linalg.norm(fixed.grid.to_index(back) - fixed.grid.to_index(ends), axis=1).max() > REACH:
            return False
        found = measure_remaining_error(windows, (before, after), REACH)
        return found is not None and found[0] <= found[1]

    def _asked(self, matrix: Matrix) -> "WindowMatcher":
        """Return the windows of the fixed image at the spacing of examination."""
        from regflow.methods.initialize.linear_refinement import WindowMatcher

        fixed = crop_to_overlap(self._fixed, self._moving.grid, matrix)
        spacing = self._spacing(fixed.grid, matrix, EXAMINED_ACROSS)
        key = spacing, fixed.grid
        if key not in self._windows:
            self._windows[key] = WindowMatcher(coarsen_to(fixed, spacing), self._moving)
        return self._windows[key]

    def _spacing(self, grid: Grid, matrix: Matrix, across: int) -> float:
        longest = float((np.array(grid.size) * grid.spacing).max())
        return max(find_common_spacing(grid, self._moving.grid, matrix), longest / across)

    def _shape(self, matrix: Matrix) -> dict[str, float]:
        linear = linearize_at(matrix, self._fixed.grid.center)
        scales = np.linalg.svd(linear, compute_uv=False)
        determinant = float(np.linalg.det(linear))
        if determinant > 0 and not preserves_orientation(matrix, self._overlap_corners(matrix)):
            determinant = -1.0
        return {
            "determinant": determinant,
            "scale_min": float(scales.min()),
            "scale_max": float(scales.max()),
            "scale_ratio": float(scales.max() / scales.min()) if scales.min() > 0 else math.inf,
        }

    def _overlap_corners(self, matrix: Matrix) -> Matrix:
        return find_corners(crop_to_overlap(self._fixed, self._moving.grid, matrix).grid)

    def _similarity(self, fixed: Image, matrix: Matrix) -> dict[str, float]:
        there = resample_to(self._moving, fixed.grid, matrix)
        both = _mask(fixed) & _mask(there)
        count = int(both.sum())
        inside = min(
            _area(self._fixed),
            _area(self._moving) / abs(np.linalg.det(linearize_at(matrix, fixed.grid.center))),
        )
        nmi = (
            normalized_mutual_information(fixed.channel, there.channel, both, bins=32) if count else math.nan
        )
        pixel = float(np.prod(fixed.grid.spacing))
        return {"overlap_share": count * pixel / inside, "nmi": 1.0 if math.isnan(nmi) else nmi}

    def _drift(self, windows: "WindowMatcher", matrix: Matrix, sigmas: float) -> dict[str, float]:
        """Return by how much windows ask to move a corner, and what is left of the agreement once it is.

        Nothing where too few of them agree.
        """
        from regflow.methods.initialize.linear_refinement import measure_correction

        fixed = windows.fixed
        _, step, scatter = measure_correction(windows, matrix, REACH, self._seed)
        if step is None:
            return {}
        ends = fixed.grid.to_index(find_corners(fixed.grid))
        moved = float(np.linalg.norm(map_points(step, ends) - ends, axis=1).max())
        # Where the ground itself is bent, windows scatter about every linear map, and as far as
        # they do the best of them is a matter of taste: that is left to the refine stage.
        beyond = max(0.0, moved - min(SCATTERS_ALLOWED * scatter, MOST_ALLOWED))
        unit = find_common_spacing(self._fixed.grid, self._moving.grid, matrix)
        figures = {"drift_px": beyond * float(fixed.grid.spacing.max()) / unit}
        if beyond and sigmas > 0:
            asked = matrix @ fixed.grid.affine @ step @ np.linalg.inv(fixed.grid.affine)
            figures["drift_agreement_ratio"] = self._agree(asked).sigmas / sigmas
        return figures

    def _gradients(self, matrix: Matrix) -> "GradientShift | None":
        """Return where the gradients of a small scene belong; None where it is larger or they do not say."""
        from regflow.methods.initialize.gradient_shift import find_significant_shift, has_few_pixels

        fixed = crop_to_overlap(self._fixed, self._moving.grid, matrix)
        if not has_few_pixels(fixed, self._moving, matrix):
            return None
        return find_significant_shift(fixed, self._moving, matrix, REACH)

    def _rivals(self, matrix: Matrix) -> float:
        from regflow.methods.initialize.correlation import second_peak_ratio

        # As fine as the smaller picture needs, whichever of the two is fixed.
        overlap = crop_to_overlap(self._fixed, self._moving.grid, matrix).grid
        finest = self._spacing(self._fixed.grid, matrix, EXAMINED_ACROSS)
        fixed = coarsen_to(self._fixed, max(self._spacing(overlap, matrix, RIVALS_ACROSS), finest))
        # Without coordinates the first pixels lie on each other by mere convention.
        start = None if lacks_georeference(self._fixed) else find_matrix(self._origin)
        return second_peak_ratio(fixed, self._moving, matrix, start)


def align_scenes(
    fixed: Image,
    moving: Image,
    settings: Mapping[str, Any],
    *,
    threads: int = 1,
    seed: int = 0,
    landmarks: LandmarkPairs | None = None,
) -> LadderResult:
    """Find the linear map that brings the moving image onto the fixed one.

    Args:
        fixed: in-memory 2-D image ``(1, H, W)`` with its mask; its grid is in world units.
        moving: likewise, its grid in the fixed image's CRS.
        settings: the ``initialize`` section of the configuration.
        threads: most threads to use; no result depends on it.
        seed: of every random choice.
        landmarks: of both images, for methods that they drive.

    Returns:
        The map from fixed to moving world points, an affine or a homography, with the gate's
        verdict; the start itself, the method ``header``, where no map brings the windows nearer to
        where they belong.

    Raises:
        SettingError: an unknown method or option.
        RegistrationError: no method gave a map and under the georeference the scenes do not overlap,
            or an image is constant or has no valid pixel.
    """
    from scipy import fft

    start = Affine.identity(2)
    pair = masked_image(fixed, "fixed"), masked_image(moving, "moving")
    examine = SceneStartEvaluator(*pair, start, settings.get("gate") or {}, seed)
    # Transforms of many windows are shared out; each is one thread's.
    with fft.set_workers(threads):
        found = run_ladder(
            "initialize",
            "rasters",
            METHODS,
            settings,
            pair,
            InitialTransform(start, HEADER, _surely_better),
            RunContext(threads, seed, landmarks=landmarks),
            examine,
        )
        limits = {**mirroring.LIMITS, **(settings.get("gate") or {})}
        return _explain_mirrors(_kept(start, found, examine), *pair, limits, seed)


def _explain_mirrors(
    found: LadderResult, fixed: Image, moving: Image, limits: Mapping[str, Any], seed: int
) -> LadderResult:
    """Say so where the moving picture is a mirror image, as of a turned section, whatever was found."""
    from regflow.methods.initialize.features.matching import is_mirrored

    if not lacks_georeference(fixed):
        return found
    if found.verdict.status != "fail":
        if not isinstance(found.transform, Affine):
            return found
        judged = mirroring.judge_mirroring(found.verdict, fixed, moving, found.transform, limits)
        return replace(found, verdict=judged)
    if not is_mirrored(fixed, moving, seed):
        return found
    told = "the moving image seems to be a mirror image of the fixed one; turn it left for right first"
    return replace(found, verdict=replace(found.verdict, reason=f"{told} ({found.verdict.reason})"))


def _kept(start: Affine, found: LadderResult, examine: SceneStartEvaluator) -> LadderResult:
    """Return the start itself, as the method ``header``, where what was found is no better."""
    if found.kept or not examine.is_start_as_near(found.transform):
        return found
    result = MethodResult(start)
    verdict, _ = examine(result)
    if verdict.severity > found.verdict.severity:
        return found
    log.info("initialize: %s is no better than the georeference, which is kept", found.method)
    step = {"name": HEADER, "seconds": 0.0, "state": "done", "verdict": verdict.to_dict()}
    return LadderResult(result, HEADER, verdict, [*found.steps, step], kept=True)


def initialize(
    output: str | Path,
    *,
    sample: str,
    prepared: tuple[str, str],
    settings: Mapping[str, Any],
    seed: int = 0,
    threads: int = 1,
) -> Outcome:
    """Initialize one sample: ``transform.json`` (fixed to moving) and ``stage.json``.

    Args:
        output: directory to write.
        sample: its id.
        prepared: the fixed and the moving scene's ``preprocess`` directories.
        settings: the ``initialize`` section of the configuration.
        seed: of every random choice.
        threads: most threads to use.
    """

    def work(folder: Path) -> Outcome:
        from regflow.io.raster_transforms import write_raster_transform
        from regflow.stages.rasters.working import read_overview

        fixed, moving = (read_overview(path) for path in prepared)
        landmarks = read_landmark_pairs(prepared[1])
        found = align_scenes(fixed, moving, settings, threads=threads, seed=seed, landmarks=landmarks)
        write_raster_transform(folder, found.transform, fixed.grid)
        return make_outcome(found.verdict, found.steps, **found.details)

    return run_stage_work("initialize", sample, output, prepared, work)


def _surely_better(candidate: Verdict, header: Verdict) -> bool:
    """Tell whether a candidate has so much more evidence than the georeference that chance is ruled out."""
    return candidate.figures["neg_log10_p"] >= header.figures["neg_log10_p"] + SURE_NEG_LOG10_P


def _rank(figures: Mapping[str, float]) -> float:
    """Return how likely a map is beside others, higher is better."""
    return min(figures["agreement_sigmas"], OVERWHELMING_SIGMAS) + 1e-3 * figures["neg_log10_p"]


def _sane(figures: Mapping[str, float]) -> bool:
    """Tell whether a map can be drawn at all: not mirrored, not collapsed, not blown up."""
    return figures["determinant"] > 0 and figures["scale_min"] > 0.05 and figures["scale_max"] < 20


def _mask(image: Image) -> Any:
    return np.ones(image.grid.shape, bool) if image.mask is None else image.mask


def _area(image: Image) -> float:
    """Return the area of the valid pixels in world units squared."""
    return max(float(_mask(image).sum()), 1.0) * float(np.prod(image.grid.spacing))
