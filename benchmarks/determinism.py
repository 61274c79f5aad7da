"""The same configuration twice, and with one or two threads: the same bytes of every transform.

Each run is a fresh process on a real pair shrunk to 4 mm, once for each method of both tables.
"""

import sys
from pathlib import Path
from typing import Any

from benchmarks.common import OUT, arguments, print_table, save, timed_process, write_image
from regflow.core.files import compute_sha256
from regflow.core.resample import coarsen_image
from regflow.datasets.volumes import load_volume

SPACING_MM = 4.0
THREADS = (1, 2, 2)
FILES = ("transform.h5", "inverse.h5", "warped.nii.gz")
LADDERS = (
    ("mutual-information", "greedy"),
    ("elastix", "elastix-bspline"),
    ("moments", "instance-optimization"),
    ("header", "greedy"),
)
"""Initializer and refiner; ``voxelmorph`` needs trained weights."""


def main() -> None:
    """Print one row per ladder; end with 1 when any byte differs."""
    options = arguments(__doc__).parse_args()
    pair = [_shrunk(name) for name in ("mni2009c", "mni6")]
    rows = [_row(pair, *ladder) for ladder in LADDERS]
    print_table(rows, ["initialize", "refine", "identical", "sha256"])
    save("determinism", rows, options.threads)
    if not all(row["identical"] for row in rows):
        raise SystemExit(1)


def _row(pair: list[Path], initialize: str, refine: str) -> dict[str, Any]:
    sums = []
    for number, threads in enumerate(THREADS):
        folder = OUT / "determinism" / f"{initialize}-{refine}-{number}"
        command = [sys.executable, "-m", "regflow", "register", *map(str, pair), "--output", str(folder)]
        ladder = ["--initialize", initialize, "--refine", refine, "--threads", str(threads)]
        # A verdict of fail ends with 1 and is no matter here.
        timed_process([*command, *ladder], folder.with_suffix(".log"), accepted=(0, 1))
        sums.append({name: compute_sha256(folder / name) for name in FILES})
    same = all(found == sums[0] for found in sums)
    return {"initialize": initialize, "refine": refine, "identical": same, "sha256": sums[0]["transform.h5"]}


def _shrunk(name: str) -> Path:
    path = OUT / "determinism" / f"{name}.nii.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    shrunk = coarsen_image(load_volume(name), SPACING_MM)
    write_image(path, shrunk.channel, shrunk.grid)
    return path


if __name__ == "__main__":
    main()
