"""A registered sample on disk, as the stages before assess leave it, made from a known truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regflow.core.errors import InputError
from regflow.core.files import write_json
from regflow.core.gate import Verdict
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.landmarks import Landmarks
from regflow.core.resample import resample_array
from regflow.core.transform import Composite, DisplacementField
from regflow.datasets.subjects import Truth, draw_truth, make_subject, make_subject_grid
from regflow.io.landmarks import write_landmarks
from regflow.io.transforms import write_transform
from regflow.io.volumes import write_volume
from regflow.stages.shell import make_outcome, run_stage_work
from regflow.stages.volumes.assess import RegisteredVolumes

PASS = Verdict("pass", "every figure is within its limits")
FOUND = 0.8
"""Part of the true warp that the registration is said to have found."""


@dataclass(frozen=True)
class Known:
    """A pair whose registration is known: the affine exactly, the warp in part."""

    pair: RegisteredVolumes
    truth: Truth


def known_pair(fixed: Image, labels: np.ndarray | None = None, seed: int = 5) -> Known:
    """Make a subject from a fixed image, and a registration that found most of its warp."""
    fixed = Image(fixed.data, fixed.grid, fixed.mask, labels, fixed.modality)
    truth = draw_truth(fixed.grid, seed, amplitude_mm=9.0, smoothness_mm=18.0)
    moving = make_subject(fixed, truth, make_subject_grid(fixed.grid, truth, 4.0), seed=seed)
    warp, pose = truth.forward.parts
    _, unwarp = truth.backward.parts
    part = DisplacementField(FOUND * warp.vectors, fixed.grid)
    back = DisplacementField(FOUND * unwarp.vectors, fixed.grid)
    forward, backward = Composite((part, pose)), Composite((pose.inverse(), back))
    earlier = {"initialize": PASS, "refine": PASS}
    return Known(RegisteredVolumes(fixed, moving, pose, forward, backward, earlier=earlier), truth)


def drawn_structures(drawn: Image, grid: Grid, least: int = 60) -> np.ndarray:
    """Return the structures of a label map on a grid, those of few samples left out."""
    labels = resample_array(drawn.channel, drawn.grid, grid, interpolation="nearest")
    values, counts = np.unique(labels, return_counts=True)
    return np.where(np.isin(labels, values[counts > least]), labels, 0)


@dataclass(frozen=True)
class Folders:
    """Where the stages of one sample left their results, as keyword arguments of assess and report."""

    root: Path
    sample: str

    @property
    def arguments(self) -> dict:
        root, sample = self.root, self.sample
        return {
            "sample": sample,
            "manifests": (root / "ingest/fixed/atlas.json", root / f"ingest/moving/{sample}.json"),
            "prepared": (root / "preprocess/fixed/atlas", root / f"preprocess/moving/{sample}"),
            "initial": root / f"initialize/{sample}",
            "refined": root / f"refine/{sample}",
            "applied": root / f"apply/{sample}",
        }

    @property
    def assessed(self) -> Path:
        return self.root / f"assess/{self.sample}"


def write_stages(root: Path, sample: str, known: Known, points: Sequence[Sequence[float]] = ()) -> Folders:
    """Write what ingest to apply leave of a sample."""
    pair, folders = known.pair, Folders(root, sample)
    given = folders.arguments
    paths = {"image": "moving.nii", "truth": str(root / "truth.h5")}
    write_transform(paths["truth"], known.truth.forward)
    if len(points):
        names = tuple(f"point {number}" for number in range(len(points)))
        for key, where in (("fixed_landmarks", points), ("landmarks", known.truth.forward.apply(points))):
            paths[key] = str(root / f"{key}.csv")
            write_landmarks(paths[key], Landmarks(names, np.asarray(where)))
    _manifest(given["manifests"][0], "atlas", pair.fixed, {"image": "fixed.nii"})
    _manifest(given["manifests"][1], sample, pair.moving, paths)
    for folder, image in zip(given["prepared"], (pair.fixed, pair.moving), strict=True):
        run_stage_work("preprocess", sample, folder, [], lambda place, image=image: _prepare(place, image))
    run_stage_work("initialize", sample, given["initial"], [], lambda place: _transforms(place, pair.initial))
    run_stage_work(
        "refine", sample, given["refined"], [], lambda place: _transforms(place, pair.forward, pair.backward)
    )
    run_stage_work("apply", sample, given["applied"], [], lambda place: _apply(place, pair))
    return folders


def write_failure(root: Path, sample: str, known: Known, reason: str) -> Folders:
    """Write what the stages leave of a sample whose moving file is unusable."""
    folders = Folders(root, sample)
    given = folders.arguments
    fixed, moving = given["prepared"]
    _manifest(given["manifests"][0], "atlas", known.pair.fixed, {"image": "fixed.nii"})
    _manifest(given["manifests"][1], sample, None, {"image": "moving.nii"}, [reason])
    run_stage_work("preprocess", sample, fixed, [], lambda place: _prepare(place, known.pair.fixed))

    def fail(_: Path):
        raise InputError(reason)

    run_stage_work("preprocess", sample, moving, [], fail)
    before = moving
    for stage, key in (("initialize", "initial"), ("refine", "refined"), ("apply", "applied")):
        run_stage_work(stage, sample, given[key], [before], fail)
        before = given[key]
    return folders


def _manifest(path: Path, name: str, image: Image | None, paths: dict, problems: Sequence[str] = ()) -> None:
    content = {
        "name": name,
        "state": "error" if problems else "done",
        "problems": list(problems),
        "warnings": [],
        "modality": "T1w",
        "group": "patients",
        "session": None,
        "grid": image.grid.to_dict() if image else None,
        "paths": paths,
        "sha256": {"image": "ab" * 32},
    }
    write_json(path, content)


def _prepare(folder: Path, image: Image):
    write_volume(folder / "image.nii", image.channel, image.grid)
    write_volume(folder / "mask.nii", image.mask, image.grid)
    if image.labels is not None:
        write_volume(folder / "labels.nii", image.labels, image.grid)
    steps = [{"name": "bias", "method": "n4", "seconds": 1.5}]
    return make_outcome(Verdict("pass", "the working image is made"), steps)


def _transforms(folder: Path, forward, backward=None):
    write_transform(folder / "transform.h5", forward)
    if backward is not None:
        write_transform(folder / "inverse.h5", backward)
    step = {"name": "moments", "seconds": 2.5, "verdict": PASS.to_dict()}
    return make_outcome(PASS, [step])


def _apply(folder: Path, pair: RegisteredVolumes):
    moving, grid = pair.moving, pair.fixed.grid
    write_volume(
        folder / "warped.nii.gz", resample_array(moving.channel, moving.grid, grid, pair.forward), grid
    )
    return make_outcome(Verdict("pass", "each product was sampled once"))
