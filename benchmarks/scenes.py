"""Large scenes: memory and time per megapixel of warping and writing, and of reading an overview.

A real Sentinel-2 band is mirrored to 2,048, 10,980 and 40,000 pixels a side; a known smooth field of
5 pixels is undone, and the product written as COG. Each job runs in a process of its own. Bytes
must not depend on the size of the chunks.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import OUT, arguments, print_table, save, timed_process
from regflow.core.files import write_whole, write_whole_directory
from regflow.core.grid import Grid
from regflow.core.transform import Affine, DisplacementField, compose_transforms
from regflow.datasets import packaged as realdata
from regflow.io.open_rasters import import_gdal
from regflow.io.raster_transforms import write_raster_transform
from regflow.io.rasters import compute_geotransform, read_raster_header, read_window

SIDES = (2_048, 10_980, 40_000)
LIMIT_BYTES = 1.5e9
FLAT = 1.2
"""Largest processor time per megapixel, in parts of that of the middle size: what else runs on the machine
stretches the wall clock's."""
STEP_PX = 16
WAVE_PX = 2_000.0
AMPLITUDE_PX = 5.0

WARP = """
import json, sys, time
from regflow.core.chunks import open_workers
from regflow.core.grid import Grid
from regflow.io.scenes import open_scene
from regflow.stages.rasters.warping import WarpInput, warp_raster

def warp(grid):
    return warp_raster(
        WarpInput(scene), output, fixed=grid, moving=image.data.view, refined=refined,
        settings={}, workers=workers,
    )

scene, refined, output, threads, chunk = sys.argv[1:]
image = open_scene(scene)
with open_workers({"workers": int(threads), "chunk": int(chunk)}) as workers:
    warp(Grid((256, 256), image.grid.affine, image.grid.crs))  # what is loaded once is not counted
    started, busy = time.perf_counter(), time.process_time()
    found = warp(image.grid)
    spent = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - busy}
    print(json.dumps({**spent, **found}))
"""

OVERVIEW = """
import json, sys, time
from regflow.core.blocks import decimate_data, load_block, read_block
from regflow.io.scenes import open_scene

image = open_scene(sys.argv[1])
side = max(image.grid.shape)
factor = -(-side // 2048)
# Loads the kernels.
read_block(decimate_data(image, 2 * float(image.grid.spacing[0])), slice(0, 64), slice(0, 64))
started, busy = time.perf_counter(), time.process_time()
load_block(decimate_data(image, float(image.grid.spacing[0]) * factor))
spent = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - busy}
print(json.dumps({**spent, "megapixels": side * side / 1e6}))
"""


def main() -> None:
    """Print the figures; end with 1 when a limit is not kept."""
    parser = arguments(__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=list(SIDES))
    options = parser.parse_args()
    rows = [row for side in options.sides for row in _measure(side, options)]
    for job in ("warp", "overview"):
        _hold_flat([row for row in rows if row["job"] == job])
    same = _same_bytes(min(options.sides), options)
    columns = [
        "job",
        "side_px",
        "megapixels",
        "seconds",
        "cpu_seconds",
        "cpu_ms_per_megapixel",
        "peak_mb",
        "within",
        "flat",
    ]
    print_table(rows, columns)
    print(f"chunks of 333, 1,024 and 4,096 pixels give {'the same' if same else 'DIFFERENT'} bytes")
    save("scenes", {"rows": rows, "same_bytes": same}, options.threads)
    if not (same and all(row["within"] and row["flat"] for row in rows)):
        sys.exit(1)


