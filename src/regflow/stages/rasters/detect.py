"""What changed between two aligned scenes: maps, polygons and the figures behind them.

The statistics come from pixels spread evenly over the scenes, held in memory (or, when asked, from
every pixel, read anew in each round). The maps are then made window by window.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from regflow.core.chunks import Workers, map_blocks, open_workers
from regflow.core.errors import InputError, RegistrationError
from regflow.core.files import write_json
from regflow.core.gate import Verdict, judge_figures
from regflow.methods.detect import METHODS, load_method
from regflow.methods.detect.interpolation_noise import measure_interpolation_noise
from regflow.methods.detect.maps import CHANGED, EXPLAINED, NODATA, ChangeMaps, ChangeRule, measure_change
from regflow.methods.detect.model import ChangeModelFit
from regflow.methods.detect.normalization import Normalization, fit_normalization
from regflow.methods.detect.regions import RegionMerger, Regions
from regflow.methods.detect.registration_noise import RADIUS_95, measure_registration_noise
from regflow.methods.detect.scene_pair import (
    DatedScenePair,
    SceneTiles,
    count_window_bytes,
    sample_pair,
    split_chunks,
)
from regflow.methods.detect.thresholds import find_change_limit
from regflow.methods.detect.tiles import ChangeTiles
from regflow.methods.table import find_method
from regflow.stages.rasters.change_files import ChangeFiles
from regflow.stages.rasters.detect_inputs import (
    NoCommonBandsError,
    find_residual_px,
    find_warped_scene,
    open_pair,
    read_fixed_scene,
)
from regflow.stages.rasters.detect_options import LARGEST_RESIDUAL_PX, LIMITS, OPTIONS
from regflow.stages.shell import Outcome, make_outcome, record_step, run_stage_work

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChangeInterval:
    """What is known of the two scenes.

    Attributes:
        names: of the first and the second date's scene.
        dates: ISO 8601, None where unknown.
        residual_px: largest displacement that registration left, None where nobody measured it.
    """

    names: tuple[str, str]
    dates: tuple[str | None, str | None] = (None, None)
    residual_px: float | None = None


@dataclass(eq=False)
class PixelTally:
    """Pixels of each kind, counted while the maps are made."""

    valid: int = 0
    changed: int = 0
    explained: int = 0

    def add(self, part: ChangeMaps) -> None:
        """Count one window."""
        counts = np.bincount(part.classes.ravel(), minlength=256)
        self.valid += part.classes.size - int(counts[NODATA])
        self.changed += int(counts[CHANGED])
        self.explained += int(counts[EXPLAINED])


def detect_changes(
    pair: DatedScenePair,
    folder: str | Path,
    settings: Mapping[str, Any],
    between: ChangeInterval,
    workers: Workers,
) -> Outcome:
    """Find what changed and write it.

    Writes ``magnitude.tif``, ``probability.tif`` (of no change), ``change.tif`` (0 unchanged, 1
    changed, 2 explained by the remaining registration error, 255 no data), ``changes.gpkg``,
    ``detect.json`` and, when asked, ``normalized.tif``.

    Args:
        pair: the two scenes.
        folder: to write to; must exist.
        settings: the ``detect`` section of the configuration, complete.
        between: names, dates and registration error.
        workers: who works on blocks; no result depends on them.

    Raises:
        InputError: the method's options do not fit the scenes.
        RegistrationError: the method found nothing to hold a change against.
    """
    steps: list[dict[str, Any]] = []
    with record_step(steps, "statistics", method=settings["method"]):
        few = sample_pair(pair, workers, settings["pixels"] or OPTIONS["pixels"]["default"])
        tiles: ChangeTiles = SceneTiles(pair, workers, few) if settings["pixels"] is None else few
        fit = _fit(tiles, settings)
        limit = find_change_limit(tiles, fit.model, settings["threshold"], settings["level"])
        lines = _normalized(tiles, fit, settings)
    with record_step(steps, "registration noise"):
        noise = measure_registration_noise(pair, fit.model, workers)
        lost = measure_interpolation_noise(pair, fit.model, workers)
    rule = ChangeRule(fit.model, limit, _residual(settings, between, noise), lost, _quantum(fit))
    tally = PixelTally()
    with record_step(steps, "maps"), ChangeFiles(folder, pair, fit.model, between.dates) as files:
        regions = _maps(pair, rule, workers, settings["mapping_unit_px"], files, tally)
        with record_step(steps, "polygons"):
            files.finish(regions, rule.quantum, between.dates)
    if settings["normalized"]:
        with record_step(steps, "normalization"):
            _write_normalized(pair, lines, Path(folder), workers)
    noises = {"registration_noise_px": noise, "interpolation_noise": lost}
    figures = {**_figures(pair, tally, regions, fit), **noises}
    verdict = judge_figures(figures, {**LIMITS, **settings["limits"]})
    content = _record(settings, between, fit, rule, lines, figures, verdict)
    write_json(Path(folder) / "detect.json", content)
    return make_outcome(verdict, steps, **figures)


def detect(
    output: str | Path,
    *,
    sample: str,
    manifest: str | Path,
    fixed: str | Path,
    warped: str | Path,
    settings: Mapping[str, Any],
    assessed: str | Path | None = None,
    earlier: tuple[str | Path, str | Path] | None = None,
    dask: Mapping[str, Any] | None = None,
    threads: int = 1,
) -> Outcome:
    """Find what changed between a registered scene and the reference, or the date before it.

    Where the two have no bands in common, as scenes of different sensors may not, there is nothing to
    compare: the stage is skipped with a warning.

    Args:
        output: the directory to make.
        sample: the sample's id.
        manifest: of the moving scene, written by ingest.
        fixed: manifest of the fixed scene.
        warped: the apply stage's directory.
        settings: the ``detect`` section of the configuration.
        assessed: the assess stage's directory, for the remaining registration error.
        earlier: manifest and apply directory of the date before; None compares with the fixed scene.
        dask: the ``dask`` section of the configuration.
        threads: workers where ``dask`` names no number.
    """
    upstream = [warped, *([assessed] if assessed else []), *([earlier[1]] if earlier else [])]

    def work(folder: Path) -> Outcome:
        after = find_warped_scene(manifest, warped)
        before = find_warped_scene(*earlier) if earlier else read_fixed_scene(fixed)
        try:
            pair = open_pair(before, after, settings["bands"], settings["margin_px"])
        except NoCommonBandsError as error:
            log.warning("%s: no change map: %s", sample, error)
            return Outcome("skipped", Verdict("warn", f"no change map: {error}"))
        residual = None if assessed is None else find_residual_px(assessed, pair.before.grid)
        between = ChangeInterval((before.name, after.name), (before.date, after.date), residual)
        with open_workers(dask, threads=threads) as workers:
            return detect_changes(pair, folder, settings, between, workers)

    return run_stage_work("detect", sample, output, upstream, work)


def list_date_pairs(dates: Sequence[str | None], how: str) -> list[tuple[int, int]]:
    """Return which scenes of a stack are compared, as positions ``(before, after)``.

    Args:
        dates: of the scenes, the reference first; ISO 8601. Without dates the order given counts.
        how: ``reference``: each with the first; ``consecutive``: each with the one before it in time.

    Raises:
        InputError: dates are wanted for the order and only some scenes have one.
    """
    if how == "reference":
        return [(0, other) for other in range(1, len(dates))]
    known = [date for date in dates if date is not None]
    if known and len(known) < len(dates):
        raise InputError(
            f"detect: {len(dates) - len(known)} of {len(dates)} scenes have no date; give each one its date, "
            "or compare with pairs: reference"
        )
    order = sorted(range(len(dates)), key=lambda k: (dates[k] or "", k))
    return list(pairwise(order))


def _fit(tiles: ChangeTiles, settings: Mapping[str, Any]) -> ChangeModelFit:
    method = find_method(METHODS, settings["method"], "detect")
    return load_method(method)(tiles, method.complete(settings["options"].get(settings["method"], {})))


def _normalized(tiles: ChangeTiles, fit: ChangeModelFit, settings: Mapping[str, Any]) -> Normalization | None:
    """Return the radiometric normalization, or None where it was not asked for and is impossible."""
    try:
        return fit_normalization(tiles, fit.model, settings["no_change"])
    except (InputError, RegistrationError) as error:
        if settings["normalized"]:
            raise
        log.info("no radiometric normalization: %s", error)
        return None


def _maps(
    pair: DatedScenePair,
    rule: ChangeRule,
    workers: Workers,
    smallest: int,
    files: ChangeFiles,
    tally: PixelTally,
) -> Regions:
    from functools import partial

    merger = RegionMerger(pair.shape[1], smallest)
    windows = split_chunks(pair.shape, workers.chunk)
    size = count_window_bytes(pair, workers.chunk)
    work = partial(measure_change, pair=pair, rule=rule)
    for part in map_blocks(work, windows, workers, describe="change maps", item_bytes=size):
        files.write(part)
        merger.add(part.regions)
        tally.add(part)
    return merger.finish()


def _write_normalized(
    pair: DatedScenePair, lines: Normalization | None, folder: Path, workers: Workers
) -> None:
    from functools import partial

    from regflow.stages.rasters.change_files import normalize_window, open_normalized

    assert lines is not None
    work = partial(normalize_window, pair=pair, lines=lines)
    size = count_window_bytes(pair, workers.chunk)
    with open_normalized(folder, pair) as write:
        windows = split_chunks(pair.shape, workers.chunk)
        for window, values in map_blocks(work, windows, workers, describe="normalization", item_bytes=size):
            write(window, values)


def _quantum(fit: ChangeModelFit) -> float:
    """Return a power of two, a millionth of the magnitude of plain noise or less."""
    size = math.sqrt(float(np.mean(np.square(fit.model.back))))
    return float(2.0 ** (math.floor(math.log2(size)) - 16))


def _residual(settings: Mapping[str, Any], between: ChangeInterval, noise: float) -> float:
    """Return the radius within which a displacement may explain a change."""
    if settings["residual_px"] is not None:
        return float(settings["residual_px"])
    return min(max(between.residual_px or 0.0, RADIUS_95 * noise), LARGEST_RESIDUAL_PX)


def _figures(
    pair: DatedScenePair, tally: PixelTally, regions: Regions, fit: ChangeModelFit
) -> dict[str, float]:
    rows, cols = pair.shape
    valid, kept = max(tally.valid, 1), int(regions.pixels.sum())
    marked = tally.changed + tally.explained
    return {
        "valid_percent": 100.0 * tally.valid / (rows * cols),
        "changed_percent": 100.0 * kept / valid,
        "explained_percent": 100.0 * tally.explained / valid,
        "explained_percent_of_changes": 100.0 * tally.explained / max(marked, 1),
        "dropped_percent": 100.0 * regions.dropped_pixels / valid,
        "regions": float(len(regions.pixels)),
        **fit.figures,
    }


def _record(
    settings: Mapping[str, Any],
    between: ChangeInterval,
    fit: ChangeModelFit,
    rule: ChangeRule,
    lines: Normalization | None,
    figures: Mapping[str, float],
    verdict: Verdict,
) -> dict[str, Any]:
    method = METHODS[settings["method"]]
    return {
        "before": {"name": between.names[0], "date": between.dates[0]},
        "after": {"name": between.names[1], "date": between.dates[1]},
        "method": settings["method"],
        "options": method.complete(settings["options"].get(settings["method"], {})),
        "citation": method.citation,
        "threshold": settings["threshold"],
        "level": settings["level"],
        "statistic_limit": rule.limit,
        "degrees_of_freedom": rule.model.degrees_of_freedom,
        "magnitude_unit": rule.model.unit,
        "residual_px": rule.residual_px,
        "mapping_unit_px": settings["mapping_unit_px"],
        "margin_px": settings["margin_px"],
        "classes": {"unchanged": 0, "changed": 1, "explained by registration error": 2, "no data": 255},
        "figures": dict(figures),
        "verdict": verdict.to_dict(),
        "normalization": None if lines is None else lines.to_dict(),
        "model": {
            "before": rule.model.before,
            "after": rule.model.after,
            "offset": rule.model.offset,
            "indices": rule.model.indices,
        },
        "history": fit.history,
    }
