"""The greedy engine's settings one at a time: overlap or distance, and how regular the field is.

Every setting starts from the same affine transform of regflow's own, on real brains, on known warps of
templates, and on brains of two people painted from label maps (``--label-maps`` or
$REGFLOW_LABEL_MAPS: SynthSeg's training label maps) as T1, T2, FLAIR and CT, with shading, texture, noise
and thick slices. Settings are judged over all pairs: a field that overlaps more by bending more is no gain.
"""

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from benchmarks.common import (
    OUT,
    Pair,
    arguments,
    pair,
    print_table,
    read_image,
    save,
    write_image,
)
from benchmarks.deformable import run_regflow
from regflow.core.boxes import find_bounding_box
from regflow.core.files import write_whole_directory
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.resample import coarsen_image, resample_array
from regflow.core.transform import Transform
from regflow.datasets.tissues import segment_tissues
from regflow.io.transforms import read_transform
from regflow.methods.context import RunContext
from regflow.methods.refine import METHODS
from regflow.methods.table import run_method
from regflow.metrics.jacobian import compute_determinant_map, compute_jacobian_figures, sample_displacement
from regflow.metrics.overlap import dice
from regflow.training.label_maps import read_oriented

Labels = NDArray[np.int16]

REAL = ("colin27", "same-contrast", "other-contrast")
SMALLEST_STRUCTURE = 200
"""Samples that a structure has at least on both sides, to count."""
EXTRACEREBRAL = 100
"""Labels from here on lie outside the brain."""

WHITE = (2, 41, 7, 46, 16, 28, 60)
GRAY = (3, 42, 8, 47, 17, 53, 18, 54, 26, 58)
DEEP = (10, 49, 11, 50, 12, 51, 13, 52)
FLUID = (4, 5, 14, 15, 24, 43, 44)
CONTRASTS: Mapping[str, tuple[float, float, float, float]] = {
    "T1": (110, 70, 86, 25),
    "T2": (62, 92, 80, 200),
    "FLAIR": (80, 100, 92, 20),
    "CT": (62, 80, 74, 20),
}
"""Intensities of white and gray matter, deep nuclei and fluid."""


@dataclass(frozen=True)
class PaintedPair:
    """Two people's label maps by number, how each is painted, and what spoils the images."""

    fixed: int
    moving: int
    contrasts: tuple[str, str]
    noise: float = 0.03
    shading: float = 0.2
    slice_mm: float = 1.0


PAINTED: Mapping[str, PaintedPair] = {
    "painted-1-2": PaintedPair(1, 2, ("T1", "T1")),
    "painted-3-4-clean": PaintedPair(3, 4, ("T1", "T1"), noise=0.01, shading=0.05),
    "painted-5-6-noisy": PaintedPair(5, 6, ("T1", "T1"), noise=0.08, shading=0.4),
    "painted-7-8-slices-of-3-mm": PaintedPair(7, 8, ("T1", "T1"), slice_mm=3.0),
    "painted-1-2-T2": PaintedPair(1, 2, ("T1", "T2")),
    "painted-3-4-FLAIR": PaintedPair(3, 4, ("T1", "FLAIR")),
    "painted-9-10-CT": PaintedPair(9, 10, ("T1", "CT"), noise=0.05),
}

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "radius 2 2 3": {"radius": [2, 2, 3], "field_sigma": [0.27] * 3, "iterations": [50, 50, 10]},
    "radius 5 5 7": {"radius": [5, 5, 7]},
    "radius 7 9 12": {"radius": [7, 9, 12]},
    "field 0.35": {"field_sigma": [0.35] * 3},
    "field 0.42": {"field_sigma": [0.42] * 3},
    "field 0.5": {"field_sigma": [0.5] * 3},
    "update 3.5 3 2.5": {"update_sigma": [3.5, 3.0, 2.5]},
    "iterations 60 60 20": {"iterations": [60, 60, 20]},
    "momentum 0.8": {"momentum": 0.8},
    "step 0.5": {"step": 0.5},
    "no mask": {"masks": "none"},
}
COLUMNS = ["pair", "setting", "dice", "tre_mm_mean", "log_jacobian_std", "jacobian_min", "jacobian_max"]
COLUMNS += ["outside_percent", "ndv_percent", "seconds"]


