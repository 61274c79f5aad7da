"""The shipped 3-D network beside optimization: accuracy and seconds, pairs that it never saw.

Every row of regflow starts from one affine transform of regflow's own, and its seconds are those of the
deformable step alone, warm: imports and compiled kernels are ready. Peers' seconds hold their affine step,
given by itself as well where they tell it.
"""

import argparse
import time
from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.common import (
    OUT,
    Pair,
    arguments,
    compare_pairs,
    figures,
    pair,
    read_image,
    run_peer,
)
from benchmarks.deformable import PEERS, run_regflow
from benchmarks.summary import LEARNING_VOLUMES
from regflow.core.image import Image
from regflow.core.resample import coarsen_image
from regflow.core.transform import Affine, Transform
from regflow.io.transforms import read_transform
from regflow.methods.context import RunContext
from regflow.methods.refine import METHODS
from regflow.methods.table import run_method

SHORT: Mapping[str, Any] = {
    "shrink": [2, 1],
    "iterations": [40, 10],
    "radius": [2, 3],
    "field_sigma": [0.27, 0.27],
}
"""Greedy without its coarsest level, which a network can stand in for."""
WARM_UP_MM = 4.0
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "network": ("voxelmorph", {"refinement": "none"}),
    "network at 1 mm": ("voxelmorph", {"refinement": "none", "spacing_mm": 1.0}),
    "network, refinement": ("voxelmorph", {}),
    "network, all passes, refinement": ("voxelmorph", {"passes": "all"}),
    "network, all passes, short refinement": ("voxelmorph", {"passes": "all", "refinement_options": SHORT}),
    "network, instance optimization": ("instance-optimization", {"start": "voxelmorph", "shrink": [2]}),
    "our greedy": ("greedy", {}),
    "our greedy, short": ("greedy", SHORT),
}
"""Name of the row to method and options."""


def run_row(
    images: tuple[Image, Image], start: Transform, row: str, options: argparse.Namespace
) -> tuple[Transform, dict[str, float]]:
    """Run one row on a pair; return its transform and its seconds."""
    name, given = ROWS[row]
    method = METHODS[name]
    settings = {key: value for key, value in given.items() if key in method.options}
    if name == "instance-optimization":
        settings["iterations"] = [60]
    if "weights" in method.options:
        settings["weights"] = options.weights
    # Imports are not timed.
    method.load()
    wall, cpu = time.perf_counter(), time.process_time()
    context = RunContext(threads=options.threads)
    found = run_method(method, *images, start, method.complete(settings), context).transform
    return found, {"deformable_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def _warm_up(options: argparse.Namespace) -> None:
    """Load and compile what the rows need, on a small image and itself."""
    chosen = pair("same-contrast")
    if chosen is None:
        return
    small = coarsen_image(read_image(chosen.fixed), WARM_UP_MM)
    for row in ("network, refinement", "network, instance optimization"):
        run_row((small, small), Affine.identity(3), row, options)


def compare(chosen: Pair, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return one row per method for a pair."""
    linear = run_regflow(chosen, options, ("--refine", "none"))
    folder = OUT / "regflow" / f"{chosen.name}-refine-none"
    start = read_transform(folder / "transform.h5")
    seconds = linear["seconds"]["preprocess"] + linear["seconds"]["initialize"]
    rows = [{"method": "affine", "affine_s": seconds, **figures(chosen, start)}]
    images = read_image(chosen.fixed), read_image(chosen.moving)
    for row in ROWS:
        found, spent = run_row(images, start, row, options)
        rows.append({"method": row, "affine_s": seconds, **spent, **figures(chosen, found)})
    for name in PEERS:
        if name == "greedy-nmi" and not chosen.fluid_is_bright:
            continue
        run = run_peer(name, chosen, options)
        if run is not None:
            steps = {f"{step}_s": spent for step, spent in run["steps"].items()}
            rows.append({"method": name, **steps, **figures(chosen, read_transform(run["transform"]))})
    return rows


def main() -> None:
    """Print one table per pair and write ``out/learning.json``."""
    parser = arguments(__doc__)
    parser.add_argument("--weights", default=None, help="another network than the shipped one")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    _warm_up(options)
    compare_pairs("learning", compare, LEARNING_VOLUMES, options)


if __name__ == "__main__":
    main()
