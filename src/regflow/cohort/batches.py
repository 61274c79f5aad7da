"""How a cohort is shared out to jobs: batches of samples that stay as they are when others come."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from regflow.core.devices import list_usable_devices
from regflow.core.files import read_json, write_json
from regflow.core.memory import measure_free_bytes
from regflow.core.threads import count_cores

MOST_SAMPLES = 50
"""Of a batch on one machine: a job that dies is taken up again without what it had finished."""
FEW_SAMPLES = 5
"""A smaller cohort is shared out evenly at once: each job costs the start of a Python."""
ROUNDS = 4
"""Batches for each job that runs at a time, so that all end at about the same time."""
SUBMITTED_TOGETHER = 60
"""Samples for each job that is submitted to a cluster."""

SHARED = "shared"
"""In place of a batch: a fixed image that a job of its own prepares, because several batches need it."""
UNKNOWN_BYTES = 16_000_000_000
"""Memory where the machine does not tell."""


@dataclass(frozen=True)
class Machine:
    """What jobs run on.

    Attributes:
        cores: of this machine.
        memory_mb: of this machine.
        cluster: whether they are submitted elsewhere.
        gpu: whether there is a GPU, or may be one.
    """

    cores: int
    memory_mb: int
    cluster: bool
    gpu: bool


@dataclass(frozen=True)
class Batches:
    """How a cohort is shared out.

    Attributes:
        members: samples by batch.
        fixed: by fixed image the batch that prepares it, or :data:`SHARED`.
        wanted: samples per batch as the configuration says; None where it leaves that open.
        threads: of a job; None for what its stages can use.
        gpu: whether jobs may meet a GPU.
    """

    members: Mapping[str, list[str]]
    fixed: Mapping[str, str]
    wanted: int | None
    threads: int | None
    gpu: bool

    @classmethod
    def read(cls, path: str | Path) -> "Batches | None":
        """Read what :meth:`write` wrote; None where there is nothing."""
        return cls(**read_json(path)) if Path(path).is_file() else None

    def write(self, path: str | Path) -> None:
        """Write it as JSON, whole or not at all."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(self))


def assign_samples(
    fixed_of: Mapping[str, str],
    wanted: int | None,
    before: Batches | None,
    machine: Machine,
    *,
    jobs: int,
    threads: int,
    memory_mb: int,
    size_of: Callable[[str], int],
) -> Batches:
    """Share samples out to batches; those of an earlier run stay where they were.

    Args:
        fixed_of: by sample, in the sheet's order, the name of its fixed image.
        wanted: samples per batch; None to choose.
        before: the earlier run's.
        machine: what jobs run on.
        jobs: through which a batch goes, one after another.
        threads: most that one of them uses.
        memory_mb: that one of them needs.
        size_of: about how large a sample's images are, by its name.
    """
    kept: dict[str, list[str]] = {}
    if before is not None and before.wanted == wanted:
        still = {batch: [name for name in old if name in fixed_of] for batch, old in before.members.items()}
        kept = {batch: names for batch, names in still.items() if names}
    known = {name for members in kept.values() for name in members}
    new = [name for name in fixed_of if name not in known]
    slots = min(machine.cores, max(1, machine.memory_mb // memory_mb), max(1, len(new)))
    size = wanted or (SUBMITTED_TOGETHER * jobs if machine.cluster else choose_size(len(new), slots))
    first = max(map(int, kept), default=0) + 1
    if wanted is None and not machine.cluster and len(new) <= size * slots:
        # All begin at once: they end together where none has more to do than another.
        shared_out = split_evenly(new, math.ceil(len(new) / size), size_of, first)
    else:
        shared_out = split_batches(new, size, first)
    members = {**kept, **shared_out}
    return Batches(
        members,
        assign_fixed(members, fixed_of, before.fixed if kept and before is not None else {}),
        wanted,
        None if machine.cluster else max(1, min(threads, machine.cores // slots)),
        machine.gpu,
    )


def choose_size(count: int, slots: int) -> int:
    """Return how many of ``count`` samples a job takes where ``slots`` jobs run at a time."""
    even = math.ceil(count / slots)
    return max(1, min(MOST_SAMPLES, max(math.ceil(count / (ROUNDS * slots)), min(FEW_SAMPLES, even))))


def split_batches(names: Iterable[str], size: int, first: int = 1) -> dict[str, list[str]]:
    """Divide samples, in their order, into batches of ``size``; the last may be smaller.

    Args:
        names: of the samples.
        size: of a batch.
        first: number of the first batch.
    """
    ordered = list(names)
    starts = range(0, len(ordered), size)
    return {
        f"{number:04d}": ordered[start : start + size] for number, start in enumerate(starts, start=first)
    }


def split_evenly(
    names: Iterable[str], count: int, size_of: Callable[[str], int], first: int = 1
) -> dict[str, list[str]]:
    """Divide samples, in their order, into at most ``count`` batches of about the same size of images.

    Args:
        names: of the samples.
        count: of the batches.
        size_of: about how large a sample's images are, by its name.
        first: number of the first batch.
    """
    sizes = {name: max(1, size_of(name)) for name in names}
    total, before = sum(sizes.values()), 0
    parts: dict[int, list[str]] = {}
    for name, size in sizes.items():
        # A sample goes where its middle lies when all are laid end to end.
        parts.setdefault(math.ceil(count * (2 * before + size) / (2 * total)), []).append(name)
        before += size
    return {f"{number:04d}": part for number, part in enumerate(parts.values(), start=first)}


def assign_fixed(
    members: Mapping[str, Collection[str]], fixed_of: Mapping[str, str], before: Mapping[str, str]
) -> dict[str, str]:
    """Return which batch prepares each fixed image, :data:`SHARED` for one that several need.

    An image that was given to a batch stays with it when later batches need it too; they wait for that one.

    Args:
        members: samples by batch.
        fixed_of: by sample, the name of its fixed image.
        before: what this function returned for an earlier run.
    """
    users: dict[str, list[str]] = {}
    for batch, names in members.items():
        for image in dict.fromkeys(fixed_of[name] for name in names):
            users.setdefault(image, []).append(batch)
    kept = {image: owner for image, owner in before.items() if owner in (SHARED, *users.get(image, [])[:1])}
    return {
        image: kept.get(image, batches[0] if len(batches) == 1 else SHARED)
        for image, batches in {**{image: users[image] for image in before if image in users}, **users}.items()
    }


def find_machine(cores: int | None, nodes: int | None) -> Machine:
    """Return what jobs run on, from what Snakemake was told.

    Args:
        cores: of this machine that may be used; None for all.
        nodes: jobs that may be submitted at a time; None where they run here.
    """
    cluster = nodes is not None
    memory_mb = (measure_free_bytes() or UNKNOWN_BYTES) // 1_000_000
    return Machine(cores or count_cores(), memory_mb, cluster, cluster or bool(list_usable_devices()))
