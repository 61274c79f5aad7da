"""What a graph of transforms is made of: images by name, and links that were measured between them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regflow.core.errors import InputError
from regflow.core.transform import Affine, Points

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Link:
    """A measured transform between two images.

    Attributes:
        first: name of the image whose world points the transform takes.
        second: name of the image in whose world they come out.
        transform: from the first's world to the second's.
        sigma: standard deviation of a coordinate that comes out, over the overlap, in world units.
        covariance: ``(d, d)`` of a point that comes out, in place of ``sigma`` where directions differ.
        points: ``(N, d)`` points of the first's world over the overlap. Residuals are measured there, and
            all models but translations need some.
    """

    first: str
    second: str
    transform: Affine
    sigma: float = 1.0
    covariance: ArrayLike | None = None
    points: ArrayLike | None = None

    @property
    def name(self) -> str:
        """Both names, for messages and tables."""
        return f"{self.first} - {self.second}"


@dataclass(frozen=True, eq=False)
class PositionPrior:
    """Where a point of an image is expected, as of a microscope's stage.

    Attributes:
        node: name of the image.
        point: ``(d,)`` in the image's world.
        position: ``(d,)`` where it is expected in the common world.
        sigma: standard deviation of a coordinate, in world units.
    """

    node: str
    point: ArrayLike
    position: ArrayLike
    sigma: float


@dataclass(frozen=True, eq=False)
class TransformGraph:
    """Images and the transforms measured between them.

    Nodes and links are sorted when the graph is made, so that no result depends on the order in which
    they were given.

    Attributes:
        nodes: names of the images.
        links: measured transforms; several between the same two images are allowed.
        anchors: maps from a node's world to the common world, of nodes that are held there.
        priors: expected positions.

    Raises:
        InputError: a name is given twice or is not a node, a link joins an image to itself, a number is
            not finite, an uncertainty is not above 0, a map is singular, or dimensions differ.
    """

    nodes: tuple[str, ...]
    links: tuple[Link, ...]
    anchors: Mapping[str, Affine] = field(default_factory=dict)
    priors: tuple[PositionPrior, ...] = ()

    def __post_init__(self) -> None:
        nodes = tuple(sorted(self.nodes))
        doubles = sorted({a for a, b in pairwise(nodes) if a == b})
        if doubles:
            raise InputError(f"the image '{doubles[0]}' is named twice; give every image a name of its own")
        if not nodes:
            raise InputError("a graph of transforms needs at least one image")
        object.__setattr__(self, "nodes", nodes)
        object.__setattr__(self, "links", tuple(sorted(self.links, key=_link_order)))
        object.__setattr__(self, "priors", tuple(sorted(self.priors, key=_prior_order)))
        known = set(nodes)
        for link in self.links:
            _check_link(link, known)
        for name, anchor in self.anchors.items():
            _check_map(anchor, f"the anchor of '{name}'", self.ndim)
            if name not in known:
                raise InputError(f"an anchor is given for '{name}', which is no image of the graph")
        for prior in self.priors:
            _check_prior(prior, known, self.ndim)
        odd = [link.name for link in self.links if link.transform.ndim != self.ndim]
        if odd:
            raise InputError(f"the link {odd[0]} has another number of dimensions than the first link")

    @property
    def ndim(self) -> int:
        """Number of coordinates of a point."""
        if self.links:
            return self.links[0].transform.ndim
        if self.anchors:
            return self.anchors[min(self.anchors)].ndim
        return len(np.atleast_1d(np.asarray(self.priors[0].point))) if self.priors else 2


def find_overlap_points(link: Link, ndim: int) -> Points:
    """Return the points of a link as ``(N, ndim)``; the world's origin where it has none."""
    if link.points is None:
        return np.zeros((1, ndim))
    return np.atleast_2d(np.asarray(link.points, np.float64))


def label_parts(count: int, first: ArrayLike, second: ArrayLike) -> NDArray[np.intp]:
    """Return the number of the connected part of each of ``count`` nodes, largest part first.

    Args:
        count: of nodes.
        first: ``(E,)`` numbers of the nodes at one end of each link.
        second: likewise of those at the other.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first, second = np.asarray(first, np.intp), np.asarray(second, np.intp)
    links = coo_array((np.ones(len(first)), (first, second)), shape=(count, count))
    parts, labels = connected_components(links, directed=False)
    sizes = np.bincount(labels, minlength=parts)
    begins = np.full(parts, count)
    np.minimum.at(begins, labels, np.arange(count))
    rank = np.empty(parts, np.intp)
    rank[np.lexsort((begins, -sizes))] = np.arange(parts)
    return rank[labels]


def map_names(nodes: Iterable[str]) -> dict[str, int]:
    """Return the place of each name in an order."""
    return {name: index for index, name in enumerate(nodes)}


def _link_order(link: Link) -> tuple[str, str, bytes, float, bytes]:
    points = b"" if link.points is None else np.asarray(link.points, np.float64).tobytes()
    return link.first, link.second, link.transform.matrix.tobytes(), float(link.sigma), points


def _prior_order(prior: PositionPrior) -> tuple[str, float, bytes, bytes]:
    place, position = np.asarray(prior.point, np.float64), np.asarray(prior.position, np.float64)
    return prior.node, float(prior.sigma), place.tobytes(), position.tobytes()


def _check_link(link: Link, known: set[str]) -> None:
    for name in (link.first, link.second):
        if name not in known:
            raise InputError(f"the link {link.name} names '{name}', which is no image of the graph")
    if link.first == link.second:
        raise InputError(f"the link {link.name} joins an image to itself; remove it")
    ndim = link.transform.ndim
    _check_map(link.transform, f"the link {link.name}", ndim)
    if not (np.isfinite(link.sigma) and link.sigma > 0):
        raise InputError(f"the link {link.name} has the standard deviation {link.sigma}; it must be above 0")
    if link.covariance is not None:
        spread = np.asarray(link.covariance, np.float64)
        if (
            spread.shape != (ndim, ndim)
            or not np.isfinite(spread).all()
            or np.linalg.eigvalsh(spread)[0] <= 0
        ):
            raise InputError(f"the link {link.name} has a covariance that is not positive definite")
    points = find_overlap_points(link, ndim)
    if points.ndim != 2 or points.shape[1] != ndim or len(points) == 0 or not np.isfinite(points).all():
        raise InputError(
            f"the points of the link {link.name} must be finite and have {ndim} coordinates each"
        )


def _check_map(transform: Affine, place: str, ndim: int) -> None:
    if transform.ndim != ndim:
        raise InputError(f"{place} has {transform.ndim} dimensions where the graph has {ndim}")
    if not np.isfinite(transform.matrix).all():
        raise InputError(f"{place} holds a number that is not finite")
    if abs(np.linalg.det(transform.linear)) < 1e-12:
        raise InputError(f"{place} is a singular map, which has no inverse")


def _check_prior(prior: PositionPrior, known: set[str], ndim: int) -> None:
    if prior.node not in known:
        raise InputError(f"a position is given for '{prior.node}', which is no image of the graph")
    for values in (prior.point, prior.position):
        found = np.asarray(values, np.float64)
        if found.shape != (ndim,) or not np.isfinite(found).all():
            raise InputError(f"the position of '{prior.node}' must be {ndim} finite numbers")
    if not (np.isfinite(prior.sigma) and prior.sigma > 0):
        raise InputError(f"the position of '{prior.node}' has the standard deviation {prior.sigma}")
