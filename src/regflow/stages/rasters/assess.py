"""How well two scenes lie on each other: check points, similarity, the field, and a verdict."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import RegistrationError
from regflow.core.files import read_json
from regflow.core.gate import Verdict, compute_figure_changes, find_worst_verdict
from regflow.core.image import Image
from regflow.core.json_schema import fill_defaults
from regflow.core.transform import Affine, Transform
from regflow.core.units import describe_place, find_meters_per_pixel, find_meters_per_unit
from regflow.methods.context import RunContext
from regflow.methods.matching.second_measure import describe_cross_check
from regflow.methods.matching.tie_point_set import LEAST_VALID
from regflow.metrics.catalog import STATES
from regflow.metrics.check_points import (
    CheckPoints,
    average_residuals,
    compute_residual_figures,
    count_reasons,
    measure_check_points,
    measure_own_error_ce90,
)
from regflow.metrics.jacobian import compute_folding_figures
from regflow.stages.assessment import assess_sample
from regflow.stages.rasters.confirmation import judge_scene
from regflow.stages.rasters.probes import ComparisonWindows
from regflow.stages.shell import Outcome, read_outcome, record_step

if TYPE_CHECKING:
    from regflow.core.chunks import Workers

log = logging.getLogger(__name__)

LIMITS: dict[str, dict[str, float]] = {
    "truth_rmse_px_refine": {"fail_above": 1.5, "warn_above": 0.5},
    "truth_rmse_px_change": {"fail_above": 0.2, "warn_above": 0.05},
    "check_points_used": {"fail_below": 8, "warn_below": 20},
    "check_points_used_percent": {"fail_below": 5.0, "warn_below": 15.0},
    "ce90_px_refine": {"fail_above": 3.0, "warn_above": 0.5},
    "median_px_refine": {"fail_above": 1.5},
    "rmse_px_change": {"fail_above": 0.2, "warn_above": 0.05},
    "ncc_change": {"fail_below": -0.05, "warn_below": -0.01},
    "folding_percent": {"fail_above": 0.0},
    "contradicted_px": {"warn_above": 0.25},
}

MEANINGS: dict[str, str] = {
    "truth_rmse_px_refine": "root mean squared distance from the known displacement at the end",
    "truth_rmse_px_change": "rise of that distance from the better of start and initial transform",
    "check_points_used": "check points that were matched and held out from the fit",
    "check_points_used_percent": "their part of the check points laid where both scenes have data",
    "ce90_px_refine": "radius that holds 90 % of the check points' residuals at the end",
    "median_px_refine": "distance within which half of the check points are at the end",
    "rmse_px_change": "rise of the check points' residuals from the initial transform to the end",
    "ncc_change": "change of the windows' correlation from start to end",
    "folding_percent": "part of the field that turns inside out",
    "contradicted_px": "what a second measure of the check points sees left where the first sees nothing",
}
"""What each limited figure is, for the reference of keys."""

OPTIONS: dict[str, dict[str, Any]] = {
    "check_points": {
        "type": "integer",
        "minimum": 16,
        "description": "correspondences to lay out that no fit has seen",
        "default": 256,
    },
    "window_px": {
        "type": "integer",
        "minimum": 9,
        "maximum": 255,
        "description": "side of the windows that are compared at check points, in pixels of the working grid",
        "default": 49,
    },
    "residual_map": {
        "type": "boolean",
        "description": "write residuals.tif, the check points' residuals averaged over their surroundings",
        "default": True,
    },
    "limits": {
        "type": "object",
        "description": "what the figures of quality.json are held against: by figure, any of "
        "fail_below, fail_above, warn_below, warn_above; {} lifts a standard limit",
        "default": LIMITS,
    },
}


@dataclass(frozen=True, eq=False)
class RegisteredScenes:
    """What is assessed.

    Attributes:
        fixed: the fixed scene at working resolution, lazy or in memory.
        moving: the moving scene, its grid in the fixed scene's CRS.
        initial: fixed to moving, after initialization.
        refined: fixed to moving, the result.
        truth: the known transform of a synthetic pair.
        earlier: the gates' verdicts by stage, in order.
    """

    fixed: Image
    moving: Image
    initial: Transform
    refined: Transform
    truth: Transform | None = None
    earlier: Mapping[str, Verdict] = field(default_factory=dict)

    @property
    def transforms(self) -> dict[str, Transform]:
        """The transform at each of :data:`STATES`."""
        return dict(zip(STATES, (Affine.identity(2), self.initial, self.refined), strict=True))


@dataclass(frozen=True, eq=False)
class SceneAssessment:
    """What :func:`assess_scene` found.

    Attributes:
        quality: JSON-ready figures, as in ``quality.json``.
        verdict: of the sample as a whole, the stages' gates included.
        steps: seconds per kind of figure.
        points: the check points.
    """

    quality: dict[str, Any]
    verdict: Verdict
    steps: list[dict[str, Any]]
    points: CheckPoints


def assess_scene(
    pair: RegisteredScenes,
    settings: Mapping[str, Any],
    *,
    threads: int = 1,
    seed: int = 0,
    workers: "Workers | None" = None,
) -> SceneAssessment:
    """Measure a registration of two scenes.

    Args:
        pair: the scenes and transforms.
        settings: the ``assess`` section of the configuration; missing keys take their default.
        threads: most threads to use; no figure depends on it.
        seed: of the check points' places.
        workers: who works on blocks; None opens ``threads`` threads.

    Raises:
        RegistrationError: the scenes do not overlap.
    """
    settings = fill_defaults(OPTIONS, settings)
    steps: list[dict[str, Any]] = []
    quality: dict[str, Any] = {"pixel_m": find_meters_per_pixel(pair.fixed.grid)}
    with record_step(steps, "check points"):
        points = measure_check_points(
            pair.fixed,
            pair.moving,
            pair.initial,
            settings["check_points"],
            RunContext(threads, seed, workers),
            options={"window_px": settings["window_px"]},
        )
        quality["check_points"] = _accuracy(points, pair)
    with record_step(steps, "similarity"):
        quality["similarity"] = _similarity(pair)
    with record_step(steps, "field"):
        quality["field"] = measure_field_figures(pair)
    if pair.truth is not None:
        quality["truth"] = measure_truth_errors(pair, points)
    if landmarks := _list_landmark_figures(pair.earlier):
        quality["landmarks"] = landmarks
    quality["figures"] = dict(_flat(quality))
    verdict = _verdict(quality, {**LIMITS, **settings["limits"]}, pair.earlier)
    quality["verdict"] = verdict.to_dict()
    return SceneAssessment(quality, verdict, steps, points)


def assess(
    output: str | Path,
    *,
    sample: str,
    manifests: tuple[str | Path, str | Path],
    prepared: tuple[str, str],
    initial: str | Path,
    refined: str | Path,
    applied: str | Path,
    settings: Mapping[str, Any],
    dask: Mapping[str, Any] | None = None,
    seed: int = 0,
    threads: int = 1,
) -> Outcome:
    """Assess one sample.

    Writes ``quality.json``, ``check_points.gpkg``, ``residuals.tif`` (along x, along y and length, in
    pixels) and ``stage.json``.

    Args:
        output: directory to write.
        sample: its id.
        manifests: of the fixed and the moving scene, written by ingest.
        prepared: the fixed and the moving scene's ``preprocess`` directories.
        initial: the sample's ``initialize`` directory.
        refined: the sample's ``refine`` directory.
        applied: the sample's ``apply`` directory; only its verdict is looked at.
        settings: the ``assess`` section of the configuration.
        dask: the ``dask`` section of the configuration.
        seed: of the check points' places.
        threads: most threads to use.
    """
    from regflow.core.chunks import open_workers

    def measure(folder: Path) -> SceneAssessment:
        pair = read_registered_scenes(manifests[1], prepared, initial, refined)
        with open_workers(dask, threads=threads) as workers:
            found = assess_scene(pair, settings, threads=threads, seed=seed, workers=workers)
        write_check_points(folder / "check_points.gpkg", found.points, pair.transforms)
        if settings.get("residual_map", True):
            write_residuals(folder / "residuals.tif", found.points, pair.refined)
        return found

    return assess_sample(output, sample, prepared, (initial, refined, applied), measure)


def read_registered_scenes(
    manifest: str | Path, prepared: tuple[str, str], initial: str | Path, refined: str | Path
) -> RegisteredScenes:
    """Read what :func:`assess` gets the places of."""
    from regflow.io.raster_transforms import read_displacement, read_raster_transform
    from regflow.stages.rasters.working import read_pair

    fixed, moving = read_pair(prepared)
    truth = read_json(manifest).get("paths", {}).get("truth")
    folders = {"initialize": initial, "refine": refined}
    return RegisteredScenes(
        fixed,
        moving,
        read_raster_transform(initial),
        read_raster_transform(refined),
        read_displacement(truth) if truth else None,
        {stage: read_outcome(folder).verdict for stage, folder in folders.items()},
    )


def write_check_points(path: str | Path, points: CheckPoints, transforms: Mapping[str, Transform]) -> None:
    """Write check points as GeoPackage.

    The columns are those of the tie points, and for each of :data:`STATES` ``residual_x_px_<stage>,
    residual_y_px_<stage>, residual_px_<stage>``, with ``_m`` where a CRS gives meters.
    """
    from regflow.io.vectors import write_points
    from regflow.methods.matching.tie_point_set import list_table_columns

    grid = points.fixed
    meters = find_meters_per_pixel(grid)
    table = list_table_columns(points.matched, grid, transforms["initialize"], find_meters_per_unit(grid))
    for name in ("residual_x_px", "residual_y_px"):
        del table[name]
    for stage, transform in transforms.items():
        residuals = points.compute_residuals_px(transform)
        table[f"residual_x_px_{stage}"], table[f"residual_y_px_{stage}"] = residuals.T
        table[f"residual_px_{stage}"] = np.hypot(*residuals.T)
        if meters is not None:
            table[f"residual_m_{stage}"] = np.hypot(*(residuals * meters).T)
    write_points(path, table, points.points, grid.crs, layer="check_points")


def write_residuals(path: str | Path, points: CheckPoints, transform: Transform) -> None:
    """Write the residuals, averaged over their surroundings, as a three-band float32 GeoTIFF."""
    from regflow.io.raster_files import write_raster

    used = points.is_used
    values, grid = average_residuals(
        points.points[used], points.compute_residuals_px(transform)[used], points.fixed
    )
    names = ["residual_x_px", "residual_y_px", "residual_px"]
    write_raster(path, values.astype(np.float32), grid, names=names, nodata=float("nan"))


def measure_field_figures(pair: RegisteredScenes) -> dict[str, float]:
    """Return what the transform itself tells: how far it moves, how much it stretches, whether it folds.

    ``shift_*``: the whole correction over the overlap; ``local_*``: what refinement added.
    """
    from regflow.methods.matching.tie_points import find_overlap

    grid = pair.fixed.grid
    low, high = find_overlap(grid, pair.moving.grid, pair.initial)
    axes = [np.linspace(low[k], high[k], 65) for k in (0, 1)]
    points = grid.to_world(np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2))
    whole = grid.to_index_vectors(pair.refined.apply(points) - points)
    local = grid.to_index_vectors(pair.refined.apply(points) - pair.initial.apply(points))
    found = {
        **_lengths("shift", whole),
        "shift_x_mean_px": float(whole[:, 0].mean()),
        "shift_y_mean_px": float(whole[:, 1].mean()),
        **_lengths("local", local),
    }
    return {**found, **compute_folding_figures(pair.refined)}


def measure_truth_errors(pair: RegisteredScenes, points: CheckPoints) -> dict[str, dict[str, float]]:
    """Return how far each stage's transform is from the known one, over the whole overlap, pixels.

    Also, as ``check_points``, how far the measured check points are from it: their own error.
    """
    from regflow.methods.matching.tie_points import find_overlap

    assert pair.truth is not None
    grid = pair.fixed.grid
    low, high = find_overlap(grid, pair.moving.grid, pair.truth)
    axes = [np.linspace(low[k], high[k], 129) for k in (0, 1)]
    places = grid.to_world(np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2))
    known = pair.truth.apply(places)
    errors = {stage: made.apply(places) - known for stage, made in pair.transforms.items()}
    if points.is_used.any():
        errors["check_points"] = points.partners[points.is_used] - pair.truth.apply(
            points.points[points.is_used]
        )
    return {stage: _summary(np.hypot(*grid.to_index_vectors(error).T)) for stage, error in errors.items()}


def _accuracy(points: CheckPoints, pair: RegisteredScenes) -> dict[str, Any]:
    meters = find_meters_per_pixel(pair.fixed.grid)
    seen = points.matched.measures["valid"] >= LEAST_VALID
    used = points.is_used
    stated = points.matched.error_px[used]
    residuals = points.compute_residuals_px(pair.refined)[used]
    own = measure_own_error_ce90(points.fixed.to_index(points.points[used]), residuals, stated)
    contradiction = points.find_contradiction(pair.refined)
    second: dict[str, Any] = {}
    if contradiction is not None:
        second["second_measure"] = {
            "compared": describe_cross_check(points.again, points.matched),
            "used": int(points.again.is_used.sum()),
            "contradicted_px": contradiction[0],
            "where": describe_place(pair.fixed.grid, contradiction[1]),
        }
    return {
        "laid": len(points.points),
        "with_data": int(seen.sum()),
        "used": int(used.sum()),
        "compared": points.matched.channels,
        "left_out": count_reasons(points.matched),
        "expected_error_px": float(np.median(stated)) if used.any() else np.nan,
        "own_error_ce90_px": own,
        **{
            stage: compute_residual_figures(points.compute_residuals_px(transform)[used], meters)
            for stage, transform in pair.transforms.items()
        },
        **second,
    }


def _similarity(pair: RegisteredScenes) -> dict[str, dict[str, float]]:
    """Return correlation, mutual information and structural similarity at each stage."""
    try:
        probes = ComparisonWindows.read(pair.fixed, pair.moving, pair.initial)
    except RegistrationError as error:
        log.warning("assess: %s", error)
        return {}
    found = {stage: probes.measure_figures(transform) for stage, transform in pair.transforms.items()}
    return {name: {stage: found[stage][name] for stage in found} for name in ("ncc", "mi", "ssim")}


def _lengths(name: str, vectors: NDArray[Any]) -> dict[str, float]:
    lengths = np.hypot(*vectors.T)
    return {f"{name}_mean_px": float(lengths.mean()), f"{name}_max_px": float(lengths.max())}


def _summary(errors: NDArray[Any]) -> dict[str, float]:
    return {
        "rmse_px": float(np.sqrt((errors**2).mean())),
        "p95_px": float(np.percentile(errors, 95)),
        "max_px": float(errors.max()),
    }


def _list_landmark_figures(earlier: Mapping[str, Verdict]) -> dict[str, dict[str, float]]:
    """Return, of the stages that landmarks drove, how far each landmark lies from the fit of all others."""
    told = {
        stage: {
            name: value
            for name, value in verdict.figures.items()
            if name.startswith(("left_out_", "landmarks_"))
        }
        for stage, verdict in earlier.items()
    }
    return {stage: figures for stage, figures in told.items() if figures}


def _flat(quality: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the figures of a sample's row in the cohort's table; names carry the units."""
    points = quality["check_points"]
    yield "check_points_used", points["used"]
    yield "check_points_used_percent", 100.0 * points["used"] / max(points["with_data"], 1)
    for name in points[STATES[0]]:
        yield from ((f"{name}_{stage}", points[stage][name]) for stage in STATES)
    if "second_measure" in points:
        yield "contradicted_px", points["second_measure"]["contradicted_px"]
    yield "rmse_px_change", points["refine"]["rmse_px"] - points["initialize"]["rmse_px"]
    yield "own_error_ce90_px", points["own_error_ce90_px"]
    for measure, of_stage in quality["similarity"].items():
        yield from ((f"{measure}_{stage}", value) for stage, value in of_stage.items())
        yield from compute_figure_changes({measure: of_stage["refine"]}, {measure: of_stage["start"]}).items()
    yield from quality["field"].items()
    for stage, summary in quality.get("truth", {}).items():
        yield from ((f"truth_{name}_{stage}", value) for name, value in summary.items())
    for figures in quality.get("landmarks", {}).values():
        # Of two stages that landmarks drove the later one's are taken.
        yield from figures.items()
    if "truth" in quality:
        error = [quality["truth"][stage]["rmse_px"] for stage in STATES]
        yield "truth_rmse_px_change", error[-1] - min(error[:-1])


