"""Mosaics of tiles whose places are known.

A real Sentinel-2 band is mirrored to a large picture and cut into tiles as a stage with errors would, with
noise, vignetting and tiles of background. Positions are compared with the true ones up to a common shift, and
every kept link with the true offset. Where the environment of the peers has m2stitch, it gets the same
tiles and expected positions.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import OUT, arguments, print_table, save, timed_process
from regflow.datasets import packaged as realdata
from regflow.datasets.tiles import CutTiles, cut_tiles, measure_position_error, write_stage_table
from regflow.io.rasters import read_raster_header, read_window

COLUMNS = (
    *("case", "by", "tiles", "links", "wrong_links", "rms_px", "linked", "seconds", "cpu_seconds", "peak_mb"),
    "within",
)
CASES = {
    "overlap-15": {"overlap": 0.15, "noise": 20.0, "falloff": 0.2},
    "overlap-10": {"overlap": 0.10, "noise": 20.0, "falloff": 0.3, "empty": 0.05},
    "overlap-5": {"overlap": 0.05, "noise": 40.0, "falloff": 0.3, "empty": 0.05},
}
SIDE = 512
ACROSS = 8
LIMIT_PX = 0.2
WRONG_PX = 1.0
"""A link off the true offset by more is wrong."""

STITCH = """
import json, sys, time
import regflow as rf

folder, table, form, threads = sys.argv[1:]
started, busy = time.perf_counter(), time.process_time()
found = rf.stitch_mosaic([], folder, table=table, format=form, threads=int(threads))
spent = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - busy}
print(json.dumps({**spent, "positions": found.positions}))
"""

M2STITCH = """
import json, sys, time
import numpy as np, pandas, tifffile
import m2stitch

names, places, positions = json.load(open(sys.argv[1]))
images = np.stack([tifffile.imread(name) for name in names])
rows, cols = zip(*places)
started, busy = time.perf_counter(), time.process_time()
guess = [(int(y), int(x)) for x, y in positions]
how = {"row_col_transpose": False, "ncc_threshold": 0.1}
table, _ = m2stitch.stitch_images(images, rows, cols, position_initial_guess=guess, **how)
spent = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - busy}
print(json.dumps({**spent, "positions": table[["x_pos", "y_pos"]].values.tolist()}))
"""


def main() -> None:
    """Print the figures; end with 1 when a limit is not kept."""
    parser = arguments(__doc__)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--across", type=int, default=ACROSS, help="tiles along a side, about")
    parser.add_argument("--side", type=int, default=SIDE, help="of a tile in pixels")
    parser.add_argument("--format", default="ome-zarr")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for case in options.cases:
        folder = OUT / "mosaics" / case
        shutil.rmtree(folder, ignore_errors=True)
        size = int(options.side * (1 + (options.across - 1) * (1 - CASES[case]["overlap"]))) + 48
        tiles = cut_tiles(folder / "tiles", mirror_band(size), side=options.side, **CASES[case])
        write_stage_table(folder / "tiles" / "stage.csv", tiles)
        rows.append({"case": case, **measure_own(folder, tiles, options)})
        if options.peers_python:
            rows += [{"case": case, **measure_m2stitch(folder, tiles, options)}]
        print_table(rows[-2:], COLUMNS)
    save("mosaic", {"rows": rows}, options.threads)
    if not all(row["within"] for row in rows if row["by"] == "regflow"):
        sys.exit(1)


def mirror_band(side: int) -> NDArray[np.float32]:
    """Return a real band, mirrored to a square picture."""
    source = realdata.require_source("sentinel2-b04")
    shape = read_raster_header(source).shape
    values = read_window(source, [1], slice(0, shape[0]), slice(0, shape[1]))[0][0]
    for axis in (0, 1):
        repeats = -(-side // values.shape[axis])
        parts = [values if n % 2 == 0 else np.flip(values, axis) for n in range(repeats)]
        values = np.concatenate(parts, axis=axis)
    return np.asarray(values[:side, :side], np.float32)


def measure_own(folder: Path, tiles: CutTiles, options: Any) -> dict[str, Any]:
    """Return regflow's row."""
    words = [folder / "own", folder / "tiles" / "stage.csv", options.format, options.threads]
    log = folder / "own.log"
    _, peak = timed_process([sys.executable, "-c", STITCH, *map(str, words)], log)
    found = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
    table = [line.split("\t") for line in (folder / "own" / "tiles.tsv").read_text().splitlines()[1:]]
    linked = np.array([line[5] == "yes" for line in table])
    wrong, links = count_wrong_links(folder / "own" / "links.tsv", tiles)
    rms = measure_position_error(tiles, found["positions"], linked)
    return {
        **{"by": "regflow", "tiles": len(tiles.names), "links": links, "wrong_links": wrong, "rms_px": rms},
        **{"linked": int(linked.sum()), "peak_mb": peak / 1e6, "within": rms <= LIMIT_PX and wrong == 0},
        **{name: found[name] for name in ("seconds", "cpu_seconds")},
    }


def count_wrong_links(path: Path, tiles: CutTiles) -> tuple[int, int]:
    """Return how many kept links are wrong, and how many were kept."""
    true = dict(zip(tiles.names, tiles.true, strict=True))
    wrong = kept = 0
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        first, second, dx, dy, *_, state, _ = line.split("\t")
        if state == "yes":
            kept += 1
            offset = np.array([float(dx), float(dy)]) - (true[second] - true[first])
            wrong += bool(np.abs(offset).max() > WRONG_PX)
    return wrong, kept


def measure_m2stitch(folder: Path, tiles: CutTiles, options: Any) -> dict[str, Any]:
    """Return m2stitch's row; its positions are whole pixels, and it makes no picture."""
    places = [(int(name[1:4]), int(name[6:9])) for name in tiles.names]
    names = [str(folder / "tiles" / name) for name in tiles.names]
    content = json.dumps([names, places, tiles.stated.tolist()])
    (folder / "m2stitch.json").write_text(content, encoding="utf-8")
    row = {
        "by": "m2stitch",
        "tiles": len(names),
        "links": None,
        "wrong_links": None,
        "linked": None,
        "within": None,
    }
    log = folder / "m2stitch.log"
    started = time.perf_counter()
    try:
        _, peak = timed_process([options.peers_python, "-c", M2STITCH, str(folder / "m2stitch.json")], log)
    except (subprocess.CalledProcessError, RuntimeError):
        seconds = time.perf_counter() - started
        return {**row, "rms_px": float("nan"), "seconds": seconds, "cpu_seconds": None, "peak_mb": None}
    found = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
    positions = dict(zip(tiles.names, map(tuple, found["positions"]), strict=True))
    rms = measure_position_error(tiles, positions, ~tiles.empty)
    return {**row, "rms_px": rms, "peak_mb": peak / 1e6, **{n: found[n] for n in ("seconds", "cpu_seconds")}}


if __name__ == "__main__":
    main()
