"""Which sections are compared, which lie the wrong side up, and which fit none of their neighbors."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from regflow.methods.stack.section_pose import SectionPose

Array = NDArray[np.float64]
SectionPair = tuple[int, int]
Measure = Callable[[Sequence[SectionPair]], Iterable["SectionLink"]]
"""Compares pairs of sections, in their order."""

STEPS = (1, 2)
"""How many places apart sections are compared."""
MIRROR_TRUST = 0.8
MIRROR_COST = 0.02
"""What a score counts for between two sections of which one lies the wrong side up, and what each such
section costs: organs are nearly symmetric, and few sections are mirrored."""
MOST_REACH = 6
"""Places over which a link has a say in which side is up."""
LOCAL = 4
"""Links on either side with whose scores a link's own is compared: what sections show changes slowly."""
FITTING = 0.5
"""Part of the usual score that the best link of a sound section reaches."""
USABLE = 0.35
"""Part of the usual score below which a link is no link."""
LEAST_SCORE = 0.02
STAINED = 0.3
"""Part of the usual correlation below which a section's own is that of another contrast."""


@dataclass(frozen=True, eq=False)
class SectionLink:
    """Two sections compared.

    Attributes:
        pair: their numbers, the fixed one first.
        upright: how the second lies to the first; None where they have nothing in common.
        mirrored: the same with the second one mirrored; None where that was not asked for, too.
    """

    pair: SectionPair
    upright: SectionPose | None
    mirrored: SectionPose | None

    def find_pose(self, differs: bool) -> SectionPose | None:
        """Return the pose that holds where one of both sections is mirrored, or where none or both are."""
        return self.mirrored if differs else self.upright

    def find_pose_among(self, mirrored: NDArray[np.bool_]) -> SectionPose | None:
        """Return the pose that holds where those sections lie the wrong side up, ``(N,)``."""
        return self.find_pose(bool(mirrored[self.pair[0]] != mirrored[self.pair[1]]))


@dataclass(frozen=True, eq=False)
class JudgedSections:
    """What links say of sections.

    Attributes:
        links: all that were measured, by pair.
        mirrored: ``(N,)`` which lie the wrong side up.
        qualities: ``(N,)`` best score among a section's links in units of the usual one there.
        fitting: ``(N,)`` which fit a neighbor.
        stained: ``(N,)`` which fit, but in another contrast.
    """

    links: Mapping[SectionPair, SectionLink]
    mirrored: NDArray[np.bool_]
    qualities: Array
    fitting: NDArray[np.bool_]
    stained: NDArray[np.bool_]

    def find_pose(self, pair: SectionPair) -> SectionPose | None:
        """Return the pose between two sections, each as it lies."""
        return self.links[pair].find_pose_among(self.mirrored)


def judge_sections(
    count: int, order: Sequence[int], measure: Measure, suspects: Collection[int] = ()
) -> JudgedSections:
    """Compare sections with their neighbors, and judge them; those that fit none are bridged.

    Args:
        count: of all sections.
        order: numbers of those that can be compared, as they follow one another.
        measure: compares pairs.
        suspects: numbers of those that count as fitting none, however well they do.
    """
    links = {link.pair: link for link in measure(_list_pairs(order))}
    judged = _judge_links(count, order, links, suspects)
    sound = [number for number in order if judged.fitting[number]]
    bridges = [pair for pair in _list_pairs(sound) if pair not in links]
    if not bridges:
        return judged
    links |= {link.pair: link for link in measure(bridges)}
    return _judge_links(count, order, links, suspects)


def list_usable_links(judged: JudgedSections, order: Sequence[int]) -> dict[SectionPair, float]:
    """Return the links that count, each with its score in units of the usual one.

    A section that fits no neighbor keeps the best link to a sound one, however weak: it holds no other.
    """
    relative = _compare_scores(judged.links, judged.mirrored, order)
    kept: dict[SectionPair, float] = {}
    best: dict[int, tuple[float, SectionPair]] = {}
    for pair, (score, share) in sorted(relative.items()):
        unfit = [number for number in pair if not judged.fitting[number]]
        if not unfit and score >= LEAST_SCORE and share >= USABLE:
            kept[pair] = share
        elif len(unfit) == 1 and score >= LEAST_SCORE and share > best.get(unfit[0], (0.0, pair))[0]:
            best[unfit[0]] = share, pair
    kept |= {pair: share for share, pair in best.values()}
    return kept


