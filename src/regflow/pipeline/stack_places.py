"""The sections of a stack on the block's plane: order, links, places and bends, and what to say of them."""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.chunks import Workers, map_blocks
from regflow.core.errors import InputError
from regflow.methods.context import RunContext
from regflow.methods.stack.reference_shape import (
    ReferenceFit,
    StackGeometry,
    locate_stack,
    read_reference,
    refine_poses,
)
from regflow.methods.stack.section_bends import PlacedSection, deform_sections
from regflow.methods.stack.section_chain import SectionPlaces, make_mirror, place_sections
from regflow.methods.stack.section_links import JudgedSections, SectionLink, SectionPair, judge_sections
from regflow.methods.stack.section_order import find_misplaced, move_misplaced
from regflow.methods.stack.section_pose import (
    PosedSection,
    estimate_pose,
    mirror_picture,
    prepare_sections,
)
from regflow.pipeline.stack_sections import SectionImages, WorkingSections, coarsen_sections

log = logging.getLogger(__name__)

Array = NDArray[np.float64]

REFERENCE_ROUNDS = 3
"""How often the stack is laid on its reference, and its sections on their planes there."""

MARGIN_SHARE = 0.02
"""Border around the tissue of all sections, as a part of the diagonal."""
TISSUE_POINTS = 12
"""Points of each section's tissue at which links are held against one another, about."""


@dataclass(frozen=True, eq=False)
class PlacedStack:
    """Sections on the block's plane.

    Attributes:
        images: the files.
        working: the sections as they are compared.
        order: numbers of all sections, as they lie in the volume.
        judged: what links say of them.
        places: where they lie.
        misplaced: the name of the section before which one belongs, by number; "" for behind the last.
        origin: ``(x, y)`` of the volume's first pixel on the block's plane, in working pixels.
        shape: rows and columns of the volume in working pixels.
        bends: ``(N, 2, rows, columns)`` fields, by the section's number.
        fit: how the stack lies in its reference, None without one.
    """

    images: SectionImages
    working: WorkingSections
    order: tuple[int, ...]
    judged: JudgedSections
    places: SectionPlaces
    misplaced: Mapping[int, str]
    origin: Array
    shape: tuple[int, int]
    bends: NDArray[np.float32]
    fit: ReferenceFit | None = None

    @property
    def is_seen(self) -> NDArray[np.bool_]:
        """Which sections show tissue, ``(N,)``."""
        return np.array([picture is not None for picture in self.working.pictures])

    def find_map(self, number: int) -> Array:
        """Return the map ``(3, 3)`` from working pixels of the volume, after the bend, to a section's."""
        shift = np.eye(3)
        shift[:2, 2] = self.origin
        matrix = np.linalg.inv(self.places.poses[number]) @ shift
        if self.judged.mirrored[number]:
            width = self.images.shapes[number][1] / self.working.factor
            matrix = make_mirror(math.ceil(width)) @ matrix
        return np.asarray(matrix)


def place_stack(
    images: SectionImages, settings: Mapping[str, Any], workers: Workers, threads: int = 1
) -> PlacedStack:
    """Find where all sections lie on the block's plane, and how they are bent.

    Raises:
        InputError: fewer than two sections show tissue.
    """
    working = coarsen_sections(images, settings["across"])
    seen = [number for number, picture in enumerate(working.pictures) if picture is not None]
    if len(seen) < 2:
        raise InputError("fewer than two sections show tissue; a stack needs two or more")
    comparison = SectionComparison(working, seen, settings, workers)
    order, judged, places, misplaced = _place_in_order(images, working, seen, comparison, settings["order"])
    sizes = _measure_sizes(images, working)
    origin, shape = _find_canvas(
        working, [n for n in seen if judged.fitting[n]] or seen, judged, places, sizes
    )
    bends = np.zeros((len(images.names), 2, *shape), np.float32)
    stack = PlacedStack(images, working, tuple(order), judged, places, misplaced, origin, shape, bends)
    if settings["reference"] is not None:
        stack = take_reference_shape(stack, settings, threads)
    if settings["deform"]:
        along = [number for number in order if working.pictures[number] is not None]
        stack.bends[along] = deform_sections(
            [show_section(stack, number) for number in along],
            list_bend_options(),
            rounds=settings["rounds"],
            smoothness=settings["bend_percent"] / 100 * math.hypot(*np.median(sizes, axis=0)),
            threads=threads,
        )
    return stack


