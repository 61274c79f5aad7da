"""The deformation that is left after the affine transform, and its inverse, by a gated ladder."""

import importlib
import logging
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError, RegistrationError
from regflow.core.extent import measure_ball_diameter
from regflow.core.gate import Verdict, compute_figure_changes, judge_figures
from regflow.core.image import Image
from regflow.core.landmark_pairs import LandmarkPairs
from regflow.core.local_fit import SURE_SIGMAS, WindowEvidence
from regflow.core.resample import coarsen_image
from regflow.core.sampling import sample_channel
from regflow.core.similarity import lncc, normalized_mutual_information
from regflow.core.transform import Composite, DisplacementField, Transform, list_displacement_fields
from regflow.io.transforms import read_transform, write_transform
from regflow.methods.context import Pair, Prediction, RunContext
from regflow.methods.ladder import InitialTransform, LadderResult, run_ladder
from regflow.methods.refine import METHODS
from regflow.methods.result import MethodResult
from regflow.methods.table import find_method, list_methods_of_kind
from regflow.metrics.distances import ErrorScale
from regflow.metrics.jacobian import compute_folding_figures
from regflow.stages.landmarks import list_left_out_figures, read_landmark_pairs
from regflow.stages.shell import Outcome, make_outcome, read_outcome, record_step, run_stage_work
from regflow.stages.volumes.memory import check_working
from regflow.stages.volumes.working import read_working

log = logging.getLogger(__name__)

EXAMINED_ACROSS = 112
"""Samples along the fixed image's longest side at which similarities are compared (some 2 mm for a
head): finer ones take seconds and decide the same."""
EXPLAINED_ACROSS = 64
"""The same for how well the images explain each other in windows, which speckle must not fill."""

LIMITS: dict[str, dict[str, float]] = {
    "lncc_change": {"fail_below": -0.01},
    "nmi_change": {"fail_below": -0.01},
    "folding_percent": {"fail_above": 0.5, "warn_above": 0.0},
    "displacement_max_percent": {"warn_above": 37.5},
    "gain_sigmas": {"fail_below": -3.0},
    "doubted_gain_sigmas": {"fail_below": SURE_SIGMAS},
    "left_out_percent": {"fail_above": 12.0, "warn_above": 6.0},
    "landmarks_outliers_percent": {"fail_above": 40.0, "warn_above": 20.0},
}
"""What the gate holds a candidate against; the figures are those of :class:`VolumeRefinementEvaluator`."""

INITIAL = "initial"
"""Name of the transform that the stage begins with, among its tries."""

INVERSE_LIMITS: dict[str, dict[str, float]] = {
    "inverse_mean_voxels": {"fail_above": 0.5, "warn_above": 0.1},
}


@dataclass(frozen=True, eq=False)
class VolumeRefinement:
    """What the stage came to.

    Attributes:
        forward: fixed to moving world points.
        inverse: moving to fixed world points.
        ladder: the ladder's record.
    """

    forward: Transform
    inverse: Transform
    ladder: LadderResult


