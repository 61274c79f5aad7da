"""Real pairs of two modalities with landmarks: how many ``regflow register`` solves, what it says, its time.

A folder holds a folder per pair: ``fixed.png``, ``moving.png`` and ``landmarks.csv`` (``fixed_x``,
``fixed_y``, ``moving_x`` and ``moving_y`` in pixels; the center of the first pixel is 0, 0). The words of a
pair's name before the last name its kind. Such pairs are published with Jiang et al., A review of multimodal
image matching, Information Fusion 73:22-71, 2021; the repository has none.

A pair is solved where the median distance to its landmarks is below 5 pixels, between seasons, where
landmarks themselves lie some pixels off, 10. Single landmarks are wrong by tens of pixels, so means mislead.
A wrong result that passes is silent; a solved one that fails is a false alarm. Each pair runs in a process of
its own, so processor seconds include Python's start, the report and all products.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import OUT, arguments, print_table, save, spent_by
from regflow.core.errors import InputError
from regflow.core.files import read_json
from regflow.io.raster_transforms import read_raster_transform

FOLDER = "REGFLOW_MULTIMODAL_PAIRS"
"""Environment variable that names the folder of pairs."""
SOLVED_PX, SEASONS_PX = 5.0, 10.0
SEASONS = "CrossSeason"
"""What the names of pairs between seasons hold."""
COLUMNS = ["pair", "kind", "median_px", "solved", "status", "tried", "cpu_seconds", "seconds"]
TRIED = re.compile(r"initialize: ([a-z-]+) (?:is )?(pass|warn|fail|gave up)")
"""What the log says of each linear method."""
TOTALS = ["kind", "pairs", "solved", "silent", "false_alarms", "median_px", "cpu_seconds"]


def main() -> None:
    """Print a row per pair and a table per kind; end with 1 when a wrong result passed."""
    options = _options()
    folders = _list_pairs(Path(options.pairs), options.only)
    if not folders:
        print(f"skipped: '{options.pairs}' has no pairs with landmarks.csv; name their folder by ${FOLDER}")
        return
    rows = []
    for folder in folders:
        rows.append(_register(folder, options))
        print_table([rows[-1]], COLUMNS)
    totals = list(_totals(rows))
    print()
    print_table(totals, TOTALS)
    save("multimodal_starts", {"pairs": rows, "kinds": totals}, options.threads)
    if any(row["silent"] for row in totals):
        raise SystemExit(1)


def _list_pairs(folder: Path, only: Sequence[str]) -> list[Path]:
    """Return the folders of pairs, of those with one of some words in their names."""
    found = sorted(path.parent for path in folder.glob("*/landmarks.csv"))
    return [path for path in found if not only or any(word in path.name for word in only)]


def _register(pair: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Register a pair in a fresh process and measure what it wrote."""
    out = OUT / "multimodal_starts" / pair.name
    command = [sys.executable, "-m", "regflow", "register", str(pair / "fixed.png"), str(pair / "moving.png")]
    command += ["-o", str(out / "aligned"), "--threads", str(options.threads), *options.register]
    spent = spent_by(command, out / "log.txt", (0, 1))
    kind, _, _ = pair.name.rpartition("-")
    limit = SEASONS_PX if SEASONS in kind else SOLVED_PX
    return {
        "pair": pair.name,
        "kind": kind,
        **_measure(pair, out / "aligned", limit),
        "tried": " ".join(
            f"{name}:{status}" for name, status in TRIED.findall((out / "log.txt").read_text())
        ),
        "cpu_seconds": spent["cpu_seconds"],
        "seconds": spent["seconds"],
    }


def _measure(pair: Path, result: Path, limit: float) -> dict[str, Any]:
    """Return the median distance of a result to the landmarks, and its verdict."""
    try:
        transform = read_raster_transform(result)
        quality = read_json(result / "quality.json")
    except InputError:
        return {"median_px": np.inf, "solved": False, "status": "none"}
    # Without a georeference the world of a picture is its pixels.
    points = np.loadtxt(pair / "landmarks.csv", delimiter=",", skiprows=1)
    errors = np.linalg.norm(transform.apply(points[:, :2]) - points[:, 2:], axis=1)
    median = float(np.median(errors))
    return {
        "median_px": median,
        "solved": median < limit,
        "status": quality["verdict"]["status"],
    }


def _totals(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a row per kind, and one of all."""
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    for kind in (*kinds, "all"):
        some = [row for row in rows if kind in (row["kind"], "all")]
        yield {
            "kind": kind,
            "pairs": len(some),
            "solved": sum(row["solved"] for row in some),
            "silent": sum(not row["solved"] and row["status"] == "pass" for row in some),
            "false_alarms": sum(row["solved"] and row["status"] == "fail" for row in some),
            "median_px": float(np.median([row["median_px"] for row in some])),
            "cpu_seconds": float(np.median([row["cpu_seconds"] for row in some])),
        }


def _options() -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.add_argument(
        "--pairs",
        default=os.environ.get(FOLDER, ""),
        help=f"folder of pairs; default ${FOLDER}",
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="pairs whose names hold a word")
    parser.add_argument(
        "--register", nargs=argparse.REMAINDER, default=[], help="what follows goes to regflow register"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
