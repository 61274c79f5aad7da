"""``regflow register`` of one pair from a cold start, everything included, beside the peers.

A fresh process reads a 1 mm head with its skull and the MNI brain, and writes the aligned image,
both transforms, the figures and the report. The peers' processes register and write the aligned
image; they make no masks, figures or report. Numba's cache is warm, as after ``make install``.
"""

from typing import Any

from benchmarks.common import Pair, arguments, pair, print_table, run_peer, save
from benchmarks.deformable import run_regflow

PEERS = ("greedy", "ants")
HEAD, BRAIN = "colin27-head", "colin27"


def main() -> None:
    """Print seconds by stage and the ratio to the faster peer; write ``out/pair_cold.json``."""
    options = arguments(__doc__).parse_args()
    results: dict[str, Any] = {}
    for name in (HEAD, BRAIN):
        made = pair(name)
        if made is None:
            print(f"{name}: skipped, install mricron-data")
            continue
        results[name] = _beside(made, options)
    save("pair_cold", results, options.threads)


def _beside(made: Pair, options: Any) -> dict[str, Any]:
    ours = run_regflow(made, options)
    rows = [{"method": "regflow", "process_s": ours["process_s"], **ours["seconds"]}]
    for name in PEERS:
        run = run_peer(name, made, options)
        if run is not None:
            rows.append({"method": name, "process_s": run["process"], **run["steps"]})
    print(f"\n{made.name}: regflow's seconds by stage")
    for stage, seconds in ours["seconds"].items():
        print(f"  {stage:20} {seconds:6.1f}")
    print_table(rows, ["method", "process_s"])
    if len(rows) > 1:
        fastest = min(row["process_s"] for row in rows[1:])
        print(f"regflow takes {ours['process_s'] / fastest:.2f} of the faster peer's time")
    return {"rows": rows}


if __name__ == "__main__":
    main()
