"""Mosaics of tiles whose places are known.

A real Sentinel-2 band is mirrored to a large picture and cut into tiles as a stage with errors would, with
noise, vignetting and tiles of background. Positions are compared with the true ones up to a common shift, and
every kept link with the true offset. The peers get the same tiles and expected positions. All read the tiles
and make the picture, but for m2stitch, which makes none.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import HERE, OUT, arguments, print_table, save, timed_process
from regflow.core.files import write_json
from regflow.datasets import packaged as realdata
from regflow.datasets.tiles import CutTiles, cut_tiles, measure_position_error, write_stage_table
from regflow.io.rasters import read_raster_header, read_window

COLUMNS = (
    *("case", "by", "tiles", "links", "wrong_links", "rms_px", "linked", "seconds", "cpu_seconds", "peak_mb"),
    "within",
)
PEERS = ("multiview-stitcher", "m2stitch")
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


def main() -> None:
    """Print the figures; end with 1 when a limit is not kept."""
    parser = arguments(__doc__)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--across", type=int, default=ACROSS, help="tiles along a side, about")
    parser.add_argument("--side", type=int, default=SIDE, help="of a tile in pixels")
    parser.add_argument("--format", default="ome-zarr")
    options = parser.parse_args()
    options.peers_python = os.environ.get("REGFLOW_MOSAIC_PEERS_PYTHON")
    rows: list[dict[str, Any]] = []
    for case in options.cases:
        folder = OUT / "mosaics" / case
        shutil.rmtree(folder, ignore_errors=True)
        size = int(options.side * (1 + (options.across - 1) * (1 - CASES[case]["overlap"]))) + 48
        tiles = cut_tiles(folder / "tiles", mirror_band(size), side=options.side, **CASES[case])
        write_stage_table(folder / "tiles" / "stage.csv", tiles)
        rows.append({"case": case, **measure_own(folder, tiles, options)})
        peers = PEERS if options.peers_python else ()
        rows += [{"case": case, **measure_peer(name, folder, tiles, options)} for name in peers]
        print_table(rows[-1 - len(peers) :], COLUMNS)
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


def measure_peer(name: str, folder: Path, tiles: CutTiles, options: Any) -> dict[str, Any]:
    """Return a peer's row; without figures where it ends in an error, which its log then holds."""
    places = [(int(tile[1:4]), int(tile[6:9])) for tile in tiles.names]
    paths = [str(folder / "tiles" / tile) for tile in tiles.names]
    write_json(folder / "peer.json", [paths, places, tiles.stated.tolist()])
    row = {"by": name, "tiles": len(paths), **dict.fromkeys(("links", "wrong_links", "linked", "within"))}
    command = [options.peers_python, HERE / "mosaic_peers.py", name, folder / "peer.json", options.threads]
    log = folder / f"{name}.log"
    try:
        _, peak = timed_process(list(map(str, command)), log)
    except RuntimeError as error:
        print(f"{name}: {error}")
        return {**row, **dict.fromkeys(("rms_px", "seconds", "cpu_seconds", "peak_mb"))}
    found = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
    positions = dict(zip(tiles.names, map(tuple, found["positions"]), strict=True))
    rms = measure_position_error(tiles, positions, ~tiles.empty)
    return {**row, "rms_px": rms, "peak_mb": peak / 1e6, **{n: found[n] for n in ("seconds", "cpu_seconds")}}


if __name__ == "__main__":
    main()
