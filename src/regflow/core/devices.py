"""One GPU per job, and torch sessions whose results do not depend on the machine's load.

A job that wants a GPU takes a lease: a file lock per device, held until the process ends, which the
kernel gives back however the process ends. The lease is taken before torch looks for devices, and
``CUDA_VISIBLE_DEVICES`` then shows the job that one only. Under Slurm the job takes what it was
allotted.
"""

import fcntl
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from regflow.core.errors import RegistrationError

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

DEVICES = ("auto", "cpu", "cuda")
VISIBLE = "CUDA_VISIBLE_DEVICES"
SLURM_JOB = "SLURM_JOB_ID"
LOCK_FOLDER = "regflow-gpus"
POLL_SECONDS = 0.5
NVIDIA_NODE = re.compile(r"nvidia(\d+)")


@dataclass(frozen=True)
class GpuLease:
    """A GPU that this process may use.

    Attributes:
        device: the device as ``CUDA_VISIBLE_DEVICES`` names it.
        descriptor: the open lock file; None where a scheduler already sees to it.
    """

    device: str
    descriptor: int | None = None

    def release(self) -> None:
        """Let other jobs have the device; the end of the process does the same."""
        if self.descriptor is not None:
            os.close(self.descriptor)


def list_devices(nodes: Path = Path("/dev")) -> list[str]:
    """Return the indices of the NVIDIA devices of this machine, without loading CUDA."""
    found = (NVIDIA_NODE.fullmatch(node.name) for node in nodes.glob("nvidia[0-9]*"))
    return sorted((match.group(1) for match in found if match), key=int)


