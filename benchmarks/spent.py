"""Run a command from a small process and say what it took: ``spent.py REPORT COMMAND...``.

A process's peak memory, as Linux counts it, starts from that of the process it was started by; started
from here, it is its own.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path


def main(report: str, *command: str) -> int:
    """Write wall and processor seconds and peak memory; return the command's exit code."""
    started = time.perf_counter()
    code = subprocess.run(command, check=False).returncode
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 1 if sys.platform == "darwin" else 1024
    spent = {
        "seconds": seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_gb": used.ru_maxrss * unit / 1e9,
    }
    Path(report).write_text(json.dumps(spent), encoding="utf-8")
    return code


if __name__ == "__main__":
    os._exit(main(*sys.argv[1:]))
