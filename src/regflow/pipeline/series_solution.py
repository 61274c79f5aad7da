"""The maps of a series' images onto one another, of their links; and what each image's verdict is."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from regflow.core.errors import RegistrationError
from regflow.core.gate import Verdict
from regflow.core.grid import Grid
from regflow.core.transform import Affine
from regflow.methods.groupwise.graph import TransformGraph
from regflow.methods.groupwise.motion import remove_jitter, smooth_poses
from regflow.methods.groupwise.solution import GraphSolution
from regflow.methods.groupwise.solver import MEAN, solve_graph
from regflow.pipeline.series_steps import SeriesJob
from regflow.stages.series_link import SeriesLink

ImagePair = tuple[str, str]


@dataclass(frozen=True, eq=False)
class SeriesSolution:
    """What the links of a series add up to.

    Attributes:
        graph: the solution of the graph.
        poses: map of each image that is brought along to the common world; those left out have none.
        main: names of the images of the largest part.
        verdicts: of each image of the series, by name in order.
        spacing: world units of a pixel, or of a millimeter.
        grid: of the reference image.
    """

    graph: GraphSolution
    poses: Mapping[str, Affine]
    main: tuple[str, ...]
    verdicts: Mapping[str, Verdict]
    spacing: float
    grid: Grid


def solve_series(job: SeriesJob, links: Mapping[ImagePair, SeriesLink], grid: Grid) -> SeriesSolution:
    """Make the links of a series consistent.

    Args:
        job: the series.
        links: by the names of both images.
        grid: of the reference image.

    Raises:
        RegistrationError: no link can be used.
    """
    usable = [link.make_link(*pair) for pair, link in links.items() if link.is_usable]
    if not usable:
        reason = next(iter(links.values())).verdict.reason
        raise RegistrationError(f"no two images of the series could be registered to one another: {reason}")
    names, onto = job.list_prepared(), job.options["onto"]
    graph = TransformGraph(tuple(names), tuple(usable))
    found = solve_graph(graph, job.options["model"], gauge=onto, cutoff=job.options["cutoff"])
    parts = [part for part in found.parts if len(part) > 1]
    if onto != MEAN:
        parts.sort(key=lambda part: onto not in part)
    poses: dict[str, Affine] = {}
    for part in parts:
        ordered = [name for name in names if name in part]
        poses |= _keep_motion(job, {name: found.poses[name] for name in ordered}, grid)
    main = tuple(parts[0]) if parts else ()
    spacing = float(np.sqrt(np.prod(grid.spacing))) if job.kind == "rasters" else 1.0
    return SeriesSolution(found, poses, main, _judge_images(job, found, links, parts), spacing, grid)


def _keep_motion(job: SeriesJob, poses: dict[str, Affine], grid: Grid) -> dict[str, Affine]:
    """Return poses of the images of one part, in order, under which the wanted motion stays."""
    options = job.options
    if options["motion"] == "remove":
        return poses
    smooth = smooth_poses(poses, list(poses), options["model"], options["motion_width"], grid.center)
    kept = remove_jitter(poses, smooth)
    if options["onto"] not in kept:
        return kept
    back = kept[options["onto"]].inverse()
    return {name: Affine(back.matrix @ pose.matrix) for name, pose in kept.items()}


def _judge_images(
    job: SeriesJob, found: GraphSolution, links: Mapping[ImagePair, SeriesLink], parts: list[tuple[str, ...]]
) -> dict[str, Verdict]:
    """Return a verdict for each image: left out, in another part, unchecked, or well."""
    unread = job.list_unread()
    place = {name: number for number, part in enumerate(parts) for name in part}
    verdicts = {}
    for sample in job.samples:
        name = sample.name
        if name in unread:
            verdicts[name] = Verdict("fail", f"left out: {unread[name]}")
        elif name not in place:
            verdicts[name] = Verdict("fail", f"left out: {_explain_absence(name, found, links)}")
        else:
            verdicts[name] = _judge_place(name, place[name], found, parts)
    return verdicts


def _explain_absence(name: str, found: GraphSolution, links: Mapping[ImagePair, SeriesLink]) -> str:
    own = [link for pair, link in links.items() if name in pair]
    failed = [link for link in own if not link.is_usable]
    if own and len(failed) == len(own):
        return f"none of its {len(own)} registrations succeeded ({failed[0].verdict.reason})"
    return f"its {len(own) - len(failed)} links contradict those of the other images"


def _judge_place(name: str, place: int, found: GraphSolution, parts: list[tuple[str, ...]]) -> Verdict:
    own = [each for each in found.residuals if each.kept and name in (each.link.first, each.link.second)]
    figures = {"links_kept": float(len(own)), "links_checked": float(sum(each.checked for each in own))}
    if place:
        others = ", ".join(parts[place][:4])
        reason = (
            f"nothing joins its part of the series ({others}) to the largest one; it was solved by itself"
        )
        return Verdict("warn", reason, figures)
    if not any(each.checked for each in own):
        return Verdict("warn", "no loop of links checks its place", figures)
    return Verdict("pass", f"{len(own)} links agree about its place", figures)
