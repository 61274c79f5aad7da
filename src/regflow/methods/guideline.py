"""Which methods suit a pair: questions in order, the first that is answered yes decides.

The guideline stands in the documentation (``choosing-a-method``), and a comparison tells where on it a
pair lies.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import polar

from regflow.core.transform import Points, Transform

TURNED_DEGREES = 20.0
"""Beyond this a start near the header no longer sees the right maximum."""
FAR_PARTS = 0.05
"""Of the object's size: a shift or a deformation beyond it is far."""
LIKE_NCC = 0.7
"""Correlation of registered images above which they have one contrast."""
SMALL_PX = 3.0
"""Motion of a scene up to which nothing has to be searched."""


@dataclass(frozen=True)
class PairFacts:
    """What is known of a pair.

    Attributes:
        kind: ``volumes`` or ``rasters``.
        landmarks: whether partners are given on both sides.
        labels: whether label maps are given on both sides.
        ncc: correlation of the registered images; None where nothing was found.
        turn_degrees: by which the linear part turns.
        shift: of the object's center, mm or pixels.
        deformation: mean of what is left beside the linear part, mm or pixels.
        size: of the object or the scene, mm or pixels.
    """

    kind: str
    landmarks: bool
    labels: bool
    ncc: float | None
    turn_degrees: float
    shift: float
    deformation: float
    size: float


@dataclass(frozen=True)
class Branch:
    """An answer of the guideline.

    Attributes:
        question: that is answered yes.
        holds: answers it.
        initialize: linear methods, first choice first.
        refine: deformable methods, likewise.
        why: what they do about it.
        measured: tables of ``benchmarks/canon`` that show these methods at work: each the table and its case.
    """

    question: str
    holds: Callable[[PairFacts], bool]
    initialize: tuple[str, ...]
    refine: tuple[str, ...]
    why: str
    measured: tuple[tuple[str, str], ...] = ()


def _is_like(facts: PairFacts) -> bool:
    return facts.ncc is not None and facts.ncc >= LIKE_NCC


BRANCHES: Mapping[str, Sequence[Branch]] = {
    "volumes": (
        Branch(
            "Are landmarks given on both sides?",
            lambda facts: facts.landmarks,
            ("landmarks", "mutual-information"),
            ("greedy",),
            "the start needs no search, and its error is told by leaving each landmark out",
            (("rigid", "other contrast"),),
        ),
        Branch(
            "Are label maps of the same structures given on both sides?",
            lambda facts: facts.labels,
            ("segmentation", "mutual-information"),
            ("segmentation",),
            "structures draw their borders together, whatever the contrast",
            (("rigid", "other contrast"),),
        ),
        Branch(
            "Do organs move far against each other (lungs, abdomen; beyond a twentieth of the object)?",
            lambda facts: facts.deformation > FAR_PARTS * facts.size,
            ("mutual-information", "elastix"),
            ("discrete", "greedy"),
            "a search over all displacements finds what a gradient does not see",
            (("fields", "25 mm"), ("fields", "25 mm, other contrast")),
        ),
        Branch(
            "Do the images differ in contrast (T1 and T2, MR and CT)?",
            lambda facts: not _is_like(facts),
            ("mutual-information", "elastix"),
            ("greedy",),
            "mutual information and self-similarity know no common scale of brightness",
            (("rigid", "other contrast"), ("fields", "3 mm, other contrast")),
        ),
        Branch(
            "Are both of one contrast and near each other (one person, one scanner)?",
            lambda facts: facts.turn_degrees < TURNED_DEGREES and facts.shift < FAR_PARTS * facts.size,
            ("lucas-kanade", "mutual-information"),
            ("greedy",),
            "least squares from a near start are the fastest and the most exact",
            (("fields", "3 mm"),),
        ),
        Branch(
            "Anything else: one contrast, far or turned",
            lambda facts: True,
            ("mutual-information", "elastix"),
            ("greedy",),
            "all orientations are tried",
            (("rigid", "same contrast"), ("fields", "3 mm")),
        ),
    ),
    "rasters": (
        Branch(
            "Are ground control points given?",
            lambda facts: facts.landmarks,
            ("landmarks", "phase-correlation"),
            ("tie-points",),
            "the start needs no search, and its error is told by leaving each point out",
        ),
        Branch(
            "Do the scenes differ in sensor or season (optical and radar, map and photograph)?",
            lambda facts: not _is_like(facts),
            ("hypotheses", "mutual-information"),
            ("tie-points",),
            "edges and information are compared, not brightness",
            (("bands", "shifted"), ("bands", "scaled")),
        ),
        Branch(
            "Is one turned, scaled or without georeference?",
            lambda facts: facts.turn_degrees > 2.0 or facts.shift > FAR_PARTS * facts.size,
            ("xfeat", "sift", "fourier-mellin"),
            ("tie-points",),
            "keypoints find any turn and scale",
            (("linear", "plain"), ("linear", "illumination"), ("linear", "no texture")),
        ),
        Branch(
            "Is the motion a few pixels, and smooth or everywhere its own (time lapses)?",
            lambda facts: facts.shift <= SMALL_PX and facts.deformation > 0.5,
            ("lucas-kanade", "phase-correlation"),
            ("optical-flow", "tie-points"),
            "a dense field from the brightness itself",
            (("scene-fields", "2 px, B04 to B04"),),
        ),
        Branch(
            "Anything else: one sensor, georeferenced",
            lambda facts: True,
            ("phase-correlation", "gradient-correlation"),
            ("tie-points",),
            "a shift, then windows by least squares",
            (("bands", "shifted"), ("scene-fields", "2 px, B04 to B04")),
        ),
    ),
}
"""The questions of each kind in order."""


