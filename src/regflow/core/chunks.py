"""Work over the blocks of a scene: threads here, processes, a Dask cluster, or Slurm through Dask.

Results come back in the items' order and only a few blocks are under way at a time, so neither the
number of workers nor their speed can change a result, and memory depends on blocks and workers, not
on the scene.
"""

import asyncio
import logging
import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from regflow.core.addresses import keep_addresses, list_kept_addresses
from regflow.core.errors import InputError
from regflow.core.threads import count_cores

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")
Window = tuple[slice, slice]

SCHEDULERS = ("threads", "processes", "address", "slurm")
DEFAULTS: dict[str, Any] = {
    "scheduler": "threads",
    "workers": None,
    "address": None,
    "memory": "1.5GB",
    "chunk": 1024,
    "slurm": {},
}
"""The ``dask`` section of a configuration, by default."""

_SHARE_PER_BLOCK = 2
_SECONDS_BETWEEN_LINES = 15.0
_START_SECONDS = 60
_CONNECT_SECONDS = 15
_RENEW_SECONDS = 30


_SIZE = re.compile(r"([0-9]+(?:\.[0-9]*)?(?:e[0-9]+)?) *([kmgt]?)(i?)b?", re.IGNORECASE)
_PREFIXES = " kmgt"


class _Pending(Protocol):
    def result(self) -> Any:
        """Wait for the result, or raise what the function raised."""

    def cancel(self) -> Any:
        """Give the work up if it has not begun."""


@dataclass(frozen=True, eq=False)
class Workers:
    """Who does the work; made by :func:`open_workers`.

    Attributes:
        submit: start a function on one item.
        count: how many items are worked on at once.
        chunk: side of the blocks to cut a scene into, in pixels.
        memory: bytes that all blocks under way may take together.
    """

    submit: Callable[[Callable[[Any], Any], Any], _Pending]
    count: int
    chunk: int
    memory: int


@contextmanager
def open_workers(
    settings: Mapping[str, Any] | None = None, *, threads: int | None = None
) -> Iterator[Workers]:
    """Open the workers of a ``dask`` section; they are closed when the block ends.

    The log tells the address of Dask's dashboard, which needs bokeh for its pages.

    Args:
        settings: ``scheduler`` (``threads``, ``processes``, ``address`` or ``slurm``), ``workers``
            (null for ``threads``), ``address`` (``tcp://host:port``), ``memory`` (``"1.5GB"``, of all
            together; of each worker on Slurm), ``chunk`` (pixels), ``slurm`` (options of
            dask-jobqueue's SLURMCluster); missing keys take their default.
        threads: how many workers null means; None takes the cores this process may use.

    Raises:
        InputError: an unknown scheduler, or one that cannot be reached.
    """
    chosen = {**DEFAULTS, **(settings or {})}
    scheduler = chosen["scheduler"]
    if scheduler not in SCHEDULERS:
        raise InputError(f"dask: scheduler {scheduler!r} is unknown; choose from {', '.join(SCHEDULERS)}")
    count = int(chosen["workers"] or threads or count_cores())
    chunk, memory = int(chosen["chunk"]), _bytes(chosen["memory"])
    if scheduler == "threads":
        with _threads(count) as submit:
            yield Workers(submit, count, chunk, memory)
        return
    with _client(scheduler, chosen, count, memory) as client:
        log.info("Dask's dashboard: %s", client.dashboard_link)

        def submit_task(function: Callable[[Any], Any], item: Any) -> _Pending:
            # Impure: equal calls must not share a key, and a lost result is computed anew.
            return client.submit(_with_addresses, list_kept_addresses(), function, item, pure=False)

        if scheduler == "address":
            count = max(1, sum(client.nthreads().values()))
        yield Workers(submit_task, count, chunk, memory)


