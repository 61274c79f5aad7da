"""What the rules of the workflow take from tables: stages and cohort tables by kind, resources, jobs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from regflow.methods.refine import METHODS
from regflow.methods.table import wants_gpu
from regflow.stages.volumes.memory import PAIR, SAMPLE_BYTES

LIBRARIES_MB = 2000
"""Memory of a process that has loaded all libraries and no image."""
USUAL_SAMPLES = 40_000_000
"""A pair of images up to this size takes the usual time."""


@dataclass(frozen=True)
class JobNeeds:
    """What a job of a stage asks of the machine at its first try.

    Attributes:
        env: its conda environment, a file of ``envs/``.
        threads: most threads it uses.
        mem_mb: memory, megabytes.
        runtime: minutes.
    """

    env: str
    threads: int
    mem_mb: int
    runtime: int


@dataclass(frozen=True)
class Workflow:
    """The workflow of one kind of image.

    Attributes:
        tables: of the cohort, by what they hold: the name of the file below ``assess/``.
        dimensions: of the images.
        needs: by stage, in order.
        passing: files of a moving image's preprocess directory that only later stages need.
        sample_bytes: memory for each sample of a pair of images; 0 where it does not depend on their size.
    """

    tables: Mapping[str, str]
    dimensions: int
    needs: Mapping[str, JobNeeds]
    passing: tuple[str, ...] = ()
    sample_bytes: float = 0.0

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages, in order."""
        return tuple(self.needs)


def scale_needs(kind: str, needs: JobNeeds, samples: int) -> JobNeeds:
    """Return what a job asks for images of some size: memory that holds them, and time in proportion.

    Args:
        kind: ``volumes`` or ``rasters``.
        needs: of the job, for images of usual size, which are the least.
        samples: of the largest pair of images, about (:func:`~regflow.cohort.samples.estimate_samples`).
    """
    memory_mb = LIBRARIES_MB + math.ceil(WORKFLOWS[kind].sample_bytes * samples / 1e6)
    larger = max(1.0, samples / USUAL_SAMPLES)
    return replace(needs, mem_mb=max(needs.mem_mb, memory_mb), runtime=math.ceil(needs.runtime * larger))


@dataclass(frozen=True)
class JobPlan:
    """What one job does for each sample of its batch.

    Attributes:
        name: of the job's rule.
        stages: in order.
        needs: of the machine, for one sample.
    """

    name: str
    stages: tuple[str, ...]
    needs: JobNeeds


WORKFLOWS: Mapping[str, Workflow] = {
    "volumes": Workflow(
        tables={"samples": "cohort", "labels": "cohort_labels"},
        dimensions=3,
        needs={
            "ingest": JobNeeds("volumes", 1, 3000, 10),
            "preprocess": JobNeeds("registration", 2, 4000, 30),
            "initialize": JobNeeds("registration", 2, 4000, 30),
            "refine": JobNeeds("registration", 4, 8000, 60),
            "apply": JobNeeds("volumes", 2, 4000, 30),
            "assess": JobNeeds("reporting", 2, 4000, 30),
            "report": JobNeeds("reporting", 1, 4000, 30),
        },
        passing=("image.nii", "mask.nii", "labels.nii"),
        sample_bytes=SAMPLE_BYTES[PAIR],
    ),
    "rasters": Workflow(
        tables={"samples": "cohort"},
        dimensions=2,
        needs={
            "ingest": JobNeeds("rasters", 1, 3000, 10),
            "preprocess": JobNeeds("rasters", 1, 4000, 30),
            "initialize": JobNeeds("registration", 2, 4000, 30),
            "refine": JobNeeds("registration", 2, 4000, 60),
            "apply": JobNeeds("rasters", 2, 3000, 60),
            "assess": JobNeeds("rasters", 2, 3000, 30),
            "detect": JobNeeds("rasters", 2, 3000, 60),
            "report": JobNeeds("reporting", 1, 4000, 30),
        },
    ),
}
"""By kind."""

ONE_ENV = "batch"
"""The environment that holds what all stages import."""
_NAMES = {"ingest": "prepare", "refine": "deform", "apply": "finish", "detect": "compare"}
"""What a job is called that begins with a stage; one of all stages registers."""


def plan_jobs(settings: Mapping[str, Any], *, gpu: bool) -> tuple[JobPlan, ...]:
    """Return the jobs that take a batch of samples through the stages, in order, as few as can be.

    The refine stage has one of its own where its methods want a GPU, which is then held for nothing else.
    Changes from date to date need all dates' products first.

    Args:
        settings: the complete configuration.
        gpu: whether there may be one.
    """
    kind = settings["kind"]
    needs, cuts = WORKFLOWS[kind].needs, set()
    if gpu and wants_gpu(METHODS, kind, settings["refine"]):
        cuts |= {"refine", "apply"}
    wanted = [stage for stage in needs if stage != "detect" or settings["detect"]["method"] is not None]
    if "detect" in wanted and settings["detect"]["pairs"] == "consecutive":
        cuts.add("detect")
    runs: list[list[str]] = [[]]
    for stage in wanted:
        if stage in cuts:
            runs.append([])
        runs[-1].append(stage)
    return tuple(JobPlan(_name(run), tuple(run), _add_up(needs[stage] for stage in run)) for run in runs)


def _name(stages: Sequence[str]) -> str:
    return "register" if {"ingest", "refine"} <= set(stages) else _NAMES[stages[0]]


def _add_up(needs: Iterable[JobNeeds]) -> JobNeeds:
    """Return what a job needs that runs several stages one after another."""
    every = list(needs)
    env = every[0].env if len({one.env for one in every}) == 1 else ONE_ENV
    return JobNeeds(
        env,
        max(one.threads for one in every),
        max(one.mem_mb for one in every),
        sum(one.runtime for one in every),
    )
