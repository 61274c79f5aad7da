"""A registration between two images of a series: its linear map, how sure it is, and its record."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError, RegistrationError, SettingError
from regflow.core.files import read_json, write_json
from regflow.core.gate import Verdict
from regflow.core.transform import Affine, Points
from regflow.methods.groupwise.graph import Link
from regflow.methods.groupwise.models import fit_common_map

LINK_FILE = "link.json"
DOUBTED = 2.0
"""By how much a link that is only warned of counts as less sure."""


@dataclass(frozen=True, eq=False)
class SeriesLink:
    """What came of registering two images of a series.

    Attributes:
        verdict: ``fail`` leaves the link out; its reason says why.
        transform: from the first to the second image's world points; None where nothing was found.
        sigma: standard deviation of a coordinate over the overlap, in world units.
        points: ``(N, d)`` points of the first image's world over the overlap.
    """

    verdict: Verdict
    transform: Affine | None = None
    sigma: float = 1.0
    points: Points | None = None

    @property
    def is_usable(self) -> bool:
        """Whether the link counts."""
        return self.transform is not None and self.verdict.status != "fail"

    def make_link(self, first: str, second: str) -> Link:
        """Return the link between two images as the graph takes it."""
        assert self.transform is not None
        sigma = self.sigma * (DOUBTED if self.verdict.status == "warn" else 1.0)
        return Link(first, second, self.transform, sigma, points=self.points)


def measure_link(folder: str | Path, measure: Callable[[], SeriesLink]) -> None:
    """Measure a link and write it; one that cannot be measured fails, with the sentence that says why.

    Raises:
        SettingError: an unknown method or option, which concerns all links.
    """
    try:
        link = measure()
    except SettingError:
        raise
    except (InputError, RegistrationError) as error:
        link = SeriesLink(Verdict("fail", str(error)))
    write_link(folder, link)


def write_link(folder: str | Path, link: SeriesLink) -> None:
    """Write ``link.json``."""
    content: dict[str, Any] = {"verdict": link.verdict.to_dict()}
    if link.transform is not None and link.points is not None:
        content |= {
            "matrix": link.transform.matrix.tolist(),
            "sigma": link.sigma,
            "points": link.points.tolist(),
        }
    write_json(Path(folder) / LINK_FILE, content)


def read_link(folder: str | Path) -> SeriesLink:
    """Read what :func:`write_link` wrote."""
    content: Mapping[str, Any] = read_json(Path(folder) / LINK_FILE)
    verdict = Verdict.from_dict(content["verdict"])
    if "matrix" not in content:
        return SeriesLink(verdict)
    points = np.array(content["points"], np.float64)
    return SeriesLink(verdict, Affine(np.array(content["matrix"])), float(content["sigma"]), points)


def fit_linear_map(model: str, points: Points, moved: Points) -> Affine:
    """Return the linear map of a model that brings points nearest to where they were moved.

    Args:
        model: of :data:`regflow.methods.groupwise.models.MODELS`.
        points: ``(N, d)``.
        moved: ``(N, d)``.
    """
    if model != "affine":
        return Affine(fit_common_map(model, points, moved))
    here, there = points.mean(axis=0), moved.mean(axis=0)
    linear, *_ = np.linalg.lstsq(points - here, moved - there, rcond=None)
    return Affine.from_parts(linear.T, there - here, here)


def summarize_points(points: Points) -> NDArray[np.float64]:
    """Return few points ``(2 d + 1, d)`` with the middle and the spread of many."""
    middle = points.mean(axis=0)
    values, axes = np.linalg.eigh(np.atleast_2d(np.cov(points.T, bias=True)))
    # Twice d points at so many standard deviations, and the middle, spread as all of them do.
    reach = np.sqrt(len(middle) + 0.5) * axes.T * np.sqrt(np.maximum(values, 0))[:, None]
    return np.concatenate([middle[None], middle + reach, middle - reach])
