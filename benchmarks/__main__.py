"""Run benchmarks in order: all of them, or those named. Options are passed on to each."""

import subprocess
import sys
import time

BENCHMARKS = ("startup", "determinism", "memory", "rigid_starts", "deformable", "pair_cold")


def main() -> None:
    """Run each in a process of its own; end with 1 when one failed."""
    words = sys.argv[1:]
    chosen = [word for word in words if word in BENCHMARKS] or list(BENCHMARKS)
    options = [word for word in words if word not in BENCHMARKS]
    failed = []
    for name in chosen:
        print(f"\n== {name}", flush=True)
        started = time.perf_counter()
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=False).returncode:
            failed.append(name)
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
