"""What is left between two scenes after the initial transform, by a gated ladder."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import RegistrationError
from regflow.core.gate import Verdict, judge_figures
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.landmark_pairs import LandmarkPairs
from regflow.core.transform import Transform, list_displacement_fields
from regflow.core.units import describe_place, find_meters_per_unit
from regflow.methods.context import RunContext
from regflow.methods.ladder import InitialTransform, LadderResult, run_ladder
from regflow.methods.matching.tie_point_set import LEAST_VALID, TiePoints, list_table_columns
from regflow.methods.refine import METHODS
from regflow.methods.result import MethodResult
from regflow.metrics.jacobian import compute_folding_figures
from regflow.stages.landmarks import read_landmark_pairs
from regflow.stages.rasters.probes import ComparisonWindows
from regflow.stages.shell import Outcome, make_outcome, run_stage_work

if TYPE_CHECKING:
    from regflow.core.chunks import Workers
    from regflow.methods.matching.cross_check import CrossCheck

log = logging.getLogger(__name__)

LIMITS: dict[str, dict[str, float]] = {
    "ncc_change": {"fail_below": -0.02},
    "nmi_change": {"fail_below": -0.01},
    "folding_percent": {"fail_above": 0.0},
    "points_used": {"fail_below": 8, "warn_below": 20},
    "points_used_percent": {"warn_below": 20.0},
    "scatter_px": {"fail_above": 2.0, "warn_above": 0.5},
    "covered_percent": {"warn_below": 40.0},
    "displacement_max_px": {"warn_above": 64.0},
    "contradicted_px": {"warn_above": 0.1},
    "matched_again_percent": {"warn_below": 33.0},
    "left_out_rms_px": {"warn_above": 3.0},
    "landmarks_outliers_percent": {"fail_above": 40.0, "warn_above": 20.0},
}
"""What the gate holds a candidate against; the figures are those of :class:`SceneRefinementEvaluator`."""

INITIAL = "initial"
"""Name of the transform that the stage begins with, among its tries."""

COVER_CELLS = 8
"""Along the longer side of the overlap: a cell with a tie point that counts is covered."""


@dataclass(frozen=True, eq=False)
class SceneRefinement:
    """What the stage came to.

    Attributes:
        transform: fixed to moving world points, both in the fixed scene's CRS.
        ladder: the ladder's record.
        points: the tie points behind it; None where the method has none.
    """

    transform: Transform
    ladder: LadderResult
    points: TiePoints | None


@dataclass(eq=False)
class SceneRefinementEvaluator:
    """Measures candidates for one pair against the start.

    Figures: ``ncc_change`` and ``nmi_change``, correlation (median over windows, whatever its sign)
    and normalized mutual information (windows together) at working resolution less those of the
    start; ``folding_percent`` of the field's samples; ``displacement_max_px``; and for tie points
    ``points_used``, ``points_used_percent`` of those with data, ``scatter_px`` about the field, and
    ``covered_percent`` of the overlap's cells; where a second measure was taken, ``contradicted_px``,
    the most by which the field gave way to what both measures carry, ``contradicted_percent`` of the scene
    where it did, and ``matched_again_percent`` of the points that the second measure could match; of a spline
    through landmarks how far those lie from the fit of the others, in pixels of the moving scene
    (:class:`~regflow.methods.result.LandmarkErrors`).
    """

    fixed: Image
    moving: Image
    initial: Transform
    limits: Mapping[str, Any]

    def __post_init__(self) -> None:
        self._probes = ComparisonWindows.read(self.fixed, self.moving, self.initial)
        self._start = self._probes.measure_similarity(self.initial)

    def __call__(self, candidate: MethodResult) -> tuple[Verdict, float]:
        """Return the verdict and the similarity of a candidate."""
        transform, points = candidate.transform, candidate.tie_points
        found = self._probes.measure_similarity(transform)
        limits = {**LIMITS, **self.limits}
        figures = {f"{name}_change": found[name] - self._start[name] for name in found}
        figures.update(_deformation(transform, self.fixed.grid))
        if candidate.landmarks is not None:
            figures.update(candidate.landmarks.list_figures("px", float(self.moving.grid.spacing.max())))
        if points is not None:
            figures.update(_point_figures(points))
            verdict = _name_places(judge_figures(figures, limits), points, self.fixed.grid)
            return verdict, found["ncc"] + found["nmi"]
        return judge_figures(figures, limits), found["ncc"] + found["nmi"]


def refine_scene(
    fixed: Image,
    moving: Image,
    initial: Transform,
    settings: Mapping[str, Any],
    *,
    threads: int = 1,
    seed: int = 0,
    workers: "Workers | None" = None,
    landmarks: LandmarkPairs | None = None,
) -> SceneRefinement:
    """Find what is left between two scenes.

    Args:
        fixed: the fixed scene at working resolution, lazy or in memory.
        moving: the moving scene; its grid lies in the fixed scene's CRS.
        initial: fixed to moving world points, both in the fixed scene's CRS.
        settings: the ``refine`` section of the configuration.
        threads: most threads to use; no result depends on it.
        seed: of every random choice.
        workers: who works on blocks; None opens ``threads`` threads.
        landmarks: of both scenes, for methods that they drive.

    Returns:
        The best transform; where no method found better, ``initial`` itself as the method :data:`INITIAL`.

    Raises:
        SettingError: an unknown method or option.
    """
    try:
        examine = SceneRefinementEvaluator(fixed, moving, initial, settings.get("gate", {}))
    except RegistrationError as error:
        # Without a window that both scenes fill nothing can be refined, nor the start be judged.
        verdict = Verdict("fail", f"the initial transform stands: {error}")
        return SceneRefinement(
            initial, LadderResult(MethodResult(initial), INITIAL, verdict, [], kept=True), None
        )
    found = run_ladder(
        "refine",
        "rasters",
        METHODS,
        settings,
        (fixed, moving),
        InitialTransform(initial, INITIAL, _never),
        RunContext(threads, seed, workers, landmarks=landmarks),
        examine,
    )
    return SceneRefinement(found.transform, found, found.result.tie_points)


def _never(candidate: Verdict, initial: Verdict) -> bool:
    """Tell that no rejected candidate is better: the gate compares each with the initial transform."""
    return False


def refine(
    output: str | Path,
    *,
    sample: str,
    prepared: tuple[str, str],
    initial: str,
    settings: Mapping[str, Any],
    dask: Mapping[str, Any] | None = None,
    seed: int = 0,
    threads: int = 1,
) -> Outcome:
    """Refine one sample.

    Writes ``transform.json``, ``displacement.tif`` (the whole correction, from a fixed point to its
    place in the moving scene), ``tie_points.gpkg`` (for methods that have them) and ``stage.json``.

    Args:
        output: directory to write.
        sample: its id.
        prepared: the fixed and the moving scene's ``preprocess`` directories.
        initial: the sample's ``initialize`` directory.
        settings: the ``refine`` section of the configuration.
        dask: the ``dask`` section of the configuration.
        seed: of every random choice.
        threads: most threads to use.
    """
    from regflow.core.chunks import open_workers
    from regflow.io.raster_transforms import read_raster_transform, write_raster_transform
    from regflow.stages.rasters.working import read_pair

    def work(folder: Path) -> Outcome:
        fixed, moving = read_pair(prepared)
        start = read_raster_transform(initial)
        with open_workers(dask, threads=threads) as workers:
            found = refine_scene(
                fixed,
                moving,
                start,
                settings,
                threads=threads,
                seed=seed,
                workers=workers,
                landmarks=read_landmark_pairs(prepared[1]),
            )
        write_raster_transform(folder, found.transform, fixed.grid)
        if found.points is not None:
            write_tie_points(folder / "tie_points.gpkg", found.points, fixed.grid, start)
        ladder = found.ladder
        return make_outcome(ladder.verdict, ladder.steps, **ladder.details)

    return run_stage_work("refine", sample, output, [*prepared, initial], work)


def write_tie_points(path: str | Path, points: TiePoints, fixed: Grid, initial: Transform) -> None:
    """Write tie points as GeoPackage; its columns are those of :func:`tie_point_set.list_table_columns`."""
    from regflow.io.vectors import write_points

    table = list_table_columns(points, fixed, initial, find_meters_per_unit(fixed))
    tags = {"compared": points.channels, "direction": "from the fixed point to its place in the moving scene"}
    write_points(path, table, fixed.to_world(points.points), fixed.crs, layer="tie_points", tags=tags)


def _deformation(transform: Transform, grid: Grid) -> dict[str, float]:
    """Return the figures of the deformable part; none when the transform has none."""
    parts = list_displacement_fields(transform)
    if not parts:
        return {}
    pixels = [grid.to_index_vectors(np.moveaxis(part.vectors, 0, -1)) for part in parts]
    return {
        **compute_folding_figures(transform),
        "displacement_max_px": max(float(np.linalg.norm(part, axis=-1).max()) for part in pixels),
    }


def _point_figures(points: TiePoints) -> dict[str, float]:
    seen = points.measures["valid"] >= LEAST_VALID
    residuals = points.residuals[points.is_used]
    return {
        "points_used": float(points.is_used.sum()),
        "points_used_percent": 100.0 * float(points.is_used.sum()) / max(float(seen.sum()), 1.0),
        "scatter_px": float(np.sqrt((residuals**2).sum(1).mean())),
        "covered_percent": 100.0 * measure_covered_share(points.points[seen], points.points[points.is_used]),
        **_second_figures(points.check),
    }


def _second_figures(check: "CrossCheck | None") -> dict[str, float]:
    """Return what a second measure says of a field; nothing where none was taken."""
    if check is None:
        return {}
    return {
        "contradicted_px": check.largest_px,
        "contradicted_percent": check.percent,
        "matched_again_percent": check.matched_percent,
    }


def _name_places(verdict: Verdict, points: TiePoints, fixed: Grid) -> Verdict:
    """Return a verdict that says, where a second measure decided it, what was measured and where."""
    check = points.check
    if check is None or not verdict.reason.startswith("contradicted_px"):
        return verdict
    reason = (
        f"{verdict.reason}: {check.name} do not confirm the tie points by {points.channels}, least "
        f"{describe_place(fixed, check.at)}, over {check.percent:.0f}% of the scene; there the field keeps "
        "what both carry"
    )
    return replace(verdict, reason=reason)


def measure_covered_share(seen: NDArray[Any], used: NDArray[Any]) -> float:
    """Return the share of the cells with points ``seen (N, 2)`` that have one of ``used (M, 2)``."""
    if len(seen) == 0:
        return 0.0
    low = seen.min(axis=0)
    side = max(float((seen.max(axis=0) - low).max()) / COVER_CELLS, 1.0)
    cells: Sequence[set[tuple[int, int]]] = [
        {(int(x), int(y)) for x, y in (part - low) // side} for part in (seen, used)
    ]
    return len(cells[0] & cells[1]) / len(cells[0])
