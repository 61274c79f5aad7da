"""The start of a registration: a rigid, then affine transform, by a gated ladder of methods."""

import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import RegistrationError
from regflow.core.gate import Verdict, compute_figure_changes, judge_figures
from regflow.core.image import Image
from regflow.core.landmark_pairs import LandmarkPairs
from regflow.core.local_fit import SURE_SIGMAS, WindowEvidence
from regflow.core.resample import coarsen_image, resample_array
from regflow.core.similarity import normalized_mutual_information
from regflow.core.transform import Affine, Transform, is_reflecting
from regflow.io.transforms import write_transform
from regflow.methods.context import RunContext
from regflow.methods.initialize import METHODS
from regflow.methods.ladder import InitialTransform, LadderResult, run_ladder
from regflow.methods.result import MethodResult
from regflow.metrics.distances import ErrorScale
from regflow.stages import mirroring
from regflow.stages.landmarks import list_left_out_figures, read_landmark_pairs
from regflow.stages.shell import HEADER, Outcome, make_outcome, run_stage_work
from regflow.stages.volumes.memory import check_working
from regflow.stages.volumes.working import read_working

log = logging.getLogger(__name__)

EXAMINED_ACROSS = 48
"""Samples along the fixed image's longest side at which a candidate is examined: an organ's pose
shows at that."""

LIMITS: dict[str, dict[str, float]] = {
    "second_peak_ratio": {"fail_above": 0.95, "warn_above": 0.85},
    "drift_percent": {"fail_above": 8.0, "warn_above": 4.0},
    "overlap_dice": {"fail_below": 0.75, "warn_below": 0.85},
    "nmi_change": {"fail_below": -0.005},
    "nmi": {"fail_below": 1.04},
    "determinant": {"fail_below": 0.3, "fail_above": 3.0},
    "scale_min": {"fail_below": 0.6, "warn_below": 0.75},
    "scale_max": {"fail_above": 1.6, "warn_above": 1.35},
    "gain_sigmas": {"fail_below": -3.0},
    "left_out_percent": {"fail_above": 25.0, "warn_above": 12.0},
    "landmarks_outliers_percent": {"fail_above": 40.0, "warn_above": 20.0},
}
"""What the gate holds a candidate against; the figures are those of :class:`VolumeStartEvaluator`, sizes
relative to the change of size that both masks show. Right brain poses, other
contrasts and whole heads included, had ratios of the second peak of 0.4 to 0.7 and drifts below 2 percent;
a pose 10 degrees off drifts by 13 percent, and one 25 degrees off has ratios above 1.7."""


SIZES_AGREE = 1.5
"""Largest factor between a candidate's change of volume and that of the masks at which these confirm it."""


class VolumeStartEvaluator:
    """Measures candidates for one pair on coarse copies of it.

    Figures: ``second_peak_ratio``, mutual information of the best pose elsewhere, all orientations
    considered, as a part of the candidate's; ``drift_percent``, how far the candidate moves when it
    climbs to the nearest maximum, in percent of the fixed mask's radius; ``overlap_dice``, of the
    fixed mask and the moving mask brought onto it, where both images were seen (only when both have
    a mask); ``nmi``, normalized mutual information where either mask is, 1 to 2; ``nmi_change``
    against the start, where there was anything to compare; ``size_change``, the change of volume that both
    masks show where a candidate agrees with it, else 1; ``determinant``, ``scale_min`` and ``scale_max`` of
    the linear part in its units: a child's brain is as much smaller than an atlas as its mask says;
    ``gain_sigmas``, how much better than at the start the images explain each other within small
    windows, in standard errors (:mod:`regflow.core.local_fit`; not given where too few windows say); of a
    map through landmarks those of :func:`regflow.stages.landmarks.list_left_out_figures`.
    """

    def __init__(
        self, fixed: Image, moving: Image, start: Transform, limits: Mapping[str, Any], threads: int = 1
    ) -> None:
        from regflow.methods.initialize.information import is_cut
        from regflow.methods.initialize.search import measure_size_change

        self._cut = moving.mask is not None and is_cut(moving.mask)
        self._size_change = measure_size_change(fixed, moving)
        spacing = float((np.array(fixed.grid.size) * fixed.grid.spacing).max()) / EXAMINED_ACROSS
        self._fixed = coarsen_image(fixed, spacing)
        self._moving = coarsen_image(moving, spacing)
        self._limits = {**LIMITS, **limits}
        self._threads = threads
        self._scale = ErrorScale.from_images(fixed, moving)
        self._start = self._similarity(start)
        self._windows = WindowEvidence(fixed, moving, start, EXAMINED_ACROSS)

    def __call__(self, candidate: MethodResult) -> tuple[Verdict, float]:
        """Return the verdict and the similarity of a candidate.

        Raises:
            RegistrationError: it mirrors the image, or brings nothing onto the fixed one to compare.
        """
        from regflow.methods.initialize.rivals import peak_ambiguity

        transform = candidate.transform
        if is_reflecting(transform):
            raise RegistrationError("the map mirrors the image, which no movement does")
        figures = self._similarity(transform)
        similarity = figures["nmi"]
        if math.isnan(similarity):
            raise RegistrationError("the images share no samples there, or one is constant where they do")
        figures |= compute_figure_changes({"nmi": similarity}, self._start)
        figures.update(self._windows.measure_gain(transform))
        figures.update(list_left_out_figures(candidate.landmarks, self._scale))
        if isinstance(transform, Affine):
            figures.update(self._sizes(transform.linear))
            thoughts = peak_ambiguity(self._fixed, self._moving, transform, self._threads)
            figures["second_peak_ratio"] = thoughts.second_peak_ratio
            figures["drift_percent"] = 100 * thoughts.drift / thoughts.radius
        return judge_figures(figures, self._limits), similarity

    def _sizes(self, linear: NDArray[np.float64]) -> dict[str, float]:
        determinant, change = float(np.linalg.det(linear)), self._size_change
        if change is None or not 1 / SIZES_AGREE <= determinant / change <= SIZES_AGREE:
            change = 1.0
        scales = np.linalg.svd(linear, compute_uv=False) / change ** (1 / len(linear))
        return {
            "size_change": change,
            "determinant": determinant / change,
            "scale_min": float(scales.min()),
            "scale_max": float(scales.max()),
        }

    def _similarity(self, transform: Transform) -> dict[str, float]:
        def moved(part: NDArray[Any], outside: float, kind: str = "nearest") -> NDArray[Any]:
            return resample_array(part, self._moving.grid, self._fixed.grid, transform, kind, outside)

        values = moved(self._moving.channel, float(self._moving.channel.min()), "linear")
        region = self._fixed.mask
        figures: dict[str, float] = {}
        if self._moving.mask is not None and region is not None:
            mask = moved(self._moving.mask, 0.0)
            seen = moved(np.ones(self._moving.grid.shape, dtype=bool), 0.0)
            figures["overlap_dice"] = _dice(region & seen if self._cut else region, mask)
            region = region | mask
        figures["nmi"] = normalized_mutual_information(self._fixed.channel, values, region, bins=32)
        return figures


