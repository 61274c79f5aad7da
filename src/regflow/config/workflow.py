"""What differs between the kinds of image in the rules of the workflow: stages, tables, resources."""

from collections.abc import Mapping
from dataclasses import dataclass


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
    """

    tables: Mapping[str, str]
    dimensions: int
    needs: Mapping[str, JobNeeds]

    @property
    def stages(self) -> tuple[str, ...]:
        """In order."""
        return tuple(self.needs)


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
