"""Peak memory of each stage on volumes of 256x256x256, each stage in a process of its own."""

import sys
from pathlib import Path

from benchmarks.common import OUT, arguments, print_table, save, timed_process, write_image
from regflow.core.grid import Grid
from regflow.core.resample import resample_array
from regflow.datasets import packaged as realdata
from regflow.datasets.volumes import load_volume

SAMPLES = 256
SPACING_MM = 0.9
LIMIT_BYTES = 8e9
PREPARED = "('preprocess/fixed', 'preprocess/moving')"
MANIFESTS = "('fixed.json', 'moving.json')"
SHARED = "sample='head', threads={threads}"
STAGES = {
    "ingest": (
        "from regflow.cohort.volumes.samples import FixedVolume, VolumeSample\n"
        "fixed = FixedVolume('fixed', 'fixed.nii')\n"
        "ingest('fixed.json', subject=fixed)\n"
        "ingest('moving.json', subject=VolumeSample('head', 'moving.nii', fixed))"
    ),
    "preprocess": (
        f"preprocess('preprocess/fixed', manifest='fixed.json', settings=settings, {SHARED})\n"
        "preprocess('preprocess/moving', manifest='moving.json', settings=settings,\n"
        f"           reference='preprocess/fixed', {SHARED})"
    ),
    "initialize": f"initialize('initialize', prepared={PREPARED}, settings=settings, {SHARED})",
    "refine": f"refine('refine', prepared={PREPARED}, initial='initialize', settings=settings, {SHARED})",
    "apply": f"apply('apply', manifests={MANIFESTS}, refined='refine', settings=settings, {SHARED})",
    "assess": (
        f"assess('assess', manifests={MANIFESTS}, prepared={PREPARED}, initial='initialize',\n"
        f"       refined='refine', applied='apply', settings=settings, {SHARED})"
    ),
    "report": (
        f"report('report.html', sample='head', manifests={MANIFESTS}, prepared={PREPARED},\n"
        "       initial='initialize', refined='refine', applied='apply', assessed='assess',\n"
        "       settings=settings)"
    ),
}
HEADER = (
    "import os\n"
    "from regflow.config.loading import load_defaults\n"
    "from regflow.stages.volumes.{stage} import {stage}\n"
    "os.chdir({folder!r})\n"
    "settings = load_defaults().get({stage!r})\n"
)


def main() -> None:
    """Print each stage's peak; end with 1 when one is over the limit."""
    options = arguments(__doc__).parse_args()
    folder = OUT / "memory"
    _write_volumes(folder)
    rows = []
    for stage, call in STAGES.items():
        code = HEADER.format(stage=stage, folder=str(folder)) + call.replace(
            "{threads}", str(options.threads)
        )
        seconds, peak = timed_process([sys.executable, "-c", code], folder / f"{stage}.log")
        row = {"stage": stage, "peak_gb": peak / 1e9, "seconds": seconds, "within_limit": peak < LIMIT_BYTES}
        rows.append(row)
        print_table([row], ["stage", "peak_gb", "seconds", "within_limit"])
    save("memory", rows, options.threads)
    if not all(row["within_limit"] for row in rows):
        raise SystemExit(1)


def _write_volumes(folder: Path) -> None:
    """Write the MNI brain and a head (or another brain) on grids of 256x256x256."""
    head = "colin27" if realdata.locate_source("colin27") else "mni6"
    for name, target in (("mni2009c", "fixed"), (head, "moving")):
        full = load_volume(name)
        half = (SAMPLES - 1) / 2 * SPACING_MM
        grid = Grid.from_geometry((SAMPLES,) * 3, (SPACING_MM,) * 3, (full.grid.center - half).tolist())
        folder.mkdir(parents=True, exist_ok=True)
        write_image(folder / f"{target}.nii", resample_array(full.channel, full.grid, grid), grid)


if __name__ == "__main__":
    main()
