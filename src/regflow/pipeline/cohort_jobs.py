"""Jobs of the whole cohort: what they read is fetched, and what they write is put where Snakemake looks."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from regflow.pipeline.stored_results import Results, measure_sample, open_results
from regflow.stages import layout

FETCHED_TOGETHER = 16

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
        for _ in pool.map(results.fetch, paths):
            pass
