"""The 2-D network beside tie points and the dense engines, on real bands moved by known dense warps.

The scenes are Landsat bands on which no network of regflow was trained. Warps are diffeomorphisms from
smoothed noise, so their inverse is known: the moving scene is sampled once from the real pixels.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import OUT, arguments, print_table, save
from regflow import realdata
from regflow.core.errors import RegistrationError
from regflow.core.files import read_json
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.io.rasters import read_window
from regflow.core.transform import Affine, Transform
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


BANDS = {
    "same band": Bands("landsat-utah", 3, 3, 448, 80),
    "red to near infrared": Bands("landsat-utah", 3, 4, 448, 80),
    "visible to infrared, coast": Bands("landsat-bay", 3, 1, 0, 1152),
}


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


def main() -> None:
    """Run every method on every case and print the errors."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--cases", nargs="+", default=list(BANDS), choices=list(BANDS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS_RUN), choices=list(METHODS_RUN))
    parser.add_argument("--warps", nargs="+", default=list(WARPS), choices=list(WARPS))
    parser.add_argument("--keep", action="store_true", help="keep the last run's rows of other methods")
    options = parser.parse_args()
    kept_file = OUT / "learning_scenes.json"
    kept = read_json(kept_file)["results"] if options.keep and kept_file.is_file() else {}
    results: dict[str, list[dict[str, Any]]] = dict(kept)
    for name in options.cases:
        if realdata.locate(BANDS[name].scene) is None:
            print(f"{name}: skipped, localtileserver is not installed")
            continue
        for warp in options.warps:
            title = f"{name}, {warp} warp"
            found = {row["method"]: row for row in kept.get(title, [])}
            found |= {row["method"]: row for row in rows(BANDS[name], warp, options.methods, options.threads)}
            results[title] = [found[method] for method in METHODS_RUN if method in found]
            print(f"\n{title}", flush=True)
            print_table(results[title], ["method", "epe_px_mean", "epe_px_p95", "cpu_seconds", "note"])
            save("learning_scenes", results, options.threads)


def rows(bands: Bands, warp: str, methods: list[str], threads: int) -> Iterator[dict[str, Any]]:
    """Yield a row per method."""
    case = make_case(bands, WARPS[warp], SIDE, seed=11)
    small = make_case(bands, {40.0: 1.0}, WARM_UP_PX, seed=12)
    for method in methods:
        run = METHODS_RUN[method]
        attempt(run, small, threads)
        began = time.process_time()
        found, note = attempt(run, case, threads)
        seconds = time.process_time() - began
        errors = end_point_errors(found, case)
        yield {
            "method": method,
            "epe_px_mean": float(errors.mean()),
            "epe_px_p95": float(np.percentile(errors, 95)),
            "cpu_seconds": seconds,
            "note": note,
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


def make_case(bands: Bands, warp: Mapping[float, float], side: int, seed: int) -> Case:
    """Move one band by a warp that is known at every pixel.

    Args:
        bands: the real pixels.
        warp: largest displacement for each width of smoothing, pixels.
        side: pixels.
        seed: of warp and noise.
    """
    from scipy.ndimage import map_coordinates

    rng = np.random.default_rng(seed)
    window = slice(bands.top, bands.top + side), slice(bands.left, bands.left + side)
    path = realdata.require(bands.scene)
    fixed, still = read_window(path, [bands.fixed, bands.moving], *window)[0].astype(np.float32)
    valid = (fixed > 0) & (still > 0)
    truth, back = random_warp((side, side), warp, rng)
    places = np.indices((side, side)) + back
    moved = map_coordinates(still, places, np.float32, order=3, mode="mirror")
    inside = ((places >= 0) & (places <= side - 1)).all(axis=0)
    moved_valid = inside & (map_coordinates(valid.astype(np.float32), places, order=1) > 0.999)
    noisy = [
        (values + NOISE_SHARE * values[where].std() * rng.standard_normal(values.shape)).astype(np.float32)
        for values, where in ((fixed, valid), (moved, moved_valid))
    ]
    grid = Grid((side, side), PLACE, "EPSG:32612")
    images = [
        Image(np.where(where, values, 0)[None].astype(np.float32), grid, where)
        for values, where in ((noisy[0], valid), (GAIN * noisy[1] + OFFSET, moved_valid))
    ]
    return Case(images[0], images[1], truth)


def random_warp(
    shape: tuple[int, int], warp: Mapping[float, float], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a displacement ``(2, rows, cols)`` in pixels and its inverse, by flowing along noise."""
    import torch
    from scipy.ndimage import gaussian_filter

    from regflow.methods.refine.velocity_torch import integrate

    velocity = np.zeros((2, *shape), np.float32)
    for width, largest in warp.items():
        noise = rng.standard_normal((2, *shape), dtype=np.float32)
        smooth = np.stack([gaussian_filter(part, width, mode="wrap") for part in noise])
        velocity += smooth * np.float32(largest / np.linalg.norm(smooth, axis=0).max())
    flow = torch.from_numpy(velocity)[None]
    return integrate(flow)[0].numpy(), integrate(-flow)[0].numpy()


def _start(fixed: Image, moving: Image, threads: int) -> Transform:
    return Affine.identity(2)


def _tie_points(fixed: Image, moving: Image, threads: int) -> Transform:
    from regflow.methods.refine.tie_points import tie_points

    settings = {**METHODS["tie-points"].complete({}), "threads": threads, "seed": 0}
    return tie_points(fixed, moving, Affine.identity(2), settings)


def _dense(**given: Any) -> Run:
    def run(fixed: Image, moving: Image, threads: int) -> Transform:
        from regflow.methods.refine.dense import dense

        settings = {**METHODS["dense"].complete(given), "threads": threads, "seed": 0}
        return dense(fixed, moving, Affine.identity(2), settings)

    return run


_POLISHED = {"polish": "greedy"}
METHODS_RUN: dict[str, Run] = {
    "start": _start,
    "tie points": _tie_points,
    "network": _dense(engine="voxelmorph", tie_points=None),
    "tie points, network": _dense(engine="voxelmorph"),
    "network, greedy": _dense(engine="voxelmorph", tie_points=None, engine_options=_POLISHED),
    "tie points, network, greedy": _dense(engine="voxelmorph", engine_options=_POLISHED),
    "tie points, greedy": _dense(engine="greedy"),
    "tie points, instance optimization": _dense(engine="instance-optimization"),
}


if __name__ == "__main__":
    main()