class VolumeRefinementEvaluator:
    """Measures candidates for one pair against the start.

    Figures: ``lncc_change`` and ``nmi_change``, local correlation and normalized mutual information
    inside the fixed mask minus those of the start; ``folding_percent`` of the samples;
    ``jacobian_min``; ``displacement_max_percent``, of the fixed mask's size (the diameter of a ball of
    its volume); ``inverse_mean_voxels`` and ``inverse_max_voxels``, the
    error of the deformable part's inverse inside the mask, in samples of its grid; ``gain_sigmas``, how
    much better than at the start the images explain each other within small windows, in standard errors
    (:mod:`regflow.core.local_fit`; not given where too few windows say); of a spline through landmarks those
    of :func:`regflow.stages.landmarks.list_left_out_figures`.

    A field has enough freedom to raise the similarity that it climbs on noise alone, and then it hardly
    raises the windows' figure. On a start that is in doubt itself it must do so surely: there the figure
    is named ``doubted_gain_sigmas`` and has a limit of its own.
    """

    def __init__(
        self,
        fixed: Image,
        moving: Image,
        start: Transform,
        limits: Mapping[str, Any],
        *,
        doubted: bool = False,
    ) -> None:
        spacing = float((np.array(fixed.grid.size) * fixed.grid.spacing).max()) / EXAMINED_ACROSS
        self._fixed, self._moving = coarsen_image(fixed, spacing), coarsen_image(moving, spacing)
        self._limits = {**LIMITS, **INVERSE_LIMITS, **limits}
        self._origin, self._doubted = start, doubted
        self._scale = ErrorScale.from_images(fixed, moving)
        self._mask, self._size = fixed.mask, measure_ball_diameter(fixed.mask, fixed.grid)
        self._start = self._similarity(start)
        self._windows = WindowEvidence(fixed, moving, start, EXPLAINED_ACROSS)
        self._inverses: list[tuple[Transform, Transform, dict[str, Any]]] = []

    def __call__(self, candidate: MethodResult) -> tuple[Verdict, float]:
        """Return the verdict and the similarity of a candidate.

        Raises:
            RegistrationError: it has no inverse.
        """
        transform = candidate.transform
        found = self._similarity(transform)
        similarity = found["lncc"] + found["nmi"]
        figures = compute_figure_changes(found, self._start)
        figures.update(_deformation(transform, self._size))
        figures.update(list_left_out_figures(candidate.landmarks, self._scale))
        if transform is not self._origin:
            figures.update(self._gain(transform))
        limits = self._limits_for(figures)
        if judge_figures(figures, limits).status != "fail":
            figures.update(self._inverted(transform)[1])
        return judge_figures(figures, limits), -math.inf if math.isnan(similarity) else similarity

    def _limits_for(self, figures: Mapping[str, float]) -> dict[str, Any]:
        """Return the limits that count: between two contrasts local correlation may fall on the right way.

        Its sign is that of the contrasts, tissue by tissue; windows that surely explain each other better
        know no sign, and overrule it.
        """
        gain = max(figures.get(name, -math.inf) for name in ("gain_sigmas", "doubted_gain_sigmas"))
        sure = gain >= SURE_SIGMAS
        return {name: one for name, one in self._limits.items() if not (sure and name == "lncc_change")}

    def find_inverse(self, transform: Transform) -> tuple[Transform, dict[str, Any]]:
        """Return a candidate's inverse and the record of that step.

        Raises:
            RegistrationError: there is none.
        """
        known = next((item for item in self._inverses if item[0] is transform), None)
        if known is None:
            self._inverted(transform)
            known = self._inverses[-1]
        return known[1], known[2]

    def _gain(self, transform: Transform) -> dict[str, float]:
        found = self._windows.measure_gain(transform)
        return {"doubted_gain_sigmas": found.get("gain_sigmas", math.nan)} if self._doubted else found

    def _inverted(self, transform: Transform) -> tuple[Transform, dict[str, float]]:
        steps: list[dict[str, Any]] = []
        with record_step(steps, "inverse") as record:
            inverse = transform.inverse()
            figures = _inverse_figures(transform, inverse, self._mask)
            record.update(figures)
        self._inverses.append((transform, inverse, steps[0]))
        return inverse, figures

    def _similarity(self, transform: Transform) -> dict[str, float]:
        low = float(self._moving.channel.min())
        moved = sample_channel(
            self._moving.channel, self._moving.grid, self._fixed.grid, transform, outside=low
        )
        fixed, mask = self._fixed.channel, self._fixed.mask
        return {"lncc": lncc(fixed, moved, mask), "nmi": normalized_mutual_information(fixed, moved, mask)}


def deform_volumes(
    fixed: Image,
    moving: Image,
    initial: Transform,
    settings: Mapping[str, Any],
    *,
    doubted: bool = False,
    threads: int = 1,
    seed: int = 0,
    log_file: Path | None = None,
    prediction: Prediction | None = None,
    landmarks: LandmarkPairs | None = None,
) -> VolumeRefinement:
    """Find the deformation and its inverse.

    Args:
        fixed: working fixed image.
        moving: working moving image.
        initial: the initializer's transform.
        settings: the ``refine`` section of the configuration.
        doubted: the gate did not pass ``initial``: a deformation needs more evidence.
        threads: most threads to use; no result depends on it.
        seed: of every random choice.
        log_file: where elastix's own log goes, if it runs.
        prediction: what a network has answered for this pair already.
        landmarks: of both images, for methods that they drive.

    Returns:
        The best transform; where no method found better, ``initial`` itself as the method :data:`INITIAL`.

    Raises:
        SettingError: an unknown method or option.
        RegistrationError: ``initial`` has no inverse.
    """
    limits = settings.get("gate", {})
    examine = VolumeRefinementEvaluator(fixed, moving, initial, limits, doubted=doubted)
    found = run_ladder(
        "refine",
        "volumes",
        METHODS,
        settings,
        (fixed, moving),
        InitialTransform(initial, INITIAL, _never),
        RunContext(threads, seed, log_file=log_file, prediction=prediction, landmarks=landmarks),
        examine,
    )
    inverse, record = examine.find_inverse(found.transform)
    return VolumeRefinement(found.transform, inverse, replace(found, steps=[*found.steps, record]))


def _never(candidate: Verdict, initial: Verdict) -> bool:
    """Tell that no rejected candidate is better: the gate compares each with the initial transform."""
    return False


