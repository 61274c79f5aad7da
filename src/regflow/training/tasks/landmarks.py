"""The task of finding landmarks: heat maps, learned from a few images in which a person has set them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.landmarks import Landmarks
from regflow.core.transform import Affine
from regflow.methods.initialize.landmark_network import find_peaks
from regflow.methods.learned_models import ModelDescription
from regflow.methods.matching.views import make_cube, prepare_view, sample_view
from regflow.training.deformations import draw_smooth_noise
from regflow.training.label_maps import SUFFIXES
from regflow.training.task import AskNetwork, DrawnExamples, Sums, TensorBatch, TrainingTask, make_model_task

PICTURES = (".tif", ".tiff", ".png", ".jpg", ".jp2")
POINTS = (".csv", ".tsv", ".fcsv", ".mrk.json", ".gpkg")
LEAST = 3
"""Landmarks that every image must have."""
PART = 2
"""Examples that learn together: alike whatever the threads."""
SHIFT, SCALE = 0.12, 0.2
"""Of the side and of the size by which an image is moved at most."""


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """An image in which landmarks are known.

    Attributes:
        image: no finer than its cube.
        cube: in which it is seen.
        points: ``(K, d)`` world points.
    """

    image: Image
    cube: Grid
    points: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class DrawAnnotated:
    """Draws an annotated image, moved and relit, and heat maps of its landmarks.

    Attributes:
        images: to choose from.
        sigma: of the heat maps, samples.
        degrees: by which an image is turned at most.
        invert: whether dark and bright may change places.
    """

    images: Sequence[AnnotatedImage]
    sigma: float
    degrees: float
    invert: bool

    def __call__(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Draw an example.

        Returns:
            ``image`` ``(1, *shape)``; ``maps`` ``(K, *shape)``, each adding up to 1; ``places`` ``(K, d)`` of
            the landmarks, indices in array order.
        """
        one = self.images[int(rng.integers(len(self.images)))]
        pose = _draw_pose(one.cube, self.degrees, rng)
        view = sample_view(one.image, one.cube, pose)
        places = one.cube.to_index(pose.inverse().apply(one.points))[:, ::-1]
        shape = one.cube.shape
        ticks = np.indices(shape, np.float32)
        maps = np.stack([self._map(place, ticks) for place in places])
        lit = view ** np.float32(np.exp(rng.normal(0, 0.3)))
        lit = lit + rng.uniform(0, 0.15) * draw_smooth_noise(shape, max(shape) / 2, rng)
        lit = lit + rng.uniform(0, 0.05) * rng.standard_normal(shape, dtype=np.float32)
        if self.invert and rng.random() < 0.5:
            lit = 1 - lit
        image = torch.from_numpy(np.clip(lit, 0, 1).astype(np.float32)[None])
        known = {"maps": torch.from_numpy(maps), "places": torch.from_numpy(places.astype(np.float32))}
        return {"image": image, **known}

    def _map(self, place: NDArray[np.float64], ticks: NDArray[np.float32]) -> NDArray[np.float32]:
        column = place.reshape(-1, *[1] * (ticks.ndim - 1))
        heat = np.exp(-0.5 * ((ticks - column) ** 2).sum(axis=0) / self.sigma**2)
        return np.asarray(heat / max(heat.sum(), 1e-6), np.float32)


def make_task(settings: Mapping[str, Any], seed: int) -> TrainingTask:
    """Return what is learned by the settings of a training.

    Raises:
        InputError: images or landmarks are missing, or do not fit one another.
    """
    options = settings["options"]
    names, images = read_annotated(options["annotated"], settings["side"], settings["ndim"])
    given = {"ndim": settings["ndim"], "side": settings["side"], "channels": settings["channels"]}
    description = ModelDescription("landmark-network", {**given, "landmarks": list(names)})
    draw = DrawAnnotated(images, options["sigma"], options["degrees"], options["invert"])
    return make_model_task(
        description=description,
        examples=DrawnExamples(draw, seed),
        prepare=lambda network, batch: batch.split(PART),
        compute_loss=_compute_loss,
        measure=_measure,
        show=_show,
    )