def paint_brain(labels: Labels, contrast: str, made: PaintedPair, seed: int) -> NDArray[np.float32]:
    """Paint a label map as one kind of image: partial volumes, texture, shading and noise."""
    rng = np.random.default_rng(seed)
    image = np.zeros(labels.shape, np.float32)
    for value, names in zip(CONTRASTS[contrast], (WHITE, GRAY, DEEP, FLUID), strict=True):
        image[np.isin(labels, names)] = value
    inside = image > 0
    texture = gaussian_filter(rng.standard_normal(labels.shape, np.float32), 1.5)
    image = gaussian_filter(image * (1 + 0.05 * texture / texture.std()), 0.6)
    coarse = gaussian_filter(rng.standard_normal(labels.shape, np.float32), 40.0)
    image *= np.exp(made.shading * coarse / np.abs(coarse).max())
    image += made.noise * 100 * rng.standard_normal(labels.shape, np.float32)
    return np.where(inside, np.maximum(image, 1.0), 0).astype(np.float32)


def read_brain_labels(folder: Path, number: int) -> tuple[Labels, Grid]:
    """Read the brain of one label map, cut to a margin of 12 samples."""
    read = read_oriented(folder / f"training_seg_{number:02d}.nii.gz")
    labels = np.asarray(read.channel, np.int16)
    labels[labels >= EXTRACEREBRAL] = 0
    box = find_bounding_box(labels > 0, 12)
    first = [part.start for part in box][::-1]
    shape = tuple(part.stop - part.start for part in box)
    matrix = read.grid.affine.copy()
    matrix[:3, 3] = read.grid.to_world(np.array([first], float))[0]
    return labels[box], Grid(shape, matrix)


def make_painted_pair(name: str, folder: Path) -> tuple[Pair, Path]:
    """Write a painted pair once; return its images' files and the folder with both label maps."""
    made = PAINTED[name]
    place = OUT / "pairs" / name
    if not place.is_dir():
        with write_whole_directory(place) as part:
            for side, number, contrast in zip(
                ("fixed", "moving"), (made.fixed, made.moving), made.contrasts, strict=True
            ):
                labels, grid = read_brain_labels(folder, number)
                painted = paint_brain(labels, contrast, made, seed=100 * number + len(contrast))
                image = Image(painted[None], grid, painted > 0)
                if side == "moving" and made.slice_mm > 1:
                    image = coarsen_image(image, made.slice_mm)
                write_image(part / f"{side}.nii.gz", image.channel, image.grid)
                write_image(part / f"{side}-labels.nii.gz", labels.astype(np.float32), grid)
    return Pair(name, place / "fixed.nii.gz", place / "moving.nii.gz", None), place


def measure_ndv(displacement: NDArray[np.float32], grid: Grid, mask: NDArray[np.bool_]) -> float:
    """Return the non-diffeomorphic volume in percent of the mask (Liu et al., IJCV 2024).

    The eight determinants of forward and backward differences at a sample are each the volume of a corner's
    tetrahedron; what is negative of their mean, and of the two inner tetrahedra, is folded volume.
    """
    from regflow.core import fields

    points = fields.to_voxels(displacement, grid).astype(np.float64)
    points += np.indices(grid.shape, dtype=np.float64)
    core = tuple(slice(1, -1) for _ in range(3))

    def step(axis: int, sign: int) -> NDArray[np.float64]:
        moved = np.roll(points, -sign, axis=axis + 1)
        return (sign * (moved - points))[(slice(None), *core)]

    folded = np.zeros(points[(0, *core)].shape)
    for signs in np.ndindex(2, 2, 2):
        columns = [step(axis, 1 if signs[axis] else -1) for axis in range(3)]
        determinant = np.einsum("i...,i...->...", columns[0], np.cross(columns[1], columns[2], axis=0))
        folded += np.maximum(-determinant, 0) / 8
    return 100.0 * float(folded[mask[core]].sum()) / float(mask.sum())