def load_ahead(settings: Mapping[str, Any]) -> None:
    """Import what the first method computes with; some libraries take seconds, best beside other work.

    Args:
        settings: the ``refine`` section of the configuration.

    Raises:
        InputError: an unknown method.
    """
    first = find_method(list_methods_of_kind(METHODS, "volumes"), settings["methods"][0], "refine")
    first.load()
    for library in first.libraries:
        importlib.import_module(library)


def refine(
    output: str | Path,
    *,
    sample: str,
    prepared: tuple[str, str],
    initial: str,
    settings: Mapping[str, Any],
    seed: int = 0,
    threads: int = 1,
    prediction: Prediction | None = None,
) -> Outcome:
    """Refine one sample: ``transform.h5`` (fixed to moving), ``inverse.h5``, ``stage.json``.

    Args:
        output: directory to write.
        sample: its id.
        prepared: the fixed and the moving image's ``preprocess`` directories.
        initial: the sample's ``initialize`` directory.
        settings: the ``refine`` section of the configuration.
        seed: of every random choice.
        threads: most threads to use.
        prediction: what a network has answered for this sample already.
    """

    def work(folder: Path) -> Outcome:
        check_working(prepared, "refine")
        with ThreadPoolExecutor(1) as beside:
            ahead = beside.submit(load_ahead, settings)
            fixed, moving = (read_working(path) for path in prepared)
            start = read_transform(Path(initial) / "transform.h5")
            ahead.result()
        found = deform_volumes(
            fixed,
            moving,
            start,
            settings,
            doubted=read_outcome(initial).verdict.status != "pass",
            threads=threads,
            seed=seed,
            log_file=folder / "elastix.log",
            prediction=prediction,
            landmarks=read_landmark_pairs(prepared[1]),
        )
        write_transform(folder / "transform.h5", found.forward)
        write_transform(folder / "inverse.h5", found.inverse)
        ladder = found.ladder
        return make_outcome(ladder.verdict, ladder.steps, **ladder.details)

    return run_stage_work("refine", sample, output, [*prepared, initial], work)


def predict_batch(jobs: Sequence[Mapping[str, Any]]) -> dict[str, Prediction]:
    """Ask the first method about all samples that got so far, where it can be asked about several together.

    Args:
        jobs: the arguments of :func:`refine`, of each sample.

    Returns:
        What it answered, by sample.
    """
    settings = jobs[0]["settings"]
    name = settings["methods"][0]
    method = list_methods_of_kind(METHODS, "volumes").get(name)
    predict = method.load_predict() if method is not None else None
    if method is None or predict is None:
        return {}
    ready = [
        job
        for job in jobs
        if all(read_outcome(part).state == "done" for part in (*job["prepared"], job["initial"]))
    ]
    requests = [
        Pair(
            read_working(job["prepared"][0]),
            read_working(job["prepared"][1]),
            read_transform(Path(job["initial"]) / "transform.h5"),
        )
        for job in ready
    ]
    options = method.complete(settings.get("options", {}).get(name, {}))
    context = RunContext(jobs[0]["threads"], jobs[0]["seed"])
    try:
        found = predict(requests, options, context, settings["batch"])
    except (InputError, RegistrationError) as error:
        # Each sample then meets the reason in its own ladder, which may have other methods.
        log.info("refine: asked one by one: %s", error)
        return {}
    return {job["sample"]: answer for job, answer in zip(ready, found, strict=True)}


def _deformation(transform: Transform, size: float) -> dict[str, float]:
    """Return the figures of the deformable part; none when the transform is linear.

    Args:
        transform: the candidate.
        size: of the object, in world units.
    """
    parts = list_displacement_fields(transform)
    if not parts:
        return {}
    found = compute_folding_figures(transform)
    return {
        **{name: found[name] for name in ("folding_percent", "jacobian_min")},
        "displacement_max_percent": 100 / size * max(_farthest(part) for part in parts),
    }


def _farthest(field: DisplacementField) -> float:
    """Return the longest displacement of a field, in world units."""
    return float(np.sqrt((field.vectors**2).sum(0).max()))


def _inverse_figures(
    forward: Transform, inverse: Transform, mask: NDArray[np.bool_] | None
) -> dict[str, float]:
    """Return the error of the deformable part's inverse inside the mask, in samples of its grid."""
    from regflow.core import fields

    there, back = list_displacement_fields(forward), list_displacement_fields(Composite((inverse,)))
    if not there:
        return {}
    pairs = zip(there, reversed(back), strict=True)
    residuals = [
        fields.measure_inverse_residual(*(fields.to_voxels(part.vectors, part.grid) for part in pair))
        for pair in pairs
    ]
    inside = [r[mask] if mask is not None and mask.shape == r.shape else r.ravel() for r in residuals]
    return {
        "inverse_mean_voxels": max(float(r.mean()) for r in inside),
        "inverse_max_voxels": max(float(r.max()) for r in inside),
    }