def read_annotated(folder: str | None, side: int, ndim: int) -> tuple[tuple[str, ...], list[AnnotatedImage]]:
    """Read images and the landmarks beside them, files of one name: ``wing1.png`` and ``wing1.csv``.

    Args:
        folder: holds both.
        side: samples along each axis of the cube in which each is seen.
        ndim: 2 for pictures, 3 for volumes.

    Returns:
        The names of the landmarks that all images have, and the images.

    Raises:
        InputError: there is no folder, no image, none of an image's landmarks, or too few that all have.
    """
    if folder is None:
        raise InputError("train: options: annotated: name the folder of images and their landmarks")
    endings = SUFFIXES if ndim == 3 else PICTURES
    files = [path for path in sorted(Path(folder).glob("*")) if path.name.lower().endswith(endings)]
    if not files:
        raise InputError(f"train: options: annotated: no images ({', '.join(endings)}) in {folder}")
    found = [(_read_image(path, ndim), _read_points(path, endings, ndim)) for path in files]
    names = tuple(name for name in found[0][1].names if all(name in marks.names for _, marks in found))
    if len(names) < LEAST:
        raise InputError(
            f"train: options: annotated: the images in {folder} share {len(names)} landmarks by name; "
            f"at least {LEAST} are needed"
        )
    return names, [_annotate(image, marks, names, side) for image, marks in found]


def _read_image(path: Path, ndim: int) -> Image:
    if ndim == 3:
        from regflow.io.volumes import read_volume

        return read_volume(path)
    from regflow.io.rasters import read_raster_header, read_window

    header = read_raster_header(path)
    rows, columns = header.shape
    values, valid = read_window(path, [1], slice(0, rows), slice(0, columns))
    grid = header.pixel_grid if header.grid is None else header.grid
    return Image(values.astype(np.float32), grid, valid[0])


def _read_points(path: Path, endings: Sequence[str], ndim: int) -> Landmarks:
    stem = next(path.name[: -len(end)] for end in endings if path.name.lower().endswith(end))
    beside = [path.with_name(f"{stem}{end}") for end in POINTS]
    file = next((each for each in beside if each.is_file()), None)
    if file is None:
        raise InputError(f"{path}: no landmarks stand beside it; add {stem}.csv or leave the image out")
    if ndim == 3:
        from regflow.io.landmarks import read_landmarks

        return read_landmarks(file)
    from regflow.io.point_tables import read_point_table

    table = read_point_table(file)
    named = next((table.columns[key] for key in ("name", "label") if key in table.columns), None)
    names = [str(n) for n in (range(1, len(table.xy) + 1) if named is None else named)]
    return Landmarks(tuple(names), table.xy)


def _annotate(image: Image, marks: Landmarks, names: Sequence[str], side: int) -> AnnotatedImage:
    cube = make_cube(image, side)
    points = np.stack([marks.points[marks.names.index(name)] for name in names])
    return AnnotatedImage(prepare_view(image, cube), cube, points)


def _draw_pose(cube: Grid, degrees: float, rng: np.random.Generator) -> Affine:
    """Draw where the cube looks: turned, moved and scaled about its center."""
    ndim, angle = cube.ndim, np.deg2rad(rng.uniform(-degrees, degrees))
    if ndim == 3:
        axis = rng.normal(size=3)
        turn = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix()
    else:
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    scale = np.exp(rng.uniform(-SCALE, SCALE))
    shift = rng.uniform(-SHIFT, SHIFT, ndim) * cube.size[0] * cube.spacing[0]
    return Affine.from_parts(scale * turn, shift, cube.center)


def _compute_loss(network: AskNetwork, batch: TensorBatch) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the cross-entropy of the heat maps: each is a distribution over the samples."""
    logits = network(batch["image"]).flatten(2)
    loss = -(batch["maps"].flatten(2) * torch.log_softmax(logits, dim=2)).sum(dim=2).mean()
    return loss, {"maps": loss.detach()}


def _measure(network: AskNetwork, batch: TensorBatch) -> Sums:
    """Return ``landmark_error``: the mean distance of landmarks from where they are, samples."""
    errors = [
        float((find_peaks(logits.cpu())[0] - places.cpu()).norm(dim=1).mean())
        for logits, places in zip(network(batch["image"]).float(), batch["places"], strict=True)
    ]
    return {"landmark_error": (sum(errors), len(errors))}


def _show(network: AskNetwork, batch: TensorBatch) -> list[NDArray[np.float32]]:
    logits = network(batch["image"][:1])[0].float()
    heat = torch.softmax(logits.flatten(1), dim=1).view(logits.shape).amax(dim=0)
    return [batch["image"][0, 0].cpu().numpy(), (heat / heat.max()).cpu().numpy()]
