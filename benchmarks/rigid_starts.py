"""Starts turned by up to 40 degrees and moved by up to 60 mm: how many are recovered, how many told.

Each case is one pair of real brains and many random starts. ``same-contrast`` and ``other-contrast``
(T2-like) are resampled onto a scanner's grid with noise and a bias field, and their true pose is
known. The other cases move the header of another real brain; the truth is what the same pair gives
unmoved, so they show how far the answer depends on the start. ``half-turns`` starts the first case
from half turns about an axis, besides a start like the others'.

A start is recovered when the mean error inside the fixed brain is below 1 mm; the others must carry
the verdict ``fail``. The gate is also shown candidates that are wrong on purpose: the moved header,
and the centers of mass alone.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from benchmarks.common import arguments, print_table, save
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.resample import coarsen_image
from regflow.core.transform import Affine, Composite
from regflow.datasets import packaged as realdata
from regflow.datasets import subjects as synthetic
from regflow.datasets.volumes import load_volume
from regflow.stages.volumes.initialize import align_volumes

LARGEST_TURN_DEGREES = 40.0
LARGEST_SHIFT_MM = 60.0
RECOVERED_MM = 1.0
WRONG_MM = 5.0
"""A pose whose mean error is above this must not pass the gate."""
GATE_EVERY = 5
"""Every so many starts the gate is shown wrong candidates."""
POINTS = 5000


@dataclass(frozen=True)
class Start:
    """A moved image and the pose that aligns it."""

    moving: Image
    truth: Affine


Mover = Callable[[Affine, int], Start]


def main() -> None:
    """Print one row per case; end with 1 when a start was missed in silence or too many were missed."""
    options = _options()
    rows = []
    for name in options.cases:
        fixed, move = CASES[name](options.spacing)
        starts = (move(pose, seed) for seed, pose in enumerate(_poses(fixed.grid, name, options.starts)))
        rows.append({"case": name, **_row(fixed, starts, options.threads)})
        print_table(rows[-1:], COLUMNS)
    print()
    print_table(rows, COLUMNS)
    save("rigid_starts", rows, options.threads)
    if any(row["silent"] or row["gate_missed"] or row["missed"] > 0.02 * row["starts"] for row in rows):
        raise SystemExit(1)


COLUMNS = [
    "case",
    "starts",
    "missed",
    "silent",
    "false_alarms",
    "tre_mm_mean",
    "tre_mm_max",
    "seconds_mean",
    "gate_shown",
    "gate_missed",
]
"""Counts: starts not recovered; of those, not told ``fail``; recovered but told ``fail``; wrong poses
shown to the gate; of those, not told ``fail``. ``seconds_mean`` is that of the whole stage."""


def _options() -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--starts", type=int, default=50, help="starts per case")
    parser.add_argument("--spacing", type=float, default=1.0, help="spacing of the images in mm")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=_available())
    return parser.parse_args()


def _row(fixed: Image, starts: Iterator[Start], threads: int) -> dict[str, Any]:
    errors, seconds, verdicts, shown = [], [], [], []
    for number, start in enumerate(starts):
        began = time.perf_counter()
        found = align_volumes(fixed, start.moving, {"methods": ["mutual-information"]}, threads=threads)
        seconds.append(time.perf_counter() - began)
        errors.append(_error(found.transform, start.truth, fixed))
        verdicts.append(found.verdict.status)
        for method in ("header", "moments") if number % GATE_EVERY == 0 else ():
            wrong = align_volumes(fixed, start.moving, {"methods": [method]}, threads=threads)
            if _error(wrong.transform, start.truth, fixed) > WRONG_MM:
                shown.append(wrong.verdict.status)
    missed = [status for error, status in zip(errors, verdicts, strict=True) if error >= RECOVERED_MM]
    return {
        "starts": len(errors),
        "missed": len(missed),
        "silent": sum(status != "fail" for status in missed),
        "false_alarms": verdicts.count("fail") - missed.count("fail"),
        "tre_mm_mean": float(np.mean(errors)),
        "tre_mm_max": float(np.max(errors)),
        "seconds_mean": float(np.mean(seconds)),
        "gate_shown": len(shown),
        "gate_missed": sum(status != "fail" for status in shown),
        "tre_mm": errors,
        "verdicts": verdicts,
    }


def _error(found: Any, truth: Affine, fixed: Image) -> float:
    inside = np.argwhere(fixed.mask if fixed.mask is not None else fixed.channel > 0)
    points = fixed.grid.to_world(inside[:: max(1, len(inside) // POINTS), ::-1])
    return float(np.linalg.norm(found.apply(points) - truth.apply(points), axis=1).mean())


def _poses(grid: Grid, case: str, count: int) -> Iterator[Affine]:
    """Draw poses: fixed points to where they lie in the moved image."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        axis, way = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
        turn = Rotation.from_rotvec(axis * np.deg2rad(rng.uniform(0, LARGEST_TURN_DEGREES)))
        if case == "half-turns":
            turn = turn * Rotation.from_rotvec(np.pi * np.eye(3)[seed % 3])
        yield Affine.from_parts(turn.as_matrix(), way * rng.uniform(0, LARGEST_SHIFT_MM), grid.center)


