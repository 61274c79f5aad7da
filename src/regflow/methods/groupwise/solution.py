"""What the solution of a graph says about its images, links and loops."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from regflow.core.errors import InputError
from regflow.core.transform import Affine
from regflow.methods.groupwise.graph import Link


@dataclass(frozen=True, eq=False)
class LinkResidual:
    """How a measured link agrees with the solution.

    Attributes:
        link: the measurement.
        distance: root mean square residual over its points, in the second image's world units.
        deviations: the residual in units of its uncertainty: about 1 where all is well.
        kept: whether it took part; one that contradicts its loops does not.
        checked: whether a loop of kept links goes through it. One that is in no loop agrees with any
            solution, and nothing is known about it.
    """

    link: Link
    distance: float
    deviations: float
    kept: bool
    checked: bool


@dataclass(frozen=True, eq=False)
class LoopClosure:
    """How far one ends from the start after following measured links around a loop.

    Attributes:
        nodes: names in the order in which the loop passes them.
        distance: root mean square over the points of its first link, in world units.
        kept: whether all its links took part in the solution.
    """

    nodes: tuple[str, ...]
    distance: float
    kept: bool


@dataclass(frozen=True, eq=False)
class GraphSolution:
    """Maps of all images to a common world, and what contradicts them.

    Attributes:
        model: the kind of maps.
        poses: by name, the map from an image's world to the common world. Its inverse is the transform with
            the common world as fixed and the image as moving one.
        residuals: of every link, in the graph's order.
        triples: closures of all loops of three links.
        basis: closures of one loop for each further link between images that are joined already, kept links
            alone; every loop is made of these.
        parts: names of the images of each connected part, the largest first; how parts lie to one another
            is not known, but where anchors or expected positions tell.
        noise_scale: by how much kept residuals exceed their stated uncertainties; 1 where they do not.
    """

    model: str
    poses: Mapping[str, Affine]
    residuals: tuple[LinkResidual, ...]
    triples: tuple[LoopClosure, ...]
    basis: tuple[LoopClosure, ...]
    parts: tuple[tuple[str, ...], ...]
    noise_scale: float

    def find_transform(self, first: str, second: str) -> Affine:
        """Return the map from one image's world to another's that follows from the solution.

        Raises:
            InputError: there is no such image, or the two lie in parts that nothing joins.
        """
        for name in (first, second):
            if name not in self.poses:
                raise InputError(f"'{name}' is no image of the graph")
        return Affine(self.poses[second].inverse().matrix @ self.poses[first].matrix)

    def list_contradictions(self) -> list[LinkResidual]:
        """Return the links that were dropped, those with the largest residual first."""
        dropped = [residual for residual in self.residuals if not residual.kept]
        return sorted(dropped, key=lambda each: (-each.deviations, each.link.first, each.link.second))

    def list_figures(self, unit: str) -> dict[str, float]:
        """Return counts, and residuals and closures in ``unit``, for tables."""
        kept = [each.distance for each in self.residuals if each.kept]
        loops = [each.distance for each in self.triples if each.kept]
        return {
            "images": float(len(self.poses)),
            "parts": float(len(self.parts)),
            "links": float(len(self.residuals)),
            "links_dropped": float(len(self.residuals) - len(kept)),
            "links_unchecked": float(sum(each.kept and not each.checked for each in self.residuals)),
            f"residual_rms_{unit}": float(np.sqrt(np.mean(np.square(kept)))) if kept else 0.0,
            f"residual_max_{unit}": max(kept, default=0.0),
            f"closure_median_{unit}": float(np.median(loops)) if loops else 0.0,
            f"closure_max_{unit}": max(loops, default=0.0),
        }

    def to_dict(self, unit: str) -> dict[str, Any]:
        """Return a JSON-ready description without the loops."""
        return {
            "model": self.model,
            "figures": self.list_figures(unit),
            "parts": [list(part) for part in self.parts],
            "poses": {name: pose.matrix.tolist() for name, pose in self.poses.items()},
            "links": [
                {
                    "first": each.link.first,
                    "second": each.link.second,
                    f"residual_{unit}": each.distance,
                    "deviations": each.deviations,
                    "kept": each.kept,
                    "checked": each.checked,
                }
                for each in self.residuals
            ],
        }