def _measure(side: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    folder = _scene(side)
    scene, refined = folder / "scene.tif", folder / "refined"
    jobs = {
        "warp": [WARP, scene, refined, folder / "warped.tif", options.threads, 1024],
        "overview": [OVERVIEW, scene],
    }
    rows = []
    for job, words in jobs.items():
        found, peak = _run(words, folder / f"{job}.log")
        rows.append(
            {
                "job": job,
                "side_px": side,
                "megapixels": found["megapixels"],
                "seconds": found["seconds"],
                "cpu_seconds": found["cpu_seconds"],
                "cpu_ms_per_megapixel": 1e3 * found["cpu_seconds"] / found["megapixels"],
                "peak_mb": peak / 1e6,
                "within": peak <= LIMIT_BYTES,
                "flat": True,
            }
        )
    return rows


def _hold_flat(rows: list[dict[str, Any]]) -> None:
    """Mark the sizes that take longer for a megapixel than the flat rate of the middle one."""
    middle = sorted(rows, key=lambda row: row["side_px"])[len(rows) // 2]
    for row in rows:
        row["flat"] = row["cpu_ms_per_megapixel"] <= FLAT * middle["cpu_ms_per_megapixel"]


def _same_bytes(side: int, options: argparse.Namespace) -> bool:
    folder = _scene(side)
    sums = set()
    for chunk in (333, 1024, 4096):
        product = folder / f"chunk-{chunk}.tif"
        words = [WARP, folder / "scene.tif", folder / "refined", product, options.threads, chunk]
        _run(words, folder / "chunks.log")
        sums.add(hashlib.sha256(product.read_bytes()).hexdigest())
        product.unlink()
    return len(sums) == 1


def _run(words: list[Any], log: Path) -> tuple[dict[str, Any], int]:
    """Run a job; return what it printed and its peak memory in bytes."""
    _, peak = timed_process([sys.executable, "-c", *(str(word) for word in words)], log)
    return json.loads(log.read_text(encoding="utf-8").splitlines()[-1]), peak


def _scene(side: int) -> Path:
    """Write a scene of a size and the field that is to be undone, once; return their folder."""
    folder = OUT / "large-scenes" / str(side)
    if folder.is_dir():
        return folder
    with write_whole_directory(folder) as part:
        grid = _write_mirrored(part / "scene.tif", side)
        (part / "refined").mkdir()
        write_raster_transform(part / "refined", _motion(grid), grid)
    return folder


def _write_mirrored(path: Path, side: int) -> Grid:
    from rasterio.windows import Window

    source = realdata.require_source("sentinel2-b04")
    header = read_raster_header(source)
    assert header.grid is not None
    tile, _ = read_window(source, [1], slice(0, header.shape[0]), slice(0, header.shape[1]))
    turned = np.concatenate([tile[0], tile[0][::-1]])
    turned = np.concatenate([turned, turned[:, ::-1]], axis=1)
    grid = Grid((side, side), header.grid.affine, header.crs)
    profile = {"driver": "GTiff", "dtype": "uint16", "count": 1, "width": side, "height": side, "nodata": 0}
    layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1}
    size = {"predictor": 2, "bigtiff": "if_safer", "crs": grid.crs, "transform": compute_geotransform(grid)}
    with write_whole(path) as part, import_gdal().open(part, "w", **profile, **layout, **size) as target:
        for top in range(0, side, 512):
            rows = np.arange(top, min(top + 512, side)) % turned.shape[0]
            strip = turned[rows][:, np.arange(side) % turned.shape[1]]
            target.write(strip[None], window=Window(0, top, side, len(rows)))
    return grid


def _motion(grid: Grid) -> Any:
    """Return waves of 5 pixels on nodes every 16, then a shift, a turn and a change of size."""
    nodes = -(-(grid.shape[0] - 1) // STEP_PX) + 1
    place: NDArray[np.float64] = np.arange(nodes) * (2 * np.pi * STEP_PX / WAVE_PX)
    waves = [np.outer(np.cos(place + k), np.sin(place + 2 * k)) for k in (0, 1)]
    vectors = np.stack(waves) * AMPLITUDE_PX * grid.spacing[:, None, None]
    coarse = Grid((nodes, nodes), grid.affine @ np.diag([STEP_PX, STEP_PX, 1.0]), grid.crs)
    linear = np.array([[1.0001, 0.0002], [-0.0002, 0.9999]])
    turn = Affine.from_parts(linear, [23.0, -34.0], grid.center)
    return compose_transforms(DisplacementField(vectors.astype(np.float32), coarse), turn)


if __name__ == "__main__":
    main()
