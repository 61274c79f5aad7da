"""Run benchmarks in order, as they are published: all of them, or those named.

``--quick`` keeps the whole within minutes by fewer starts, dates and sizes; other options are passed on to
each.
"""

import subprocess
import sys
import time

QUICK = "--quick"
BENCHMARKS: dict[str, tuple[str, ...]] = {
    "startup": (),
    "cohort": ("--plan", "1000", "--samples", "10"),
    "determinism": (),
    "memory": (),
    "rigid_starts": ("--cases", "same-contrast", "--spacing", "2"),
    "deformable": (),
    "pair_cold": (),
    "raster_starts": ("--starts", "12", "--turns", "4", "--affines", "2"),
    "multimodal_starts": (),
    "start_confidence": ("--cases", "24"),
    "verdicts": ("--good", "24", "--bad", "24"),
    "canon": ("--pairs", "3"),
    "dates": ("--every", "6", "--shifts", "1"),
    "tie_points": ("--sides", "2048"),
    "scenes": ("--sides", "2048", "10980"),
    "change": (),
    "learning": (),
    "learning_scenes": (),
    "fine_tuning": (),
    "mosaic": ("--across", "4", "--cases", "overlap-10"),
    "stack": ("--step", "4", "--cases", "steady"),
    "template": ("--pairs", "2"),
}
"""In the order in which they run, with what ``--quick`` asks of each."""


def main() -> None:
    """Run each in a process of its own; end with 1 when one failed."""
    words = sys.argv[1:]
    chosen = {word: BENCHMARKS[word] for word in words if word in BENCHMARKS} or BENCHMARKS
    options = [word for word in words if word not in BENCHMARKS and word != QUICK]
    failed = []
    for name, few in chosen.items():
        own = few if QUICK in words else ()
        print(f"\n== {name}", flush=True)
        started = time.perf_counter()
        if subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}", *own, *options], check=False
        ).returncode:
            failed.append(name)
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
