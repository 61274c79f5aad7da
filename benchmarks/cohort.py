"""What a cohort costs beyond its methods: planning thousands of samples, and taking tiny ones to their pages.

Planning is a dry run over samples whose files are empty. The costs of a sample are those of a whole run of
tiny brains (8 mm), divided by their number; what the methods cost of it is what each further sample costs in
one process that takes some dozens of them through the same stages.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from benchmarks.common import arguments, print_table, save, spent_by, write_image
from regflow.core.grid import Grid
from regflow.core.resample import coarsen_image
from regflow.core.resources import find_shipped_folder
from regflow.datasets.volumes import load_volume

READ = """
import time
from regflow.config.loading import load_config
from regflow.cohort.reading import read_cohort

t = time.process_time()
read_cohort(load_config('config/config.yaml'))
print(time.process_time() - t)
"""
IN_ONE_PROCESS = """
import time
from pathlib import Path
from regflow.cohort.reading import read_cohort
from regflow.config.loading import load_config
from regflow.config.workflow import WORKFLOWS
from regflow.pipeline.batch import run_batch

settings = {**load_config('config/config.yaml'), 'output': 'alone'}
samples, stages = read_cohort(settings)[:61], WORKFLOWS['volumes'].stages
how = dict(settings=settings, kind='volumes', stages=stages, sources=dict.fromkeys(stages, ''), networks={},
           earlier={}, threads=1)
run_batch('alone/first.json', samples=samples[:1], fixed=[samples[0].fixed], **how)
t = time.process_time()
run_batch('alone/rest.json', samples=samples[1:], fixed=[], **how)
print((time.process_time() - t) / (len(samples) - 1))
"""
FAST = {"initialize": {"methods": ["moments"]}, "refine": {"methods": ["greedy"]}}


def main() -> None:
    """Print the costs of planning, and those of a sample in cohorts of several sizes."""
    parser = arguments(__doc__)
    parser.add_argument("--plan", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--samples", type=int, nargs="+", default=[60, 1_000])
    options = parser.parse_args()
    planned, carried = [], []
    with tempfile.TemporaryDirectory() as name:
        for count in options.plan:
            planned.append(_plan(Path(name) / f"plan{count}", count, options.threads))
        for count in options.samples:
            carried.append(_carry(Path(name) / f"carry{count}", count, options.threads))
    print_table(planned, list(planned[0]))
    print_table(carried, list(carried[0]))
    save("cohort", {"planning": planned, "samples": carried}, options.threads)


def _plan(folder: Path, count: int, threads: int) -> dict[str, Any]:
    """Plan a cohort whose files are empty."""
    _write_study(folder, count, None)
    read = _told_by(READ, folder, "read.log")
    spent = spent_by(_snakemake(folder, threads, "--dry-run"), folder / "plan.log")
    jobs = (folder / "plan.log").read_text(encoding="utf-8").split("total")[1].split()[0]
    return {
        **{"samples": count, "jobs": int(jobs), "read_cpu_s": read, "plan_s": spent["seconds"]},
        **{"plan_cpu_s": spent["cpu_seconds"], "plan_peak_gb": spent["peak_gb"]},
    }


def _carry(folder: Path, count: int, threads: int) -> dict[str, Any]:
    """Run a cohort of tiny brains, and the same samples in one process."""
    tiny = coarsen_image(load_volume("mni2009c"), 8.0)
    _write_study(folder, count, tiny)
    methods = _told_by(IN_ONE_PROCESS, folder, "alone.log")
    spent = spent_by(_snakemake(folder, threads), folder / "run.log")
    each, wall = spent["cpu_seconds"] / count, spent["seconds"] / count
    return {
        **{"samples": count, "cpu_s": each, "methods_cpu_s": methods, "overhead_cpu_s": each - methods},
        **{"wall_s": wall, "computing_percent": 100 * methods / threads / wall},
    }


def _told_by(code: str, folder: Path, log: str) -> float:
    """Run Python code in a folder; return the number that it prints last."""
    spent_by([sys.executable, "-c", f"import os; os.chdir({str(folder)!r})\n{code}"], folder / log)
    return float((folder / log).read_text(encoding="utf-8").split()[-1])


def _snakemake(folder: Path, threads: int, *more: str) -> list[str]:
    workflow = str(find_shipped_folder() / "workflow" / "Snakefile")
    program = [sys.executable, "-m", "snakemake", "--snakefile", workflow, "--directory", str(folder)]
    config = ["--configfile", str(folder / "config" / "config.yaml")]
    return [*program, *config, "--cores", str(threads), *more]


def _write_study(folder: Path, count: int, image: Any) -> None:
    """Write a study of one atlas and samples a little beside it; without an image its files are empty."""
    (folder / "config").mkdir(parents=True)
    (folder / "data").mkdir()
    names = [f"s{number:06d}" for number in range(count)]
    for number, name in enumerate(("atlas", *names)):
        path = folder / "data" / f"{name}.nii.gz"
        if image is None:
            path.touch()
            continue
        affine = image.grid.affine.copy()
        affine[:3, 3] += [number % 7, number % 5, number % 3]
        write_image(path, image.channel, Grid(image.grid.shape, affine, image.grid.crs))
    rows = [f"{name}\t{folder}/data/{name}.nii.gz\tT1w\n" for name in names]
    (folder / "config" / "samples.tsv").write_text("sample\tmoving\tmodality\n" + "".join(rows))
    atlas = {"mni": {"image": f"{folder}/data/atlas.nii.gz"}}
    config = {"samples": f"{folder}/config/samples.tsv", "fixed": "mni", "atlases": atlas, **FAST}
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(config))


if __name__ == "__main__":
    main()
