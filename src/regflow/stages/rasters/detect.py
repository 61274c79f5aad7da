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

from regflow.core.chunks import Workers, open_workers, over_blocks
from regflow.core.errors import InputError, RegistrationError
from regflow.core.files import write_json
from regflow.core.gate import Verdict, judge
from regflow.methods.detect import METHODS, load
from regflow.methods.detect.maps import CHANGED, EXPLAINED, NODATA, Measured, Rule, measure
from regflow.methods.detect.model import Fit
from regflow.methods.detect.normalization import Normalization, normalization
from regflow.methods.detect.regions import RegionMerger, Regions
from regflow.methods.detect.registration_noise import RADIUS_95, registration_noise
from regflow.methods.detect.scene_pair import ScenePair, SceneTiles, chunks_of, sample_pair, window_bytes
from regflow.methods.detect.thresholds import change_limit
from regflow.methods.detect.tiles import Tiles
from regflow.methods.table import find_method
from regflow.stages.rasters.change_files import ChangeFiles
from regflow.stages.rasters.detect_inputs import (
    NoCommonBandsError,
    fixed_scene,
    open_pair,
    residual_px,
    warped_scene,
)
from regflow.stages.rasters.detect_options import LARGEST_RESIDUAL_PX, LIMITS, OPTIONS
from regflow.stages.shell import Outcome, done, run_stage_work, timed_step

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Between:
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
class Tally:
    """Pixels of each kind, counted while the maps are made."""

    valid: int = 0
    changed: int = 0
    explained: int = 0

    def add(self, part: Measured) -> None:
        """Count one window."""
        counts = np.bincount(part.classes.ravel(), minlength=256)
        self.valid += part.classes.size - int(counts[NODATA])
        self.changed += int(counts[CHANGED])
        self.explained += int(counts[EXPLAINED])


def detect_changes(
    pair: ScenePair,
    folder: str | Path,
    settings: Mapping[str, Any],
    between: Between,
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
    with timed_step(steps, "statistics", method=settings["method"]):
        few = sample_pair(pair, workers, settings["pixels"] or OPTIONS["pixels"]["default"])
        tiles: Tiles = SceneTiles(pair, workers, few) if settings["pixels"] is None else few
        fit = _fit(tiles, settings)
        limit = change_limit(tiles, fit.model, settings["threshold"], settings["level"])
        lines = _normalized(tiles, fit, settings)
    with timed_step(steps, "registration noise"):
        noise = registration_noise(pair, fit.model, workers)
    rule = Rule(fit.model, limit, _residual(settings, between, noise), _quantum(fit))
    tally = Tally()
    with timed_step(steps, "maps"), ChangeFiles(folder, pair, fit.model, between.dates) as files:
        regions = _maps(pair, rule, workers, settings["mapping_unit_px"], files, tally)
        with timed_step(steps, "polygons"):
            files.finish(regions, rule.quantum, between.dates)
    if settings["normalized"]:
        with timed_step(steps, "normalization"):
            _write_normalized(pair, lines, Path(folder), workers)
    figures = {**_figures(pair, tally, regions, fit), "registration_noise_px": noise}
    verdict = judge(figures, {**LIMITS, **settings["limits"]})
    content = _record(settings, between, fit, rule, lines, figures, verdict)
    write_json(Path(folder) / "detect.json", content)
    return done(verdict, steps, **figures)


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
        after = warped_scene(manifest, warped)
        before = warped_scene(*earlier) if earlier else fixed_scene(fixed)
        try:
            pair = open_pair(before, after, settings["bands"], settings["margin_px"])
        except NoCommonBandsError as error:
            log.warning("%s: no change map: %s", sample, error)
            return Outcome("skipped", Verdict("warn", f"no change map: {error}"))
        residual = None if assessed is None else residual_px(assessed, pair.before.grid)
        between = Between((before.name, after.name), (before.date, after.date), residual)
        with open_workers(dask, threads=threads) as workers:
            return detect_changes(pair, folder, settings, between, workers)

    return run_stage_work("detect", sample, output, upstream, work)


def date_pairs(dates: Sequence[str | None], how: str) -> list[tuple[int, int]]:
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


def _fit(tiles: Tiles, settings: Mapping[str, Any]) -> Fit:
    method = find_method(METHODS, settings["method"], "detect")
    return load(method)(tiles, method.complete(settings["options"].get(settings["method"], {})))


def _normalized(tiles: Tiles, fit: Fit, settings: Mapping[str, Any]) -> Normalization | None:
    """Return the radiometric normalization, or None where it was not asked for and is impossible."""
    try:
        return normalization(tiles, fit.model, settings["no_change"])
    except (InputError, RegistrationError) as error:
        if settings["normalized"]:
            raise
        log.info("no radiometric normalization: %s", error)
        return None


def _maps(
    pair: ScenePair,
    rule: Rule,
    workers: Workers,
    smallest: int,
    files: ChangeFiles,
    tally: Tally,
) -> Regions:
    from functools import partial

    merger = RegionMerger(pair.shape[1], smallest)
    windows = chunks_of(pair.shape, workers.chunk)
    size = window_bytes(pair, workers.chunk)
    work = partial(measure, pair=pair, rule=rule)
    for part in over_blocks(work, windows, workers, describe="change maps", item_bytes=size):
        files.write(part)
        merger.add(part.regions)
        tally.add(part)
    return merger.finish()


def _write_normalized(pair: ScenePair, lines: Normalization | None, folder: Path, workers: Workers) -> None:
    from functools import partial

    from regflow.stages.rasters.change_files import normalized_window, open_normalized

    assert lines is not None
    work = partial(normalized_window, pair=pair, lines=lines)
    size = window_bytes(pair, workers.chunk)
    with open_normalized(folder, pair) as write:
        windows = chunks_of(pair.shape, workers.chunk)
        for window, values in over_blocks(work, windows, workers, describe="normalization", item_bytes=size):
            write(window, values)


def _quantum(fit: Fit) -> float:
    """Return a power of two, a millionth of the magnitude of plain noise or less."""
    size = math.sqrt(float(np.mean(np.square(fit.model.back))))
    return float(2.0 ** (math.floor(math.log2(size)) - 16))


def _residual(settings: Mapping[str, Any], between: Between, noise: float) -> float:
    """Return the radius within which a displacement may explain a change."""
    if settings["residual_px"] is not None:
        return float(settings["residual_px"])
    return min(max(between.residual_px or 0.0, RADIUS_95 * noise), LARGEST_RESIDUAL_PX)


def _figures(pair: ScenePair, tally: Tally, regions: Regions, fit: Fit) -> dict[str, float]:
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
    between: Between,
    fit: Fit,
    rule: Rule,
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
        "degrees_of_freedom": rule.model.freedom,
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
