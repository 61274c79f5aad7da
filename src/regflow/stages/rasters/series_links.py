"""Links between the scenes of a series: the chain of a pair, summed up as one linear map."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regflow.cohort.rasters.samples import Scene
from regflow.core.errors import RegistrationError
from regflow.core.gate import find_worst_verdict
from regflow.core.image import Image
from regflow.core.transform import Affine, Points, Transform
from regflow.io.rasters import read_raster_header
from regflow.methods.groupwise.link_shift import measure_link_shift
from regflow.stages.rasters.footprints import check_footprints
from regflow.stages.rasters.initialize import align_scenes
from regflow.stages.rasters.preprocess import prepare_scene
from regflow.stages.rasters.probes import ComparisonWindows, WindowPair
from regflow.stages.rasters.refine import SceneRefinement, refine_scene
from regflow.stages.rasters.views import measure_spacing
from regflow.stages.rasters.working import read_overview, read_scene, write_working
from regflow.stages.series_link import SeriesLink, fit_linear_map, measure_link, summarize_points

if TYPE_CHECKING:
    from regflow.core.chunks import Workers

LEAST_SIGMA_PX = 0.02
UNMEASURED_SIGMA_PX = 0.1
"""Standard deviation of a link at least, and of one without tie points."""
MOST_POINTS = 10_000
"""Valid places over which a transform is summed up."""


def prepare_series_scene(
    folder: str | Path, scene: Scene, settings: Mapping[str, Any], reference: str | Path | None = None
) -> None:
    """Make the working scene of a date of a series, in the coordinates of a reference date.

    Args:
        folder: to write into.
        scene: the date.
        settings: the ``preprocess`` section of the configuration.
        reference: folder of the reference date; None for that date itself.

    Raises:
        InputError: the scene cannot be read, or no sample may steer.
    """
    fixed = None if reference is None else (read_scene(reference), read_overview(reference))
    working, overview, _ = prepare_scene(scene, settings, reference=fixed)
    write_working(folder, working, overview)


def register_series_scenes(
    folder: str | Path,
    *,
    scenes: tuple[str | Path, str | Path],
    model: str,
    settings: Mapping[str, Any],
    workers: "Workers",
    threads: int = 1,
) -> None:
    """Register a date of a series to another one, and write the link.

    A link that cannot be measured is written as a failed one, with the sentence that says why.

    Args:
        folder: to write into.
        scenes: folders of the first date, which is the fixed one, and the second.
        model: kind of the link's map.
        settings: the complete configuration of scenes.
        workers: who works on blocks.
        threads: most threads to use; no result depends on it.

    Raises:
        SettingError: an unknown method or option.
    """
    measure_link(folder, lambda: _register_scenes(scenes, model, settings, workers, threads))


def _register_scenes(
    folders: tuple[str | Path, str | Path],
    model: str,
    settings: Mapping[str, Any],
    workers: "Workers",
    threads: int,
) -> SeriesLink:
    seed = settings["seed"]
    overviews = tuple(read_overview(folder) for folder in folders)
    first, second = (read_scene(folder) for folder in folders)
    _require_common_ground(first.view.path, second.view.path)
    fixed, moving = first.match_spacing(second).open(), second.match_spacing(first).open()
    start = align_scenes(overviews[0], overviews[1], settings["initialize"], threads=threads, seed=seed)
    refined = refine_scene(
        fixed, moving, start.transform, settings["refine"], workers=workers, threads=threads, seed=seed
    )
    # Loops of links tell more about a link, and at no cost, than check points of its own would.
    verdict = find_worst_verdict([start.verdict, refined.ladder.verdict])
    points = find_common_points(overviews[0], overviews[1], refined.transform)
    transform = fit_linear_map(model, points, refined.transform.apply(points))
    sigma = estimate_sigma(refined, start.transform, transform, fixed, points)
    found = refine_link_shift(fixed, moving, transform)
    if found is not None:
        transform, sigma = found
    return SeriesLink(verdict, transform, sigma, summarize_points(points))


def _require_common_ground(first: str, second: str) -> None:
    """Refuse scenes that lie apart on the map, however alike they look.

    Raises:
        RegistrationError: they do.
    """
    problem, _ = check_footprints(read_raster_header(first), read_raster_header(second))
    if problem:
        raise RegistrationError(problem)


def find_common_points(fixed: Image, moving: Image, transform: Transform) -> Points:
    """Return world points of a fixed scene that are valid in both scenes, ``(N, 2)``, evenly chosen.

    Raises:
        RegistrationError: there are fewer than three.
    """
    inside = np.ones(fixed.grid.shape, bool) if fixed.mask is None else fixed.mask
    rows, cols = np.nonzero(inside)
    points = fixed.grid.to_world(np.stack([cols, rows], axis=1))
    index = np.rint(moving.grid.to_index(transform.apply(points)))
    seen = np.asarray((np.isfinite(index) & (index >= 0) & (index < moving.grid.size)).all(axis=1))
    if moving.mask is not None:
        col, row = index[seen].astype(int).T
        seen[seen] = moving.mask[row, col]
    found = points[seen]
    if len(found) < 3:
        raise RegistrationError("the scenes share no ground that is valid in both")
    return np.asarray(found[:: -(-len(found) // MOST_POINTS)])


def refine_link_shift(fixed: Image, moving: Image, transform: Affine) -> tuple[Affine, float] | None:
    """Bring a link's map to the shift at which the gradients of both scenes agree best.

    Methods of a ladder stop where one of them is good enough for a pair. Loops of links tell a
    few hundredths of a pixel, and all links of a series must err alike.

    Returns:
        The map and the standard deviation of a coordinate under it in world units; None where gradients do
        not settle it.
    """
    transform = _round_shift(fixed, moving, transform)
    try:
        windows = ComparisonWindows.read(fixed, moving, transform)
    except RegistrationError:
        return None
    channels = range(min(fixed.data.shape[0], moving.data.shape[0]))
    found = measure_link_shift(
        [pair for number in channels for pair in _scale_pairs(list(windows.read_pairs(transform, number)))]
    )
    if found is None:
        return None
    vector = fixed.grid.affine[:2, :2] @ found.pixels
    shift = Affine.from_parts(np.eye(2), vector)
    pixel = measure_spacing(fixed.grid)
    return Affine(transform.matrix @ shift.matrix), max(LEAST_SIGMA_PX, found.sigma) * pixel


def _round_shift(fixed: Image, moving: Image, transform: Affine) -> Affine:
    """Return a map that brings the fixed scene's first pixel onto a whole one, so that few are blended."""
    first = moving.grid.to_index(transform.apply(fixed.grid.to_world(np.zeros((1, 2)))))[0]
    vector = moving.grid.affine[:2, :2] @ (np.rint(first) - first)
    return Affine(Affine.from_parts(np.eye(2), vector).matrix @ transform.matrix)


