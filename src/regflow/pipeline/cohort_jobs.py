"""Jobs of the whole cohort: what they read is fetched, and what they write is put where Snakemake looks."""

import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from regflow.core.files import compute_sha256
from regflow.pipeline.stored_results import FETCHED_TOGETHER, Results, measure_sample, open_results
from regflow.stages import layout
from regflow.stages.freshness import STAGE_FILE

Locate = Callable[[str | Path], Path]


def gather_cohort(
    output: str | Path, tables: Mapping[str, str | Path], assessed: Sequence[str | Path], **how: Any
) -> None:
    """Write the cohort's tables; see :func:`regflow.stages.gather.gather`.

    Args:
        output: the folder of results, as the configuration names it.
        tables: where to write them.
        assessed: directories below ``output``.
        how: the other arguments of that function.
    """
    from regflow.stages.gather import gather

    with fetch_results(output, assessed) as locate:
        gather(tables, [locate(path) for path in assessed], measure=partial(measure_sample, output), **how)


def publish_derivatives(
    output: str | Path, root: str | Path, applied: Sequence[str], refined: Sequence[str], **how: Any
) -> None:
    """Name the products as BIDS does; see :func:`regflow.cohort.volumes.derivatives.publish_cohort`.

    Args:
        output: the folder of results, as the configuration names it.
        root: the folder to write.
        applied: directories below ``output``.
        refined: directories below ``output``.
        how: the other arguments of that function.
    """
    from regflow.cohort.volumes.derivatives import publish_cohort

    with fetch_results(output, [*applied, *refined]) as locate:
        publish_cohort(root, applied=map(locate, applied), refined=map(locate, refined), **how)


def write_cohort_page(
    output: str | Path,
    page: str | Path,
    *,
    samples: Sequence[str],
    assessed: Sequence[str],
    pages: Sequence[str],
    images: Sequence[str],
    **how: Any,
) -> None:
    """Write the cohort's page; see :func:`regflow.stages.pages.report_cohort`.

    Args:
        output: the folder of results, as the configuration names it.
        page: the file to write.
        samples: their ids.
        assessed: directories below ``output``, one for each sample.
        pages: files below ``output``, one for each sample.
        images: files below ``output``, one for each sample.
        how: the other arguments of that function.
    """
    from regflow.stages.pages import report_cohort

    with fetch_results(output, [*assessed, *images]) as locate:
        # Its links lead from where it lies among the results.
        here = locate(f"{output}/{layout.COHORT_PAGE}")
        report_cohort(
            here,
            assessed=[locate(path) for path in assessed],
            pages=dict(zip(samples, map(locate, pages), strict=True)),
            images=dict(zip(samples, map(locate, images), strict=True)),
            **how,
        )
        if here != Path(page):
            Path(page).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(here, page)


def describe_run(output: str | Path, crate: str | Path, workflow: str | Path, **how: Any) -> None:
    """Write the crate of a run; see :func:`regflow.provenance.crate.write_crate`.

    Args:
        output: the folder of results, as the configuration names it.
        crate: the file to write.
        workflow: the folder to write with the rules that ran.
        how: the other arguments of that function.
    """
    from regflow.provenance.crate import write_crate

    with open_results(output) as results:
        rules = results.folder / layout.WORKFLOW

        def compute_checksum(path: Path) -> str:
            # The rules are copied by this job, which has not sent them yet.
            return compute_sha256(path) if path.is_relative_to(rules) else results.compute_checksum(path)

        results.fetch_outline(_is_record)
        written = write_crate(results.folder / layout.CRATE, compute_checksum=compute_checksum, **how)
        for made, wanted in ((written, Path(crate)), (rules, Path(workflow))):
            if made != wanted:
                shutil.rmtree(wanted, ignore_errors=True)
                wanted.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(made, wanted)


def _is_record(path: PurePosixPath) -> bool:
    """Tell whether a result tells of others, or of the run."""
    return (
        path.name == STAGE_FILE
        or path.as_posix() == layout.PROVENANCE
        or any(path.is_relative_to(folder) for folder in layout.FOLDERS_OF_RECORDS)
    )


@contextmanager
def fetch_results(output: str | Path, paths: Iterable[str | Path]) -> Iterator[Locate]:
    """Fetch results, where they lie on a server.

    Args:
        output: the folder of results, as the configuration names it.
        paths: below it.

    Yields:
        A function that tells where the job finds or writes a path below ``output``.
    """
    with open_results(output) as results:

        def locate(path: str | Path) -> Path:
            return results.folder / Path(path).relative_to(output)

        if results.provider is not None:
            _fetch_together(results, map(locate, paths))
        yield locate


def _fetch_together(results: Results, paths: Iterable[Path]) -> None:
    with ThreadPoolExecutor(FETCHED_TOGETHER) as pool:
        deque(pool.map(results.fetch, paths), maxlen=0)