def find_branch(facts: PairFacts) -> Branch:
    """Return the answer that a pair gets: the first question of its kind that holds."""
    return next(branch for branch in BRANCHES[facts.kind] if branch.holds(facts))


def describe_facts(facts: PairFacts) -> str:
    """Return in words what is known of a pair."""
    unit = "mm" if facts.kind == "volumes" else "px"
    alike = "unknown contrast" if facts.ncc is None else f"correlation {facts.ncc:.2f} once registered"
    given = [word for word, there in (("landmarks", facts.landmarks), ("label maps", facts.labels)) if there]
    motion = (
        f"turned by {facts.turn_degrees:.1f} degrees, shifted by {facts.shift:.3g} {unit}, deformed by "
        f"{facts.deformation:.2g} {unit} (of {facts.size:.3g} {unit})"
    )
    return f"{alike}; {motion}; given: {', '.join(given) or 'images alone'}"


def measure_motion(transform: Transform, points: Points) -> dict[str, float]:
    """Return how a transform moves points: linear part and rest.

    Args:
        transform: fixed to moving world points.
        points: ``(N, d)`` of the fixed object.

    Returns:
        ``turn_degrees`` of the linear part, ``shift`` of the points' center, and ``deformation``, the mean
        distance from the linear part, in world units.
    """
    moved, center = transform.apply(points), points.mean(axis=0)
    design = np.hstack([points - center, np.ones((len(points), 1))])
    solution = np.linalg.lstsq(design, moved, rcond=None)[0]
    turn = polar(solution[:-1].T)[0]
    ndim = points.shape[1]
    cosine = (np.trace(turn) - (1 if ndim == 3 else 0)) / 2
    return {
        "turn_degrees": float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))),
        "shift": float(np.linalg.norm(solution[-1] - center)),
        "deformation": float(np.linalg.norm(moved - design @ solution, axis=1).mean()),
    }


def gather_facts(kind: str, given: Mapping[str, Any], outcome: Mapping[str, Any], unit: float) -> PairFacts:
    """Return the facts of a pair, from what was said of it and what the default ladder came to.

    Args:
        kind: ``volumes`` or ``rasters``.
        given: parts of the pair by name.
        outcome: of the default ladder on it.
        unit: world units of a millimeter or a pixel.
    """
    motion = outcome.get("motion") or {"turn_degrees": 0.0, "shift": 0.0, "deformation": 0.0, "size": 1.0}
    ncc = outcome.get("figures", {}).get("ncc_refine")
    both = {part: all(given.get(f"{side}_{part}") for side in ("fixed", "moving")) for part in _PARTS}
    both["landmarks"] |= bool(given.get("landmarks"))
    return PairFacts(
        kind,
        **both,
        ncc=None if ncc is None or outcome.get("status") == "fail" else float(ncc),
        turn_degrees=motion["turn_degrees"],
        shift=motion["shift"] / unit,
        deformation=motion["deformation"] / unit,
        size=motion["size"] / unit,
    )


_PARTS = ("landmarks", "labels")