def map_blocks(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: Workers,
    *,
    describe: str = "",
    item_bytes: int | None = None,
) -> Generator[Result, None, None]:
    """Yield ``function(item)`` for every item, in the items' order.

    Never more than twice as many items are under way as there are workers; with ``item_bytes``,
    never more than the workers' memory holds (but always one). A killed Dask worker's items are
    done again by the others. Where standard error is a terminal a bar shows the progress; a log
    gets a line now and then.

    Args:
        function: picklable, so a function of a module or a ``functools.partial`` of one.
        items: picklable.
        workers: who does the work.
        describe: stands before the bar.
        item_bytes: memory that one item takes while it is worked on.
    """
    ahead = _SHARE_PER_BLOCK * workers.count
    if item_bytes:
        ahead = max(1, min(ahead, workers.memory // item_bytes))
    total = len(items) if isinstance(items, Sequence) else None
    return _ordered(function, items, workers, ahead, _shown(describe, total))


def split_blocks(shape: tuple[int, ...], chunk: int) -> list[Window]:
    """Cut ``(rows, columns)`` into windows of at most ``chunk`` pixels a side, row by row."""
    rows, cols = (
        [slice(start, min(start + chunk, size)) for start in range(0, size, chunk)] for size in shape
    )
    return [(row, col) for row in rows for col in cols]


def _ordered(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: Workers,
    ahead: int,
    steps: Generator[None, None, None],
) -> Generator[Result, None, None]:
    pending: deque[_Pending] = deque()
    try:
        with closing(steps):
            next(steps)
            for item in items:
                pending.append(workers.submit(function, item))
                while len(pending) >= ahead:
                    yield pending.popleft().result()
                    next(steps)
            while pending:
                yield pending.popleft().result()
                next(steps)
    finally:
        for item_pending in pending:
            item_pending.cancel()


def _shown(title: str, total: int | None) -> Generator[None, None, None]:
    """Count steps, with a bar in a terminal, else with a line now and then."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=total, desc=title or None, leave=False) as bar:
            yield
            while True:
                bar.update()
                yield
    count, said = 0, time.monotonic()
    yield
    while True:
        count += 1
        if time.monotonic() - said > _SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            log.info("%s: %d of %s blocks", title or "working", count, total if total else "?")
        yield


@contextmanager
def _threads(count: int) -> Iterator[Callable[[Callable[[Any], Any], Any], _Pending]]:
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(count, thread_name_prefix="block")
    try:
        yield pool.submit
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _bytes(size: str | float) -> int:
    """Return a size such as ``"1.5GB"`` or ``"2 GiB"`` in bytes.

    Raises:
        InputError: it is no size.
    """
    found = _SIZE.fullmatch(str(size).strip())
    if found is None:
        raise InputError(f"dask: memory {size!r} is no size; write a number with a unit, as 1.5GB or 512MiB")
    number, prefix, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** _PREFIXES.index(prefix.lower() or " "))


@contextmanager
def _client(scheduler: str, settings: Mapping[str, Any], count: int, memory: int) -> Iterator["Client"]:
    from distributed import Client

    if scheduler == "address":
        if not settings["address"]:
            raise InputError("dask: scheduler is 'address' but no address is given; write tcp://HOST:PORT")
        try:
            client = Client(settings["address"], timeout=_CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise InputError(
                f"dask: no scheduler answers at {settings['address']}; start one (dask scheduler) or mend "
                "the address"
            ) from error
        with client:
            _refuse_without_regflow(client, settings["address"])
            yield client
        return
    cluster = _local_cluster(count, memory) if scheduler == "processes" else _slurm_cluster(settings, count)
    with cluster, Client(cluster, set_as_default=False) as client:
        cluster.loop.add_callback(_renew_workers, cluster, count)
        client.wait_for_workers(1, timeout=None if scheduler == "slurm" else _START_SECONDS)
        yield client


def _with_addresses(addresses: Mapping[str, str], function: Callable[[Item], Result], item: Item) -> Result:
    """Call a function in a worker that may not know yet how to open what lies on servers."""
    keep_addresses(addresses)
    return function(item)


def _refuse_without_regflow(client: "Client", address: str) -> None:
    """Refuse workers that cannot import what they will be given: Dask would wait for them forever."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = set(client.run(version, "regflow").values())
    except PackageNotFoundError as error:
        raise InputError(f"dask: the workers at {address} have no regflow; install it there") from error
    if found - {version("regflow")}:
        raise InputError(
            f"dask: the workers at {address} have regflow {', '.join(sorted(found))}, not "
            f"{version('regflow')}; install the same there"
        )


def _local_cluster(count: int, memory: int) -> Any:
    """Start worker processes of this machine.

    They are programs of their own, not copies of this one: multiprocessing would run the main
    script again, and a workflow's scripts do their work when they are run.
    """
    from distributed import Scheduler
    from distributed.deploy.spec import SpecCluster
    from distributed.deploy.subprocess import SubprocessWorker

    # Dask's programs read it; without it each one chats about its connections.
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "error")
    options = {"nthreads": 1, "memory_limit": memory // count, "dashboard": False}
    worker = {"cls": SubprocessWorker, "options": {"worker_kwargs": options}}
    host = {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0"}
    return SpecCluster(
        workers=dict.fromkeys(range(count), worker),
        scheduler={"cls": Scheduler, "options": host},
        worker=worker,
        silence_logs=logging.ERROR,
    )


def _slurm_cluster(settings: Mapping[str, Any], count: int) -> Any:
    from dask_jobqueue import SLURMCluster

    share = {"cores": 1, "processes": 1, "memory": settings["memory"]}
    # Two scenes on one machine must not ask for the same port.
    cluster = SLURMCluster(**{**share, "scheduler_options": {"dashboard_address": ":0"}, **settings["slurm"]})
    cluster.scale(count)
    return cluster


async def _renew_workers(cluster: Any, count: int) -> None:
    """Start workers anew that were killed, or whose job's time is over, as long as the cluster is open."""
    from distributed.core import Status

    while True:
        await asyncio.sleep(_RENEW_SECONDS)
        if cluster.status in (Status.closing, Status.closed):
            return
        cluster.scale(count)
