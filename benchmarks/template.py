"""Templates: of brains warped in known ways from one, and of different anatomies against the clock.

``warps``: an atlas' brain at 2 mm, moved by poses and smooth warps and by the inverses of these, with noise
and a bias field: their mean is the atlas. The error is the distance, inside the template's mask, between a
point of the template and where all images together, each by its found and its known map, put it in the
atlas; and as registration sees it, the atlas registered to the template. The same images are given in the
opposite order, too.

``anatomies``: label maps of different people (``--label-maps``), painted as T1-weighted brains at 2 mm;
seconds, and what 50 of them would take.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

import regflow as rf
from benchmarks.common import OUT, arguments, print_table, save, write_image
from regflow.core.files import compute_sha256
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.resample import coarsen_image
from regflow.core.transform import Transform
from regflow.datasets.subjects import Truth, draw_affine, draw_truth, make_subject, make_subject_grid
from regflow.datasets.volumes import load_volume
from regflow.io.volumes import read_labels, read_volume

SPACING_MM = 2.0
WHITE = (2, 41, 7, 46, 77, 85, 251, 252, 253, 254, 255)
FLUID = (4, 43, 5, 44, 14, 15, 24, 31, 63, 72)
DEEP = (10, 49, 11, 50, 12, 51, 13, 52, 26, 58, 28, 60)
STEM = (16,)
LAST_OF_BRAIN = 499
"""FreeSurfer's codes; every other code up to the last one of the brain is gray matter."""
LEVELS = {WHITE: 1.0, FLUID: 0.2, DEEP: 0.78, STEM: 0.93}
GRAY = 0.65
NOISE = 0.03
COLUMNS = [
    "case",
    "images",
    "seconds",
    "cpu_seconds",
    "per_registration_cpu_s",
    "error_mm",
    "error_p95_mm",
    "registered_mm",
]
COLUMNS += ["order_mm", "sharper", "left_out", "extrapolated_50_min"]


def make_warps(folder: Path, pairs: int) -> tuple[dict[str, str], dict[str, Transform]]:
    """Write warped brains; return their files, and the maps from their to the atlas' points, by name."""
    whole = load_volume("mni2009c")
    atlas = coarsen_image(whole.with_data(whole.channel.astype(np.float32)), SPACING_MM)
    atlas = atlas.with_data(np.where(atlas.channel > 0.02 * atlas.channel.max(), atlas.channel, 0))
    files: dict[str, str] = {}
    back: dict[str, Transform] = {}
    for seed in range(pairs):
        pose = draw_affine(atlas.grid.center, seed, 5.0, 5.0, 0.04, 0.02)
        truth = draw_truth(atlas.grid, seed, 6.0, 18.0, pose)
        for name, one in (("there", truth), ("back", Truth(truth.backward, truth.forward))):
            subject = make_subject(
                atlas, one, make_subject_grid(atlas.grid, one, SPACING_MM), seed=10 * seed + len(name)
            )
            path = folder / f"{name}-{seed}.nii.gz"
            write_image(path, subject.channel, subject.grid)
            files[path.name.split(".")[0]], back[path.name.split(".")[0]] = str(path), one.backward
    write_image(folder / "atlas.nii.gz", atlas.channel, atlas.grid)
    return files, back


def measure_error(built: rf.TemplateResult, back: dict[str, Transform]) -> dict[str, float]:
    """Return how far the template is from the atlas by the known maps, mm."""
    mask = read_volume(built.folder / "template_mask.nii.gz")
    points = mask.grid.to_world(np.argwhere(mask.channel > 0)[::7, ::-1])
    ends = np.mean([back[name].apply(one.apply(points)) for name, one in built.transforms.items()], axis=0)
    apart = np.linalg.norm(ends - points, axis=1)
    return {"error_mm": float(apart.mean()), "error_p95_mm": float(np.percentile(apart, 95))}


def register_atlas(built: rf.TemplateResult, atlas: Path) -> float:
    """Return the mean displacement, mm, by which the atlas is brought onto the template."""
    found = rf.register(built.folder / "template.nii.gz", atlas, refine="greedy")
    mask = read_volume(built.folder / "template_mask.nii.gz")
    points = mask.grid.to_world(np.argwhere(mask.channel > 0)[::7, ::-1])
    return float(np.linalg.norm(found.transform.apply(points) - points, axis=1).mean())


def run_warps(options: argparse.Namespace) -> dict[str, Any]:
    """Build the template of warped brains, twice."""
    folder = OUT / "template" / "warps"
    folder.mkdir(parents=True, exist_ok=True)
    files, back = make_warps(folder, options.pairs)
    built, seconds = build(list(files.values()), folder / "built", options)
    row = {
        **describe("warps", built, seconds, options.threads),
        **measure_error(built, back),
        "registered_mm": register_atlas(built, folder / "atlas.nii.gz"),
    }
    if not options.once:
        again, _ = build(list(files.values())[::-1], folder / "reversed", options)
        row["order_mm"] = measure_order(built, again)
    return row