def take_reference_shape(stack: PlacedStack, settings: Mapping[str, Any], threads: int) -> PlacedStack:
    """Return a stack whose slow shape is that of its reference.

    Raises:
        InputError: the reference cannot be read, sizes are not given, or the stack does not fit it.
    """
    if not settings["pixel_size_um"] or not settings["section_um"]:
        raise InputError("a reference needs sizes; give pixel_size_um and section_um as well")
    reference = read_reference(settings["reference"])
    pixel_mm = settings["pixel_size_um"] / 1000 * stack.working.factor
    context = RunContext(threads=threads)
    sizes = _measure_sizes(stack.images, stack.working)
    for _ in range(REFERENCE_ROUNDS):
        blank = PlacedSection(np.zeros(stack.shape, np.float32), np.zeros(stack.shape, bool), False, False)
        shown = [show_section(stack, n) if stack.is_seen[n] else blank for n in stack.order]
        geometry = StackGeometry(
            pixel_mm, settings["section_um"] / 1000, (float(stack.origin[0]), float(stack.origin[1]))
        )
        planes = np.array([section.values for section in shown])
        holds = np.array([section.holds for section in shown])
        fit = locate_stack(planes, holds, reference, geometry, stack.fit, context)
        poses = stack.places.poses.copy()
        order = list(stack.order)
        poses[order], told = refine_poses(shown, poses[order], reference, geometry, fit)
        log.info("%d sections tell the shape by the reference, which explains %.3f", told, fit.explained)
        places = replace(stack.places, poses=poses)
        numbers = [n for n in order if stack.judged.fitting[n] and stack.is_seen[n]]
        origin, shape = _find_canvas(stack.working, numbers, stack.judged, places, sizes)
        bends = np.zeros((len(stack.images.names), 2, *shape), np.float32)
        stack = replace(stack, places=places, origin=origin, shape=shape, bends=bends, fit=fit)
    return stack


class SectionComparison:
    """Compares pairs of sections, each once."""

    def __init__(
        self, working: WorkingSections, seen: Sequence[int], settings: Mapping[str, Any], workers: Workers
    ) -> None:
        pictures = [working.pictures[number] for number in seen]
        known = [picture for picture in pictures if picture is not None]
        self._upright = dict(zip(seen, prepare_sections(known), strict=True))
        self._mirrored: dict[int, PosedSection] = {}
        if settings["mirrored"]:
            turned = prepare_sections([mirror_picture(picture) for picture in known])
            self._mirrored = dict(zip(seen, turned, strict=True))
        self._reach, self._workers = settings["turn_deg"], workers
        self._known: dict[SectionPair, SectionLink] = {}

    def __call__(self, pairs: Sequence[SectionPair]) -> Iterable[SectionLink]:
        """Return the links of pairs, in their order."""
        new = [pair for pair in pairs if pair not in self._known]
        for link in map_blocks(self._compare, new, self._workers, describe="links"):
            self._known[link.pair] = link
        return [self._known[pair] for pair in pairs]

    def _compare(self, pair: SectionPair) -> SectionLink:
        first, second = pair
        fixed = self._upright[first]
        other = self._mirrored.get(second)
        return SectionLink(
            pair,
            estimate_pose(fixed, self._upright[second], self._reach),
            None if other is None else estimate_pose(fixed, other, self._reach),
        )


def show_section(stack: PlacedStack, number: int) -> PlacedSection:
    """Return a section on the block's plane, at working pixels."""
    import cv2

    picture = stack.working.pictures[number]
    assert picture is not None
    warp = partial(
        cv2.warpAffine,
        M=stack.find_map(number)[:2],
        dsize=stack.shape[::-1],
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    )
    judged = stack.judged
    stained = bool(judged.stained[number])
    return PlacedSection(
        np.asarray(warp(picture.values), np.float32),
        warp(picture.tissue.astype(np.float32)) > 0.5,
        bool(judged.fitting[number]) and not stained,
        stained,
    )


def list_bend_options() -> dict[str, Any]:
    """Return the options of the engine that bends sections: two coarse levels, as bends are smooth."""
    from regflow.core.json_schema import fill_defaults
    from regflow.methods.refine.greedy_options import GREEDY

    levels = {"shrink": [4, 2], "iterations": [40, 20], "radius": [2, 2], "field_sigma": [0.27, 0.27]}
    return fill_defaults(GREEDY, {**levels, "metric": "lncc", "device": "cpu"})