def _explain(quality: Mapping[str, Any]) -> dict[str, str]:
    """Return what contradicts what, by the figure whose limit would be broken."""
    figures, second = quality["figures"], quality["check_points"].get("second_measure")
    told = (
        {} if second is None else {"contradicted_px": f"{second['compared']} see more left {second['where']}"}
    )
    return {**told, **_explain_truth(figures)}


def _explain_truth(figures: Mapping[str, float]) -> dict[str, str]:
    if "truth_rmse_px_refine" not in figures:
        return {}
    error = {stage: figures[f"truth_rmse_px_{stage}"] for stage in STATES}
    better = min(STATES[:2], key=lambda stage: error[stage])
    step, state = {
        "start": ("registration", "as the georeference places the scenes"),
        "initialize": ("refinement", "after the initial transform"),
    }[better]
    return {
        "truth_rmse_px_refine": "the known displacement contradicts the fit: the true error is "
        f"{error['refine']:.2f} px",
        "truth_rmse_px_change": f"the known displacement contradicts the {step}: the true error is "
        f"{error['refine']:.2f} px at the end, {error[better]:.2f} px {state}",
    }


def _verdict(
    quality: Mapping[str, Any], limits: Mapping[str, Mapping[str, float]], earlier: Mapping[str, Verdict]
) -> Verdict:
    """Return the most severe of the stages' verdicts and of the figures' own."""
    seen = "initialize" in earlier
    figures = quality["figures"]
    own = find_worst_verdict(judge_scene(figures, limits, seen=seen, meanings=_explain(quality)))
    before = [Verdict(v.status, f"{stage}: {v.reason}", v.figures) for stage, v in earlier.items()]
    decided = find_worst_verdict([own, *before])
    return Verdict(decided.status, decided.reason, {k: float(v) for k, v in figures.items()})
