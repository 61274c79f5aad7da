"""What a job costs beyond its work: a stage that needs neither torch nor itk beside bare Python."""

import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.common import arguments, print_table, save, timed_process, write_image
from regflow.core.resample import coarsen_image
from regflow.datasets.volumes import load_volume

ROUNDS = 5
LIMIT_S = 1.0
JOBS = {
    "python": "pass",
    "ingest": (
        "from regflow.stages.volumes.ingest import ingest\n"
        "from regflow.cohort.volumes.samples import FixedVolume\n"
        "ingest('{folder}/manifest.json', subject=FixedVolume('tiny', '{folder}/tiny.nii.gz'))"
    ),
    "regflow --help": "import sys; sys.argv = ['regflow', '--help']\nimport regflow.__main__",
}


def main() -> None:
    """Print the median seconds of each job and what is added to Python's own start."""
    options = arguments(__doc__).parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_tiny(folder / "tiny.nii.gz")
        for job, code in JOBS.items():
            command = [sys.executable, "-c", code.format(folder=folder)]
            seconds = [timed_process(command, folder / "log.txt")[0] for _ in range(ROUNDS)]
            rows.append({"job": job, "seconds": statistics.median(seconds)})
    for row in rows:
        row["added_s"] = row["seconds"] - rows[0]["seconds"]
        row["within_limit"] = row["added_s"] <= LIMIT_S
    print_table(rows, ["job", "seconds", "added_s", "within_limit"])
    save("startup", rows, options.threads)


def _write_tiny(path: Path) -> None:
    tiny = coarsen_image(load_volume("mni2009c"), 8.0)
    write_image(path, tiny.channel, tiny.grid)


if __name__ == "__main__":
    main()