def _brain(name: str, spacing: float) -> Image:
    image = load_volume(name)
    data = image.channel.astype(np.float32)
    mask: NDArray[np.bool_] | None = None if name == "colin27" else data > 0.02 * data.max()
    whole = Image(data[None], image.grid, mask, modality=image.modality)
    return coarsen_image(whole, spacing) if spacing > 1 else whole


def _simulated(name: str, *, t2: bool) -> Callable[[float], tuple[Image, Mover]]:
    def case(spacing: float) -> tuple[Image, Mover]:
        fixed = _brain(name, spacing)
        source = fixed.with_data(np.where(fixed.mask, fixed.channel, 0))
        if t2:
            maps = [load_volume(f"{name}-{tissue}") for tissue in ("gm", "wm")]
            scaled = [image.with_data(image.channel / np.float32(255)) for image in maps]
            gray, white = (coarsen_image(m, spacing).channel if spacing > 1 else m.channel for m in scaled)
            source = synthetic.simulate_t2(source, gray, white)

        def move(pose: Affine, seed: int) -> Start:
            truth = synthetic.Truth(Composite((pose,)), Composite((pose.inverse(),)))
            grid = synthetic.make_subject_grid(fixed.grid, truth, spacing)
            return Start(synthetic.make_subject(source, truth, grid, seed=seed), pose)

        return fixed, move

    return case


def _real(fixed_name: str, moving_name: str) -> Callable[[float], tuple[Image, Mover]]:
    def case(spacing: float) -> tuple[Image, Mover]:
        fixed, moving = _brain(fixed_name, spacing), _brain(moving_name, spacing)
        unmoved = align_volumes(fixed, moving, {"methods": ["mutual-information"]}, threads=2).transform
        assert isinstance(unmoved, Affine)

        def move(pose: Affine, seed: int) -> Start:
            grid = Grid(moving.grid.shape, pose.matrix @ moving.grid.affine)
            return Start(Image(moving.data, grid, moving.mask), Affine(pose.matrix @ unmoved.matrix))

        return fixed, move

    return case


def _available() -> list[str]:
    return [name for name in CASES if "colin27" not in name or realdata.locate_source("colin27") is not None]


CASES: dict[str, Callable[[float], tuple[Image, Mover]]] = {
    "same-contrast": _simulated("mni2009c", t2=False),
    "other-contrast": _simulated("icbm2009a", t2=True),
    "half-turns": _simulated("mni2009c", t2=False),
    "mni6": _real("mni2009c", "mni6"),
    "colin27-brain": _real("mni2009c", "colin27-brain"),
    "colin27-head": _real("mni2009c", "colin27"),
}


if __name__ == "__main__":
    main()