def measure(transform: Transform, chosen: Pair, labels: Path | None) -> dict[str, float]:
    """Return overlap or distance, and what the deformable part does to volumes, inside the fixed brain."""
    fixed, moving = read_image(chosen.fixed), read_image(chosen.moving)
    assert fixed.mask is not None
    assert moving.mask is not None
    displacement = sample_displacement(transform, fixed.grid)
    determinant = compute_determinant_map(displacement, fixed.grid)
    inside = determinant[fixed.mask]
    found: dict[str, float] = {
        **compute_jacobian_figures(determinant, fixed.mask),
        "outside_percent": 100.0 * float(((inside < 0.1) | (inside > 10)).mean()),
        "ndv_percent": measure_ndv(displacement, fixed.grid, fixed.mask),
    }
    if chosen.truth is not None:
        error = displacement - sample_displacement(read_transform(chosen.truth), fixed.grid)
        found["tre_mm_mean"] = float(np.linalg.norm(error, axis=0)[fixed.mask].mean())
    if labels is not None:
        one, other = (read_image(labels / f"{side}-labels.nii.gz") for side in ("fixed", "moving"))
        warped = resample_array(other.channel.astype(np.int16), other.grid, one.grid, transform, "nearest")
        found["dice"] = average_dice(one.channel.astype(np.int16), warped)
    else:
        tissues = segment_tissues(moving.channel, moving.mask, chosen.fluid_is_bright)
        warped = resample_array(tissues, moving.grid, fixed.grid, transform, "nearest")
        overlap = dice(segment_tissues(fixed.channel, fixed.mask), warped)
        found["dice"] = float(np.mean(list(overlap.values())))
    return found


def average_dice(fixed: Labels, warped: Labels) -> float:
    """Return the mean Dice of the structures that are large enough."""
    overlap = dice(fixed, warped)
    counts = np.bincount(fixed.ravel().astype(np.int64))
    return float(np.mean([value for key, value in overlap.items() if counts[key] >= SMALLEST_STRUCTURE]))


def compare(
    chosen: Pair, labels: Path | None, settings: Sequence[str], threads: int
) -> list[dict[str, Any]]:
    """Return one row per setting for a pair, the affine start first."""
    options = argparse.Namespace(threads=threads)
    folder = OUT / "regflow" / f"{chosen.name}-refine-none"
    if not (folder / "transform.h5").is_file():
        run_regflow_linear(chosen, options)
    start = read_transform(folder / "transform.h5")
    images = read_image(chosen.fixed), read_image(chosen.moving)
    rows: list[dict[str, Any]] = [{"setting": "affine", **measure(start, chosen, labels)}]
    greedy = METHODS["greedy"]
    for name in settings:
        began = time.perf_counter()
        context = RunContext(threads=threads)
        found = run_method(greedy, *images, start, greedy.complete(SETTINGS[name]), context).transform
        seconds = time.perf_counter() - began
        rows.append({"setting": name, "seconds": seconds, **measure(found, chosen, labels)})
        print_table([{"pair": chosen.name, **rows[-1]}], COLUMNS)
    return [{"pair": chosen.name, **row} for row in rows]


def run_regflow_linear(chosen: Pair, options: argparse.Namespace) -> None:
    """Bring a pair together linearly by the command, into the benchmark's folder."""
    run_regflow(chosen, options, ("--refine", "none"))


def main() -> None:
    """Print every setting's means and write ``out/regularity.json``."""
    parser = arguments(__doc__)
    parser.add_argument("--label-maps", type=Path, default=os.environ.get("REGFLOW_LABEL_MAPS"))
    parser.add_argument("--settings", nargs="*", default=list(SETTINGS), choices=SETTINGS)
    parser.add_argument("--pairs", nargs="*", default=[*REAL, *PAINTED], choices=[*REAL, *PAINTED])
    options = parser.parse_args()
    results = []
    for name in options.pairs:
        chosen, labels = pair(name) if name in REAL else None, None
        if name in PAINTED and options.label_maps:
            chosen, labels = make_painted_pair(name, Path(options.label_maps))
        if chosen is None:
            print(f"{name}: skipped, its data are not at hand")
            continue
        results += compare(chosen, labels, options.settings, options.threads)
    save("regularity", results, options.threads)
    print_table(results, COLUMNS)


if __name__ == "__main__":
    main()
