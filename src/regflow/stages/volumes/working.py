"""Working images on disk: what preprocess writes and every later stage reads."""

from pathlib import Path

import numpy as np

from regflow.core.image import Image
from regflow.io.volumes import read_volume, write_volume


def write_working(folder: str | Path, image: Image) -> None:
    """Write ``image.nii`` (float32), ``mask.nii`` (uint8) and ``labels.nii`` where the image has them."""
    folder = Path(folder)
    write_volume(folder / "image.nii", np.asarray(image.channel, dtype=np.float32), image.grid)
    if image.mask is not None:
        write_volume(folder / "mask.nii", image.mask.astype(np.uint8), image.grid)
    if image.labels is not None:
        write_volume(folder / "labels.nii", image.labels, image.grid)


def read_working(folder: str | Path) -> Image:
    """Read a working image with its mask and labels from the directory that preprocess wrote."""
    folder = Path(folder)
    image = read_volume(folder / "image.nii")
    parts = {name: folder / f"{name}.nii" for name in ("mask", "labels")}
    mask, labels = (read_volume(path).channel if path.exists() else None for path in parts.values())
    return Image(
        np.asarray(image.data, dtype=np.float32), image.grid, None if mask is None else mask > 0, labels
    )
