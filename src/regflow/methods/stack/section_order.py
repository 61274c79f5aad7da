"""Which sections lie out of order: those that fit sections elsewhere better than their own neighbors."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median

from regflow.methods.stack.section_links import (
    MIRROR_TRUST,
    JudgedSections,
    Measure,
    SectionLink,
    SectionPair,
)

SUSPECT = 0.75
"""Part of the usual score below which a section's best link makes it one to look for elsewhere."""
MOST_LOOKS = 40
"""Sections with which one is compared at first, evenly chosen; then all around the best of them."""
NEAR = 2
"""Places by which a section may be off: neighbors look too much alike to tell."""
CLEARLY = 1.25
LEAST = 0.5
"""By how much better a section must fit elsewhere, and which part of the usual score it must have there."""


def find_misplaced(order: Sequence[int], judged: JudgedSections, measure: Measure) -> dict[int, int]:
    """Return the sections out of order, and the place in the order before which each belongs.

    Args:
        order: numbers of the sections that were compared, as they follow one another.
        judged: what their links say.
        measure: compares pairs.
    """
    suspects = [place for place, number in enumerate(order) if judged.qualities[number] < SUSPECT]
    sound = [place for place in range(len(order)) if place not in set(suspects)]
    if len(sound) < 2 * NEAR + 2:
        return {}
    least = LEAST * _find_usual_score(order, judged)
    found = {}
    for suspect in suspects:
        scores = _score_elsewhere(order, suspect, sound, measure)
        gaps = {
            behind: min(scores[before], scores[behind])
            for before, behind in pairwise(sound)
            if before in scores and behind in scores
        }
        ends = {sound[0]: scores.get(sound[0], 0.0), sound[-1] + 1: scores.get(sound[-1], 0.0)}
        best = max(gaps.values(), default=0.0)
        # At an end one neighbor speaks for two, and must do so more clearly.
        beyond = {place: score for place, score in ends.items() if score > CLEARLY * best}
        place, score = max(
            (beyond or gaps).items(), key=lambda each: (each[1], -each[0]), default=(suspect, 0.0)
        )
        own = _score_at_home(suspect, sound, scores)
        if score > max(CLEARLY * own, least) and not suspect - NEAR <= place <= suspect + NEAR + 1:
            found[suspect] = place
    return found


def move_misplaced(order: Sequence[int], found: Mapping[int, int]) -> list[int]:
    """Return an order in which misplaced sections stand where they belong.

    Args:
        order: numbers of sections.
        found: the place before which a section belongs, by its own.
    """
    keys = [(found[place] - 0.5 if place in found else float(place), place) for place in range(len(order))]
    return [order[place] for _, place in sorted(keys)]


def _find_usual_score(order: Sequence[int], judged: JudgedSections) -> float:
    """Return the median score of sections that follow one another."""
    poses = [judged.find_pose(pair) for pair in pairwise(order) if pair in judged.links]
    return median([0.0 if pose is None else pose.score for pose in poses] or [0.0])


def _score_elsewhere(
    order: Sequence[int], suspect: int, sound: Sequence[int], measure: Measure
) -> dict[int, float]:
    """Return the scores of a section with others by their places: some all over, and all around the best."""
    step = max(1, -(-len(sound) // MOST_LOOKS))
    looks = set(sound[::step]) | set(_list_nearest(suspect, sound))
    scores = _score_links(order, suspect, sorted(looks), measure)
    best = sound.index(max(scores, key=lambda place: (scores[place], -place)))
    around = [place for place in sound[max(0, best - step) : best + step + 1] if place not in scores]
    return scores | _score_links(order, suspect, around, measure)


def _score_links(
    order: Sequence[int], suspect: int, places: Sequence[int], measure: Measure
) -> dict[int, float]:
    pairs: list[SectionPair] = [(order[suspect], order[place]) for place in places]
    return {place: _score_link(link) for place, link in zip(places, measure(pairs), strict=True)}


def _score_link(link: SectionLink) -> float:
    upright = 0.0 if link.upright is None else link.upright.score
    mirrored = 0.0 if link.mirrored is None else MIRROR_TRUST * link.mirrored.score
    return max(upright, mirrored)


def _list_nearest(suspect: int, sound: Sequence[int]) -> list[int]:
    before = [place for place in sound if place < suspect][-1:]
    return before + [place for place in sound if place > suspect][:1]


def _score_at_home(suspect: int, sound: Sequence[int], scores: Mapping[int, float]) -> float:
    """Return how well a section fits its own neighbors: the better one, as the other may be damaged."""
    return max(scores[place] for place in _list_nearest(suspect, sound))