def align_volumes(
    fixed: Image,
    moving: Image,
    settings: Mapping[str, Any],
    *,
    threads: int = 1,
    seed: int = 0,
    log_file: Path | None = None,
    landmarks: LandmarkPairs | None = None,
) -> LadderResult:
    """Find the transform that brings the moving image near the fixed one.

    Args:
        fixed: working fixed image.
        moving: working moving image.
        settings: the ``initialize`` section of the configuration.
        threads: most threads to use; no result depends on it.
        seed: of every random choice.
        log_file: where elastix's own log goes, if it runs.
        landmarks: of both images, for methods that they drive.

    Returns:
        The best transform, which may be the headers' own alignment, the method ``header``.

    Raises:
        SettingError: an unknown method or option.
        RegistrationError: no method gave a transform, and under the headers' the images share nothing.
    """
    start = Affine.identity(fixed.grid.ndim)
    gate = settings.get("gate", {})
    examine = VolumeStartEvaluator(fixed, moving, start, gate, threads)
    found = run_ladder(
        "initialize",
        "volumes",
        METHODS,
        settings,
        (fixed, moving),
        InitialTransform(start, HEADER, _surely_better),
        RunContext(threads, seed, log_file=log_file, landmarks=landmarks),
        examine,
    )
    if found.verdict.status == "fail" or not isinstance(found.transform, Affine):
        return found
    limits = {**mirroring.LIMITS, **gate}
    return replace(
        found, verdict=mirroring.judge_mirroring(found.verdict, fixed, moving, found.transform, limits)
    )


def initialize(
    output: str | Path,
    *,
    sample: str,
    prepared: tuple[str, str],
    settings: Mapping[str, Any],
    seed: int = 0,
    threads: int = 1,
) -> Outcome:
    """Initialize one sample: ``transform.h5`` (fixed to moving), elastix's log, ``stage.json``.

    Args:
        output: directory to write.
        sample: its id.
        prepared: the fixed and the moving image's ``preprocess`` directories.
        settings: the ``initialize`` section of the configuration.
        seed: of every random choice.
        threads: most threads to use.
    """

    def work(folder: Path) -> Outcome:
        check_working(prepared, "initialize")
        fixed, moving = (read_working(path) for path in prepared)
        found = align_volumes(
            fixed,
            moving,
            settings,
            threads=threads,
            seed=seed,
            log_file=folder / "elastix.log",
            landmarks=read_landmark_pairs(prepared[1]),
        )
        write_transform(folder / "transform.h5", found.transform)
        return make_outcome(found.verdict, found.steps, **found.details)

    return run_stage_work("initialize", sample, output, prepared, work)


def _surely_better(candidate: Verdict, header: Verdict) -> bool:
    """Tell whether a candidate that the gate rejects is better than the headers, which it rejects, too.

    Mutual information of a small field of view full of speckle has maxima that mean nothing.
    """
    return candidate.figures.get("gain_sigmas", 0.0) >= SURE_SIGMAS


def _dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    total = int(a.sum()) + int(b.sum())
    return 2.0 * int((a & b).sum()) / total if total else 0.0