def describe_stack(stack: PlacedStack) -> list[str]:
    """Return sentences on sections that are missing, damaged, mirrored or out of order, and on parts."""
    names, judged = stack.images.names, stack.judged
    told = list(stack.images.problems)
    told += [
        f"{names[number]}: {reason}; its neighbors were bridged"
        for number, reason in stack.working.reasons.items()
        if number not in stack.images.reasons
    ]
    for number in stack.order:
        if not stack.is_seen[number]:
            continue
        if judged.mirrored[number]:
            told.append(f"{names[number]}: lies the wrong side up; it was turned over")
        if number in stack.misplaced:
            place = stack.misplaced[number]
            where = f"before {place}" if place else "at the end"
            told.append(f"{names[number]}: is out of order; by its looks it belongs {where}")
        elif not judged.fitting[number]:
            told.append(
                f"{names[number]}: fits none of its neighbors, as a torn section or one of elsewhere; "
                "they were bridged"
            )
        if judged.stained[number]:
            told.append(f"{names[number]}: has another contrast than its neighbors; none is bent onto it")
    parts = [part for part in stack.places.solution.parts if len(part) > 1]
    if len(parts) > 1:
        sizes = ", ".join(str(len(part)) for part in parts)
        told.append(
            f"the sections form {len(parts)} parts that no link joins, of {sizes} sections; each was solved "
            "by itself, and how they lie to one another is as scanned"
        )
    return told


def _place_in_order(
    images: SectionImages,
    working: WorkingSections,
    seen: Sequence[int],
    comparison: SectionComparison,
    wanted: str,
) -> tuple[list[int], JudgedSections, SectionPlaces, dict[int, str]]:
    """Return the order of all sections, what links say, where they lie, and which are out of order."""
    count = len(images.names)
    judged = judge_sections(count, seen, comparison)
    found = find_misplaced(seen, judged, comparison)
    # Places among those seen, as numbers of all; behind the last one is none.
    ends = [*seen, count]
    misplaced = {seen[place]: ends[before] for place, before in found.items()}
    order = list(range(count))
    if misplaced and wanted == "sort":
        order = move_misplaced(order, misplaced)
    along = [number for number in order if working.pictures[number] is not None]
    if misplaced:
        suspects = set(misplaced) if wanted == "keep" else set()
        judged = judge_sections(count, along, comparison, suspects)
    named = {number: images.names[place] if place < count else "" for number, place in misplaced.items()}
    return order, judged, _place(images, working, along, judged), named


def _place(
    images: SectionImages, working: WorkingSections, along: Sequence[int], judged: JudgedSections
) -> SectionPlaces:
    points = [_list_tissue_points(working, number) for number in range(len(images.names))]
    return place_sections(images.names, along, judged, points, _measure_sizes(images, working))


def _measure_sizes(images: SectionImages, working: WorkingSections) -> Array:
    """Return widths and heights of all sections in working pixels, ``(N, 2)``."""
    return np.ceil(images.shapes[:, ::-1] / working.factor)


def _list_tissue_points(working: WorkingSections, number: int) -> Array:
    picture = working.pictures[number]
    if picture is None:
        return np.zeros((0, 2))
    rows, columns = np.nonzero(picture.tissue)
    step = max(1, len(rows) // TISSUE_POINTS)
    return np.stack([columns, rows], axis=1)[step // 2 :: step].astype(np.float64)


def _find_canvas(
    working: WorkingSections,
    numbers: Sequence[int],
    judged: JudgedSections,
    places: SectionPlaces,
    sizes: Array,
) -> tuple[Array, tuple[int, int]]:
    """Return the first pixel and the shape of a box around the tissue of sections on the block's plane."""
    corners = []
    for number in numbers:
        picture = working.pictures[number]
        assert picture is not None
        rows, columns = np.nonzero(picture.tissue)
        points = np.stack([columns, rows], axis=1).astype(np.float64)
        if judged.mirrored[number]:
            points[:, 0] = sizes[number][0] - 1 - points[:, 0]
        pose = places.poses[number]
        corners.append(points @ pose[:2, :2].T + pose[:2, 2])
    lows = np.array([part.min(axis=0) for part in corners])
    highs = np.array([part.max(axis=0) for part in corners])
    margin = MARGIN_SHARE * math.hypot(*np.median(sizes, axis=0))
    low = np.floor(lows.min(axis=0) - margin)
    extent = np.ceil(highs.max(axis=0) + margin) - low + 1
    return low, (int(extent[1]), int(extent[0]))