def list_usable_devices(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them.

    Those of the machine, as far as that variable shows them; under Slurm those that were allotted.
    """
    return _allowed(environment, list_devices())


def lease_gpu(
    environment: MutableMapping[str, str],
    devices: Sequence[str],
    folder: Path,
    wait_seconds: float | None = None,
) -> GpuLease | None:
    """Take one GPU and show it alone in ``CUDA_VISIBLE_DEVICES``.

    When all are taken it waits: going on without one would make the result depend on the
    machine's load.

    Args:
        environment: the process's environment; changed.
        devices: devices of the machine; an existing ``CUDA_VISIBLE_DEVICES`` narrows them.
        folder: where the lock files are, the same for all jobs of the machine.
        wait_seconds: how long to wait for one; None waits as long as it takes.

    Returns:
        The lease, or None when there is no GPU to have.

    Raises:
        RegistrationError: ``wait_seconds`` went by.
    """
    allowed = _allowed(environment, devices)
    if not allowed:
        return None
    allotted = SLURM_JOB in environment
    lease = GpuLease(allowed[0]) if allotted else _wait_for_one(allowed, folder, wait_seconds)
    environment[VISIBLE] = lease.device
    log.info("GPU %s", lease.device)
    return lease


_held: GpuLease | None = None


def choose_torch_device(wanted: str) -> "torch.device":
    """Return the device to compute on; a GPU is leased until the process ends.

    Args:
        wanted: ``cpu``, ``cuda``, or ``auto`` for a GPU where there is one.

    Raises:
        RegistrationError: ``cuda`` is wanted and there is none that torch can use.
    """
    global _held
    if wanted != "cpu" and _held is None:
        _held = lease_gpu(os.environ, list_devices(), Path(tempfile.gettempdir()) / LOCK_FOLDER)
    import torch

    if wanted != "cpu" and _held is not None and torch.cuda.is_available():
        return torch.device("cuda", 0)
    if wanted == "cuda":
        raise RegistrationError("no GPU that torch can use; set device to cpu or auto, or ask for a GPU")
    return torch.device("cpu")


@contextmanager
def limit_numba_threads(count: int) -> Iterator[None]:
    """Let numba use at most ``count`` threads inside the block.

    When numba starts its threads it also sets how many OpenMP has, and so torch: set torch's after.
    """
    import numba

    before, most = numba.get_num_threads(), int(getattr(numba.config, "NUMBA_NUM_THREADS"))  # noqa: B009
    numba.set_num_threads(max(1, min(count, most)))
    try:
        yield
    finally:
        numba.set_num_threads(before)


_side_by_side: ContextVar[int] = ContextVar("_side_by_side", default=1)
"""Pieces of work that the session of this thread lets run at the same time."""


@contextmanager
def open_torch_session(threads: int, seed: int, deterministic: bool = True) -> Iterator[None]:
    """Seed torch and bind its results to nothing but the input; the caller's settings come back.

    On a CPU each of torch's operations runs on one thread: divided among several, the last bits of sums,
    convolutions and interpolations change with their number, on one kind of processor or another.
    What is to keep more threads busy is cut into pieces that do not depend on their number
    (:func:`map_over_threads`).

    Args:
        threads: of numba, and pieces of work at the same time.
        seed: of torch's random numbers.
        deterministic: let torch use only deterministic algorithms, which matters on a GPU.
    """
    import torch

    # cuBLAS asks for this before its first use; it has no effect on the CPU.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    settings: Any = torch.utils.deterministic
    before = torch.get_deterministic_debug_mode(), settings.fill_uninitialized_memory
    allowed = _side_by_side.set(max(1, threads))
    with limit_numba_threads(threads), torch.random.fork_rng(devices=[]), limit_torch_to_one_thread():
        if deterministic:
            # As use_deterministic_algorithms does, which imports torch's compilers first: more than a second.
            torch.set_deterministic_debug_mode("error")
            # Else torch writes all memory twice, first with a filling that nothing reads.
            settings.fill_uninitialized_memory = False
        torch.manual_seed(seed)
        try:
            yield
        finally:
            _side_by_side.reset(allowed)
            torch.set_deterministic_debug_mode(before[0])
            settings.fill_uninitialized_memory = before[1]


def count_session_threads() -> int:
    """Return how many threads the :func:`open_torch_session` of this thread has; 1 outside of one."""
    return _side_by_side.get()


def map_over_threads(
    work: Callable[[Item], Result], items: Sequence[Item], most: int | None = None
) -> list[Result]:
    """Do the same to each of some items, as many at a time as the session has threads.

    Each is done on one of torch's threads, so that no byte depends on how many run together. Inside an
    item's work everything is done one after the other.

    Args:
        work: computes on the CPU. It may run in another thread, where torch's modes (autocast, inference)
            are not the caller's: let it enter its own.
        items: none depends on another.
        most: at a time; None for no other bound than the session's.

    Returns:
        The results in the order of the items.
    """
    together = min(count_session_threads(), len(items), most or len(items))
    if together < 2:
        with limit_torch_to_one_thread():
            return [work(item) for item in items]

    def alone(item: Item) -> Result:
        with limit_torch_to_one_thread():
            return work(item)

    # A new thread takes over the number that holds for the process: it is 1 meanwhile.
    with limit_torch_to_one_thread(), ThreadPoolExecutor(together) as pool:
        return list(pool.map(alone, items))


def enable_half_precision(device: "torch.device", wanted: str) -> "torch.autocast":
    """Return a context in which a network computes in bfloat16, or one that changes nothing.

    Args:
        device: where it computes.
        wanted: ``float32``, ``bfloat16``, or ``auto`` for bfloat16 where the device has units for it:
            a GPU, and CPUs with matrix extensions (AMX). Elsewhere it would be slower.
    """
    import torch

    capable = device.type == "cuda" or bool(torch.cpu.get_capabilities().get("amx_tile"))
    enabled = wanted == "bfloat16" or (wanted == "auto" and capable)
    # The cache of weights in bfloat16 is one for all threads; each is used but once here.
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=False)


@contextmanager
def limit_torch_to_one_thread() -> Iterator[None]:
    """Run each torch operation inside the block on one thread of the CPU.

    How an operation is divided among threads shows in its last bits: of a sum to one number, of a
    convolution on some processors, of bilinear interpolation, of what is computed beside full vectors.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _allowed(environment: Mapping[str, str], devices: Sequence[str]) -> list[str]:
    visible = environment.get(VISIBLE)
    if visible is not None:
        named = [name.strip() for name in visible.split(",")]
        # CUDA itself stops reading at the first entry that is no device.
        stop = next((i for i, name in enumerate(named) if name in ("", "-1", "NoDevFiles")), len(named))
        return named[:stop]
    return [] if SLURM_JOB in environment else list(devices)


def _wait_for_one(devices: Sequence[str], folder: Path, wait_seconds: float | None) -> GpuLease:
    started = time.monotonic()
    told = False
    while True:
        for device in devices:
            descriptor = _try_lock(folder, device)
            if descriptor is not None:
                return GpuLease(device, descriptor)
        if wait_seconds is not None and time.monotonic() - started >= wait_seconds:
            raise RegistrationError(f"all {len(devices)} GPUs stayed busy for {wait_seconds:g} s")
        if not told:
            log.info("waiting for one of %d busy GPUs", len(devices))
            told = True
        time.sleep(POLL_SECONDS)


def _try_lock(folder: Path, device: str) -> int | None:
    """Lock a device's file and return its descriptor, or None when another job holds it."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o1777)
    path = folder / f"{re.sub(r'[^A-Za-z0-9-]', '_', device)}.lock"
    # Any user may lock; the sticky folder and O_NOFOLLOW keep users from each other's files.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
