"""Working images on disk: what preprocess writes and every later stage reads."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from regflow.core.files import stamp_file
from regflow.core.image import Image
from regflow.io.volumes import read_volume, write_volume

IMAGE_FILE = "image.nii"


def write_working(folder: str | Path, image: Image) -> None:
    """Write ``image.nii`` (float32), ``mask.nii`` (uint8) and ``labels.nii`` where the image has them."""
    folder = Path(folder)
    write_volume(folder / IMAGE_FILE, np.asarray(image.channel, dtype=np.float32), image.grid)
    if image.mask is not None:
        write_volume(folder / "mask.nii", image.mask.astype(np.uint8), image.grid)
    if image.labels is not None:
        write_volume(folder / "labels.nii", image.labels, image.grid)


def read_working(folder: str | Path) -> Image:
    """Read a working image with its mask and labels from the directory that preprocess wrote.

    The last two stay in memory, for the next stages of a job that runs several: nobody writes to them.

    Raises:
        InputError: there is no such image, or it cannot be read.
    """
    folder = Path(folder)
    return _read(folder, stamp_file(folder / IMAGE_FILE))


@lru_cache(maxsize=2)
def _read(folder: Path, stamp: tuple[int, int, int] | None) -> Image:
    """Read an image; the stamp tells it from another that lies in the same place later."""
    image = read_volume(folder / IMAGE_FILE)
    parts = {name: folder / f"{name}.nii" for name in ("mask", "labels")}
    mask, labels = (read_volume(path).channel if path.exists() else None for path in parts.values())
    inside = None if mask is None else mask > 0
    return Image(np.asarray(image.data, dtype=np.float32), image.grid, inside, labels)
