"""regflow beside ANTs, greedy and elastix: accuracy and seconds, affine and deformable together.

Each method gets the same skull-stripped pair at 1 mm, on the same number of threads, in a process of
its own: Colin27's brain to MNI152 NLin2009cAsym, and two subjects of known warp.
"""

import argparse
import sys
from typing import Any

import numpy as np

from benchmarks.common import (
    OUT,
    Pair,
    arguments,
    compare_pairs,
    figures,
    read_image,
    run_peer,
    timed_process,
)
from regflow.core.files import read_json
from regflow.core.transform import measure_inverse_error
from regflow.io.transforms import read_transform

PEERS = ("greedy", "greedy-nmi", "ants", "ants-full", "elastix", "elastix-masks")
"""``greedy-nmi`` runs on the pair of other contrast only."""
BOTH = "affine and deformable"
COLUMNS = [
    "method",
    "compute_s",
    "process_s",
    "x_greedy",
    "tre_mm_mean",
    "tre_mm_p95",
    "tissue_dice",
    "folding_percent",
    "log_jacobian_std",
    "inverse_voxels",
]
POINTS = 20000


def run_regflow(pair: Pair, options: argparse.Namespace, more: tuple[str, ...] = ()) -> dict[str, Any]:
    """Run ``regflow register`` in a fresh process; return its seconds and its transforms' figures."""
    folder = OUT / "regflow" / "-".join([pair.name, *(word.strip("-") for word in more)])
    command = [sys.executable, "-m", "regflow", "register", str(pair.fixed), str(pair.moving)]
    process, _ = timed_process(
        [*command, "--output", str(folder), "--threads", str(options.threads), *more],
        folder.with_suffix(".log"),
        accepted=(0, 1),
    )
    seconds = read_json(folder / "quality.json")["seconds"]
    forward, backward = (read_transform(folder / f"{name}.h5") for name in ("transform", "inverse"))
    fixed = read_image(pair.fixed)
    inside = np.argwhere(fixed.mask)
    chosen = inside[np.linspace(0, len(inside) - 1, POINTS).astype(int), ::-1]
    error_mm = measure_inverse_error(forward, backward, fixed.grid.to_world(chosen))
    return {
        "compute_s": seconds["preprocess"] + seconds["initialize"] + seconds["refine"],
        "process_s": process,
        "seconds": seconds,
        "inverse_voxels": float(error_mm.mean() / fixed.grid.spacing.mean()),
        **figures(pair, forward),
    }


def compare(pair: Pair, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return one row per method for a pair, regflow first."""
    rows = [{"method": "regflow", **run_regflow(pair, options)}]
    for name in PEERS:
        if name == "greedy-nmi" and not pair.fluid_is_bright:
            continue
        run = run_peer(name, pair, options)
        if run is None:
            continue
        compute = sum(s for step, s in run["steps"].items() if step in ("affine", "deformable", BOTH))
        found = figures(pair, read_transform(run["transform"]))
        rows.append({"method": name, "compute_s": compute, "process_s": run["process"], **found})
    if pair.truth is not None:
        rows.append({"method": "the truth", **figures(pair, read_transform(pair.truth))})
    greedy = next((row["compute_s"] for row in rows if row["method"] == "greedy"), None)
    for row in rows:
        row["x_greedy"] = row["compute_s"] / greedy if greedy and "compute_s" in row else None
    return rows


def main() -> None:
    """Print one table per pair and write ``out/deformable.json``."""
    options = arguments(__doc__).parse_args()
    compare_pairs("deformable", compare, COLUMNS, options)


if __name__ == "__main__":
    main()
