"""The images of a template on disk: working images of all channels, and what the first round begins with.

A folder of :mod:`regflow.stages.volumes.working` holds the channel that drives the registration; further
channels lie beside it, each on its own grid, and are averaged by the same transforms.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from regflow.core.boxes import find_bounding_box, make_whole_box
from regflow.core.extent import measure_ball_diameter
from regflow.core.files import read_json, write_json
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.itk_threads import limit_itk_threads
from regflow.core.transform import Points, Transform
from regflow.io.volumes import read_volume, write_volume
from regflow.stages.volumes.originals import read_parts
from regflow.stages.volumes.preprocess import prepare_volume
from regflow.stages.volumes.working import read_working, write_working

START_FILE = "start.json"
MARGIN = 0.08
"""Kept around the objects of all images, as a part of their longest side."""


def name_channel_file(channel: str) -> str:
    """Return the name of the file of a further channel in a folder of images."""
    return f"channel-{channel}.nii"


def prepare_template_image(
    folder: str | Path,
    *,
    files: Mapping[str, str],
    channels: Mapping[str, str],
    settings: Mapping[str, Any],
    volume: int | str | None = None,
    modality: str | None = None,
    mirrored: bool = False,
    threads: int = 1,
) -> None:
    """Make the working images of all channels of one image.

    Args:
        folder: to write into.
        files: ``image`` and perhaps ``mask``.
        channels: files of further channels by name, in the same world as the image.
        settings: the ``preprocess`` section of the configuration.
        volume: which one of a file of several.
        modality: of the image.
        mirrored: turn left and right around, about the world's middle plane.
        threads: most threads to use.

    Raises:
        InputError: a file cannot be read, or an image is constant inside its mask.
    """
    with limit_itk_threads(threads):
        image = read_parts(files, volume, modality)
        prepared, _ = prepare_volume(image, settings, threads=threads)
        write_working(folder, mirror_image(prepared) if mirrored else prepared)
        for name, path in sorted(channels.items()):
            other, _ = prepare_volume(read_volume(path), settings, threads=threads)
            other = mirror_image(other) if mirrored else other
            data = np.asarray(other.channel, dtype=np.float32)
            write_volume(Path(folder) / name_channel_file(name), data, other.grid)


def mirror_image(image: Image) -> Image:
    """Return an image with left and right turned around about the plane ``x = 0`` of the world.

    Args:
        image: its last array axis runs nearest to the world's x axis.
    """
    reflection = np.diag([-1.0, *[1.0] * image.grid.ndim])
    backwards = np.eye(image.grid.ndim + 1)
    backwards[0, 0], backwards[0, -1] = -1.0, image.grid.size[0] - 1.0
    grid = Grid(image.grid.shape, reflection @ image.grid.affine @ backwards, image.grid.crs)

    def turn(part: Any) -> Any:
        return None if part is None else np.ascontiguousarray(part[..., ::-1])

    return Image(turn(image.data), grid, turn(image.mask), turn(image.labels), image.modality)


def read_channel(folder: str | Path, channel: str | None) -> Image:
    """Read a channel of a folder of images; the one that drives the registration when None.

    Raises:
        InputError: it is not there, or cannot be read.
    """
    if channel is None:
        return read_working(folder)
    image = read_volume(Path(folder) / name_channel_file(channel))
    return image.with_data(np.asarray(image.data, dtype=np.float32))


def choose_start(folder: str | Path, images: Mapping[str, str | Path]) -> str:
    """Write what the first round registers to: the image whose object has the middle size of all.

    Which image it is hardly matters, because the mean of all maps onto it is taken out of them. The middle
    one is the easiest to register to, and the choice does not depend on the order of the images.

    Args:
        folder: to write into.
        images: folders by name.

    Returns:
        The name of the image.
    """
    sizes = {name: _measure_size(path) for name, path in images.items()}
    ranked = sorted(sizes, key=lambda name: (sizes[name], name))
    chosen = ranked[(len(ranked) - 1) // 2]
    write_working(folder, read_working(images[chosen]))
    write_json(Path(folder) / START_FILE, {"image": chosen})
    return chosen


def read_start_name(folder: str | Path) -> str | None:
    """Return which of the images a start is; None where it was given."""
    path = Path(folder) / START_FILE
    return str(read_json(path)["image"]) if path.is_file() else None


def find_mean_grid(
    images: Mapping[str, tuple[str | Path, Transform]],
    spacing_mm: float | None = None,
    *,
    symmetric: bool = False,
) -> Grid:
    """Return a grid along the world's axes that holds the objects of all images.

    Args:
        images: folder of each image, and its map from template to image points.
        spacing_mm: of the samples; the middle one of the images' own when None.
        symmetric: about the plane ``x = 0``.
    """
    corners, own = [], []
    for folder, transform in images.values():
        image = read_working(folder)
        corners.append(transform.inverse().apply(_find_corners(image)))
        own.append(float(np.prod(image.grid.spacing) ** (1 / image.grid.ndim)))
    points = np.concatenate(corners)
    low, high = points.min(axis=0), points.max(axis=0)
    if symmetric:
        high[0] = max(-low[0], high[0])
        low[0] = -high[0]
    spacing = sorted(own)[(len(own) - 1) // 2] if spacing_mm is None else float(spacing_mm)
    reach = MARGIN * float((high - low).max())
    size = np.ceil((high - low + 2 * reach) / spacing).astype(int) + 1
    origin = (low + high) / 2 - (size - 1) / 2 * spacing
    return Grid.from_geometry(size[::-1].tolist(), [spacing] * len(size), origin.tolist())


def _find_corners(image: Image) -> Points:
    """Return the world points of the corners of the box around an image's object."""
    shown = image.mask is not None and bool(image.mask.any())
    box = find_bounding_box(image.mask) if shown else make_whole_box(image.grid.shape)  # type: ignore[arg-type]
    axes = [(part.start - 0.5, part.stop - 0.5) for part in reversed(box)]
    return image.grid.to_world(np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, image.grid.ndim))


def _measure_size(folder: str | Path) -> float:
    image = read_working(folder)
    return measure_ball_diameter(image.mask, image.grid)
