"""The demo study: real brains, and subjects made from them whose true alignment is known.

``regflow demo`` makes a study folder like the one ``regflow init`` makes, with its data, and runs it. The
worked example's configuration and sheet lie in ``config/demo``.
"""

import csv
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from regflow.core.files import write_whole, write_whole_directory
from regflow.core.image import Image
from regflow.core.landmarks import Landmarks
from regflow.core.resample import coarsen_image
from regflow.core.resources import find_shipped_folder
from regflow.datasets import packaged as realdata
from regflow.datasets import subjects as synthetic
from regflow.datasets.tissues import segment_tissues
from regflow.datasets.volumes import load_volume
from regflow.io.landmarks import write_landmarks
from regflow.io.transforms import write_transform
from regflow.io.volumes import write_volume

STRUCTURES = {
    4: "third-ventricle",
    11: "fourth-ventricle",
    31: "right-amygdala",
    32: "left-amygdala",
    36: "right-caudate",
    37: "left-caudate",
    47: "right-hippocampus",
    48: "left-hippocampus",
    57: "right-putamen",
    58: "left-putamen",
    59: "right-thalamus",
    60: "left-thalamus",
}
"""Labels of the Neuromorphometrics atlas whose centers serve as landmarks."""


@dataclass(frozen=True)
class SubjectRecipe:
    """How a subject is made.

    Attributes:
        seed: of warp, pose, noise and bias field.
        spacing_mm: of its grid.
        rotation_deg: of its pose.
        noise: as in :func:`regflow.datasets.subjects.make_subject`.
        bias: as there.
    """

    seed: int
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    rotation_deg: float = 8.0
    noise: float = 0.03
    bias: float = 0.2


RECIPES = {
    "warped-mild": SubjectRecipe(seed=1),
    "warped-hard": SubjectRecipe(seed=2, spacing_mm=(1.0, 1.0, 2.0), rotation_deg=25.0, noise=0.06, bias=0.4),
    "warped-t2": SubjectRecipe(seed=3),
}


def build_volume_study(folder: Path, spacing_mm: float | None = None) -> None:
    """Make the demo's study folder: ``config/`` and ``data/``, the latter whole or not at all.

    Args:
        folder: where; the data of an earlier demo there are replaced.
        spacing_mm: spacing of all volumes; None for that of the originals, 1 mm.

    Raises:
        InputError: a package with the volumes is not installed.
    """
    writers = [_write_templates, _write_warped, _write_t2_like]
    if realdata.locate_source("colin27") is not None:
        writers.append(_write_colin27)
    with write_whole_directory(folder / "data") as data, ThreadPoolExecutor(2) as pool:
        for job in [pool.submit(writer, data, spacing_mm) for writer in writers]:
            job.result()
    _write_config(folder)


def load_example(name: str, spacing_mm: float | None) -> Image:
    """Read a real volume as float32, shrunk without aliasing when a spacing is given."""
    full = load_volume(name)
    if spacing_mm is None:
        return full.with_data(full.channel.astype(np.float32))
    coarse = coarsen_image(full, spacing_mm)
    # Far outside the brain a blurred background is not quite zero.
    return coarse.with_data(np.where(coarse.data < 0.02 * coarse.data.max(), 0, coarse.data))


def find_structure_centers() -> Landmarks:
    """Return the centers of :data:`STRUCTURES` in MNI152 space."""
    atlas = load_volume("neuromorphometrics")
    points = []
    for label in STRUCTURES:
        index = np.argwhere(atlas.channel == label).mean(axis=0)
        points.append(atlas.grid.to_world(index[::-1]))
    return Landmarks(tuple(STRUCTURES.values()), np.stack(points))


def _write_templates(data: Path, spacing_mm: float | None) -> None:
    for name in ("mni2009c", "mni6", "icbm2009a"):
        _write_image(data, name, _with_tissues(load_example(name, spacing_mm)))
    for tissue in ("gm", "wm"):
        name = f"icbm2009a-{tissue}"
        part = load_example(name, spacing_mm)
        write_volume(data / f"{name}.nii.gz", np.rint(part.channel).astype(np.uint8), part.grid)
    for name in ("mni2009c", "icbm2009a"):
        write_landmarks(data / f"{name}_landmarks.csv", find_structure_centers())


def _write_colin27(data: Path, spacing_mm: float | None) -> None:
    head, brain = (load_example(name, spacing_mm) for name in ("colin27", "colin27-brain"))
    _write_image(data, "colin27", replace(head, labels=_with_tissues(brain).labels))


def _write_warped(data: Path, spacing_mm: float | None) -> None:
    source = _with_tissues(load_example("mni2009c", spacing_mm))
    for name in ("warped-mild", "warped-hard"):
        _write_subject(data, name, source, source, spacing_mm)


def _write_t2_like(data: Path, spacing_mm: float | None) -> None:
    t1, gray, white = (load_example(f"icbm2009a{part}", spacing_mm) for part in ("", "-gm", "-wm"))
    fixed = _with_tissues(t1)
    contrast = synthetic.simulate_t2(fixed, gray.channel / 255, white.channel / 255)
    _write_subject(data, "warped-t2", fixed, contrast, spacing_mm)


def _write_subject(data: Path, name: str, fixed: Image, source: Image, spacing_mm: float | None) -> None:
    """Write a subject with its labels, landmarks and truth; ``source`` lies on the fixed grid."""
    recipe = RECIPES[name]
    pose = synthetic.draw_affine(fixed.grid.center, recipe.seed, recipe.rotation_deg)
    truth = synthetic.draw_truth(fixed.grid, recipe.seed, affine=pose)
    spacing = [mm * (spacing_mm or 1.0) for mm in recipe.spacing_mm]
    grid = synthetic.make_subject_grid(fixed.grid, truth, spacing)
    subject = synthetic.make_subject(
        source, truth, grid, seed=recipe.seed, noise=recipe.noise, bias=recipe.bias
    )
    _write_image(data, name, _scanner_like(subject))
    write_transform(data / f"{name}_truth.h5", truth.forward)
    centers = find_structure_centers()
    write_landmarks(
        data / f"{name}_landmarks.csv", replace(centers, points=truth.forward.apply(centers.points))
    )


def _scanner_like(subject: Image) -> Image:
    """Return the subject as whole numbers of 12 bits, as scanners store them."""
    top = float(subject.channel.max())
    return subject.with_data(np.rint(subject.channel * (4095 / top)).astype(np.int16))


def _with_tissues(brain: Image) -> Image:
    mask = np.asarray(brain.channel > 0)
    return replace(brain, labels=segment_tissues(brain.channel, mask))


def _write_image(data: Path, name: str, image: Image) -> None:
    samples = image.channel
    if samples.dtype.kind == "f":
        samples = np.rint(samples).astype(np.int16)
    write_volume(data / f"{name}.nii.gz", samples, image.grid)
    if image.labels is not None:
        write_volume(data / f"{name}_tissues.nii.gz", image.labels, image.grid)


def _write_config(folder: Path) -> None:
    """Copy the worked example; rows whose volume is not here are left out of the sheet."""
    source, target = find_shipped_folder() / "config" / "demo", folder / "config"
    target.mkdir(parents=True, exist_ok=True)
    for name in ("config.yaml", "README.md"):
        shutil.copyfile(source / name, target / name)
    with (source / "samples.tsv").open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream, delimiter="\t")
        columns = reader.fieldnames or []
        rows = [row for row in reader if (folder / row["moving"]).is_file()]
    with write_whole(target / "samples.tsv") as part, part.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