def find_mirrored(count: int, links: Iterable[SectionLink]) -> NDArray[np.bool_]:
    """Return which sections lie the wrong side up: the choice under which links score most together.

    Exact, by dynamic programming along the sections, as links reach but few places. Source: Viterbi, IEEE
    Trans. Information Theory 13(2):260-269, 1967.
    """
    by_last: dict[int, list[SectionLink]] = {}
    reach = 1
    for link in links:
        low, high = sorted(link.pair)
        by_last.setdefault(high, []).append(link)
        reach = max(reach, high - low)
    reach = min(reach, MOST_REACH)
    best: dict[tuple[bool, ...], tuple[float, tuple[bool, ...]]] = {(): (0.0, ())}
    for number in range(count):
        found: dict[tuple[bool, ...], tuple[float, tuple[bool, ...]]] = {}
        for (recent, (cost, path)), flag in product(best.items(), (False, True)):
            total = cost + MIRROR_COST * flag
            for link in by_last.get(number, ()):
                back = number - min(link.pair)
                if back <= len(recent):
                    differs = flag != recent[-back]
                    pose = link.find_pose(differs)
                    total -= 0.0 if pose is None else pose.score * (MIRROR_TRUST if differs else 1.0)
            key = (*recent, flag)[-reach:]
            if key not in found or total < found[key][0] - 1e-12:
                found[key] = total, (*path, flag)
        best = found
    _, path = min(best.values(), key=lambda each: (each[0], each[1]))
    return np.array(path, bool)


def _list_pairs(order: Sequence[int]) -> list[SectionPair]:
    return [
        (order[place], order[place + step])
        for place in range(len(order))
        for step in STEPS
        if place + step < len(order)
    ]


def _judge_links(
    count: int,
    order: Sequence[int],
    links: Mapping[SectionPair, SectionLink],
    suspects: Collection[int],
) -> JudgedSections:
    places = {number: place for place, number in enumerate(order)}
    along = [
        SectionLink((places[link.pair[0]], places[link.pair[1]]), link.upright, link.mirrored)
        for link in links.values()
    ]
    mirrored = np.zeros(count, bool)
    mirrored[list(order)] = find_mirrored(len(order), along)
    relative = _compare_scores(links, mirrored, order)
    qualities = np.zeros(count)
    for pair, (score, share) in relative.items():
        for number in pair:
            qualities[number] = max(qualities[number], share if score >= LEAST_SCORE else 0.0)
    fitting = qualities >= FITTING
    fitting[list(suspects)] = False
    stained = _find_stained(count, links, mirrored, fitting)
    return JudgedSections(links, mirrored, qualities, fitting, stained)


def _compare_scores(
    links: Mapping[SectionPair, SectionLink], mirrored: NDArray[np.bool_], order: Sequence[int]
) -> dict[SectionPair, tuple[float, float]]:
    """Return each link's score, and its share of the usual one of links as far apart near it."""
    places = {number: place for place, number in enumerate(order)}
    scores: dict[int, list[tuple[int, SectionPair, float]]] = {}
    for pair, link in links.items():
        pose = link.find_pose_among(mirrored)
        score = 0.0 if pose is None else pose.score
        first, second = places[pair[0]], places[pair[1]]
        # Bridges are few: they are held against links over two places.
        scores.setdefault(min(abs(second - first), STEPS[-1]), []).append((first, pair, score))
    found = {}
    for rows in scores.values():
        rows.sort()
        values = np.array([score for *_, score in rows])
        for index, (_, pair, score) in enumerate(rows):
            near = values[max(0, index - LOCAL) : index + LOCAL + 1]
            usual = max(float(np.median(near)), 0.5 * float(np.median(values)))
            found[pair] = score, score / usual if usual > 0 else 0.0
    return found


def _find_stained(
    count: int,
    links: Mapping[SectionPair, SectionLink],
    mirrored: NDArray[np.bool_],
    fitting: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    own: list[list[float]] = [[] for _ in range(count)]
    for pair, link in links.items():
        pose = link.find_pose_among(mirrored)
        if pose is not None and fitting[list(pair)].all():
            for number in pair:
                own[number].append(pose.correlation)
    usual = float(np.median([value for values in own for value in values] or [0.0]))
    stained = np.zeros(count, bool)
    for number, values in enumerate(own):
        stained[number] = bool(values) and float(np.median(values)) < STAINED * usual
    return stained