def measure_order(one: rf.TemplateResult, other: rf.TemplateResult) -> float:
    """Return the mean distance, mm, between where two builds put the images; 0 for equal bytes."""
    sums = [compute_sha256(built.folder / "template.nii.gz") for built in (one, other)]
    if sums[0] == sums[1]:
        return 0.0
    mask = read_volume(one.folder / "template_mask.nii.gz")
    points = mask.grid.to_world(np.argwhere(mask.channel > 0)[::7, ::-1])
    apart = [
        other.transforms[name].apply(points) - each.apply(points) for name, each in one.transforms.items()
    ]
    return float(np.linalg.norm(np.mean(apart, axis=0), axis=1).mean())


def run_anatomies(options: argparse.Namespace) -> dict[str, Any] | None:
    """Build the template of different anatomies."""
    maps = sorted(Path(options.label_maps).glob("*.nii.gz")) if options.label_maps else []
    if len(maps) < 2:
        print("anatomies: skipped, no --label-maps")
        return None
    folder = OUT / "template" / "anatomies"
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, path in enumerate(maps[: options.anatomies]):
        files.append(str(folder / f"{path.name.split('.')[0]}.nii.gz"))
        image = paint_brain(path, number)
        write_image(Path(files[-1]), image.channel, image.grid)
    built, seconds = build(files, folder / "built", options)
    return describe("anatomies", built, seconds, options.threads)


def paint_brain(path: Path, seed: int) -> Image:
    """Return a label map of FreeSurfer's codes as a T1-weighted brain without its skull, at 2 mm."""
    labels, grid = read_labels(path)
    brain = (labels > 0) & (labels <= LAST_OF_BRAIN)
    values = np.where(brain, np.float32(GRAY), np.float32(0))
    for codes, level in LEVELS.items():
        values[np.isin(labels, codes)] = level
    rng = np.random.default_rng(seed)
    noisy = gaussian_filter(values, 0.5) + rng.normal(0, NOISE, values.shape).astype(np.float32)
    image = Image(np.where(brain, np.clip(noisy, 0.01, None), 0)[None].astype(np.float32), grid)
    return coarsen_image(crop(image, brain), SPACING_MM)


def crop(image: Image, mask: np.ndarray) -> Image:
    """Return the part of an image around a mask."""
    from regflow.core.boxes import crop_image, find_bounding_box

    part = crop_image(image, find_bounding_box(mask, 8))
    return Image(part.data, Grid(part.grid.shape, part.grid.affine))


def build(
    files: list[str], folder: Path, options: argparse.Namespace
) -> tuple[rf.TemplateResult, dict[str, float]]:
    """Build a template anew; return it and the seconds it took, by the clock and of processors."""
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
    started, used = time.perf_counter(), time.process_time()
    built = rf.build_template(files, output=folder, spacing_mm=SPACING_MM, threads=options.threads)
    return built, {"clock": time.perf_counter() - started, "cpu": time.process_time() - used}


def describe(case: str, built: rf.TemplateResult, seconds: dict[str, float], threads: int) -> dict[str, Any]:
    """Return a row of the table."""
    rounds = len(built.history)
    return {
        "case": case,
        "images": len(built.samples),
        "seconds": seconds["clock"],
        "cpu_seconds": seconds["cpu"],
        "per_registration_cpu_s": seconds["cpu"] / len(built.samples) / rounds,
        "sharper": built.history[-1]["gradient_energy"] / built.history[0]["gradient_energy"],
        "left_out": sum(not one["used"] for one in built.samples.values()),
        # Processor seconds on as many cores: the clock counts what else ran on the machine, too.
        "extrapolated_50_min": seconds["cpu"] / threads / len(built.samples) * 50 / 60,
        "history": [dict(each) for each in built.history],
    }


def main() -> None:
    """Print one table and write ``out/template.json``."""
    parser = arguments(__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="warps; each gives two images")
    parser.add_argument("--once", action="store_true", help="do not build in the opposite order, too")
    parser.add_argument("--label-maps", help="folder of label maps with FreeSurfer's codes, 1 mm")
    parser.add_argument("--anatomies", type=int, default=15, help="most of them")
    options = parser.parse_args()
    rows = [run_warps(options) if options.pairs else None, run_anatomies(options)]
    found = [row for row in rows if row is not None]
    print_table(found, COLUMNS)
    save("template", {"templates": found}, options.threads)


if __name__ == "__main__":
    main()
