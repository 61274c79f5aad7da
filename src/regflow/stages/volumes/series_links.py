"""Links between the volumes of a series: a linear registration of two sessions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from regflow.core.image import Image
from regflow.core.transform import Points
from regflow.stages.series_link import SeriesLink, fit_linear_map, measure_link, summarize_points
from regflow.stages.volumes.initialize import align_volumes
from regflow.stages.volumes.working import read_working

SIGMA = 0.1
"""Standard deviation of a link, in samples; the solution finds by what factor all are less sure."""
MOST_POINTS = 20_000


def register_series_volumes(
    folder: str | Path,
    *,
    images: tuple[str | Path, str | Path],
    model: str,
    settings: Mapping[str, Any],
    threads: int = 1,
) -> None:
    """Register a session of a series to another one, and write the link.

    A link that cannot be measured is written as a failed one, with the sentence that says why.

    Args:
        folder: to write into.
        images: folders of the first session, which is the fixed one, and the second.
        model: kind of the link's map.
        settings: the complete configuration of volumes; its linear methods seek that kind.
        threads: most threads to use; no result depends on it.

    Raises:
        SettingError: an unknown method or option.
    """
    measure_link(folder, lambda: _register_volumes(images, model, settings, threads))


def _register_volumes(
    images: tuple[str | Path, str | Path], model: str, settings: Mapping[str, Any], threads: int
) -> SeriesLink:
    fixed, moving = (read_working(path) for path in images)
    found = align_volumes(fixed, moving, settings["initialize"], threads=threads, seed=settings["seed"])
    points = _find_inner_points(fixed)
    transform = fit_linear_map(model, points, found.transform.apply(points))
    sigma = SIGMA * float(np.prod(fixed.grid.spacing) ** (1 / fixed.grid.ndim))
    return SeriesLink(found.verdict, transform, sigma, summarize_points(points))


def _find_inner_points(image: Image) -> Points:
    inside = np.ones(image.grid.shape, bool) if image.mask is None else image.mask
    places = np.flatnonzero(inside)
    chosen = places[:: -(-len(places) // MOST_POINTS) or 1]
    index = np.stack(np.unravel_index(chosen, inside.shape)[::-1], axis=1)
    return image.grid.to_world(index.astype(np.float64))