def _scale_pairs(pairs: list[WindowPair]) -> list[WindowPair]:
    """Return windows of a band in units of its spread over all of them, so that no band outweighs another."""
    fixed, moving = (
        max(float(np.concatenate([pair[end][pair[2]] for pair in pairs] or [np.ones(1)]).std()), 1e-12)
        for end in (0, 1)
    )
    return [(here / fixed, there / moving, mask) for here, there, mask in pairs]


def estimate_sigma(
    refined: SceneRefinement, initial: Transform, transform: Affine, fixed: Image, points: Points
) -> float:
    """Return the standard deviation of a coordinate under a link's map, in world units.

    Tie points whose windows overlap are not independent: as many count as windows fit into the ground
    that both scenes share.
    """
    pixel = measure_spacing(fixed.grid)
    ties = refined.points
    if ties is None or not ties.is_used.any():
        return UNMEASURED_SIGMA_PX * pixel
    used = ties.is_used
    places = fixed.grid.to_world(ties.points[used])
    index = fixed.grid.to_index(initial.apply(places)) + ties.shifts[used]
    residuals = index - fixed.grid.to_index(transform.apply(places))
    extent = np.ptp(fixed.grid.to_index(points), axis=0) + 1
    independent = min(float(used.sum()), max(1.0, float(np.prod(extent)) / ties.window_px**2))
    scatter = float(np.sqrt((residuals**2).mean() / independent))
    return max(LEAST_SIGMA_PX, scatter) * pixel
