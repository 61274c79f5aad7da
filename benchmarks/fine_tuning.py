"""What fine-tuning the shipped 3-D network on eight subjects gains on four others of the same cohort.

Two cohorts at 2 mm, each against its atlas: ``same contrast`` (MNI152 NLin2009cAsym) and ``other contrast``
(ICBM152 2009a, its subjects T2-like), every subject with a known warp and pose, noise of 3 % and a bias
field of 20 %. The study's own stages align every pair; the figure is the mean distance to the truth in the
brain.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np

from benchmarks.common import OUT, arguments, print_table, save
from regflow.config.loading import load_config
from regflow.core.image import Image
from regflow.core.resample import coarsen_image
from regflow.datasets import subjects as synthetic
from regflow.datasets.volumes import load_volume
from regflow.io.volumes import write_volume
from regflow.methods.context import RunContext
from regflow.methods.refine import METHODS
from regflow.training.product import train_network
from regflow.training.settings import make_training_settings

TAUGHT, HELD_OUT = range(400, 408), range(500, 504)
"""Seeds of the subjects."""
SPACING_MM = 2.0
COLUMNS = ["cohort", "affine_mm", "before_mm", "after_mm", "greedy_mm", "train_s", "cpu_s"]


def main() -> None:
    """Print a row per cohort and write ``out/fine_tuning.json``."""
    parser = arguments(__doc__)
    parser.add_argument("--start", default="volumes3d", help="the network to start from")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rate", type=float, default=5e-4)
    options = parser.parse_args()
    rows = [run(name, make, options) for name, make in COHORTS.items()]
    print_table(rows, COLUMNS)
    save("fine_tuning", {"held out": rows}, options.threads)


def run(name: str, make: Callable[[], tuple[Image, Image]], options: argparse.Namespace) -> dict[str, Any]:
    """Fine-tune on one cohort, and register its held-out subjects before and after."""
    folder = OUT / "fine_tuning" / name.replace(" ", "-")
    fixed, source = make()
    config = load_config(_study(folder, fixed, source, options))
    wall, cpu = time.perf_counter(), time.process_time()
    tuned = train_network(
        folder / "tuned.safetensors", settings=make_training_settings(config), threads=options.threads
    )
    spent = {"train_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    networks = {"before_mm": options.start, "after_mm": str(tuned)}
    held_out = [
        _errors(fixed, *_subject(fixed, source, seed), config, networks, options.threads) for seed in HELD_OUT
    ]
    means = {key: float(np.mean([each[key] for each in held_out])) for key in held_out[0]}
    return {"cohort": name, **means, **spent}


def _study(folder: Path, fixed: Image, source: Image, options: argparse.Namespace) -> dict[str, Any]:
    """Write the cohort's files and return its configuration."""
    if folder.is_dir():
        # A training goes on from what it finds there.
        rmtree(folder)
    folder.mkdir(parents=True)
    write_volume(folder / "atlas.nii.gz", fixed.channel, fixed.grid)
    rows = ["sample\tmoving"]
    for seed in TAUGHT:
        subject, _ = _subject(fixed, source, seed)
        write_volume(folder / f"sub-{seed}.nii.gz", subject.channel, subject.grid)
        rows.append(f"sub-{seed}\tsub-{seed}.nii.gz")
    (folder / "samples.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    training = {
        "name": "tuned",
        "start_from": options.start,
        "shares": {"cohort": 1},
        "steps": options.steps,
        "rate": options.rate,
        "side": 64,
        "batch": 1,
        "warmup": 20,
        "average": 0.997,
        "validate_every": options.steps,
        "device": "cpu",
    }
    return {
        "samples": str(folder / "samples.tsv"),
        "fixed": "atlas",
        "atlases": {"atlas": {"image": str(folder / "atlas.nii.gz")}},
        "train": training,
    }


def _subject(fixed: Image, source: Image, seed: int) -> tuple[Image, synthetic.Truth]:
    truth = synthetic.draw_truth(fixed.grid, seed, amplitude_mm=9.0, smoothness_mm=14.0)
    grid = synthetic.make_subject_grid(fixed.grid, truth, SPACING_MM)
    return synthetic.make_subject(source, truth, grid, seed=seed), truth


def _errors(
    fixed: Image,
    moving: Image,
    truth: synthetic.Truth,
    config: dict[str, Any],
    networks: dict[str, str],
    threads: int,
) -> dict[str, float]:
    """Register one subject from the study's own affine transform; return mean errors, mm."""
    from regflow.stages.volumes.initialize import align_volumes

    still = fixed.with_mask(fixed.channel > 0)
    moved = moving.with_mask(moving.channel > 0)
    start = align_volumes(still, moved, config["initialize"], threads=threads).transform
    context = RunContext(threads)
    found = {"affine_mm": start}
    for name, weights in networks.items():
        given = METHODS["voxelmorph"].complete({"weights": weights, "refinement": "none", "device": "cpu"})
        found[name] = METHODS["voxelmorph"].load()(still, moved, start, given, context)
    found["greedy_mm"] = METHODS["greedy"].load()(
        still, moved, start, METHODS["greedy"].complete({}), context
    )
    points = still.grid.to_world(np.argwhere(still.mask)[::7, ::-1].astype(np.float64))
    there = truth.forward.apply(points)
    return {
        name: float(np.linalg.norm(each.apply(points) - there, axis=1).mean()) for name, each in found.items()
    }


def _same_contrast() -> tuple[Image, Image]:
    fixed = load_volume("mni2009c")
    coarse = _stripped(fixed, fixed)
    return coarse, coarse


def _other_contrast() -> tuple[Image, Image]:
    names = ("icbm2009a", "icbm2009a-gm", "icbm2009a-wm")
    t1, gray, white = (load_volume(name) for name in names)
    t2 = synthetic.simulate_t2(t1, gray.channel / np.float32(255), white.channel / np.float32(255))
    return _stripped(t1, t1), _stripped(t2, t1)


def _stripped(image: Image, brain: Image) -> Image:
    """Return an image at the cohort's spacing, without the samples that are mostly outside the brain."""
    coarse = coarsen_image(image.with_mask(brain.channel > 0), SPACING_MM)
    assert coarse.mask is not None
    return coarse.with_data(np.where(coarse.mask, coarse.data, np.float32(0))).with_mask(None)


COHORTS: dict[str, Callable[[], tuple[Image, Image]]] = {
    "same contrast": _same_contrast,
    "other contrast": _other_contrast,
}


if __name__ == "__main__":
    main()
