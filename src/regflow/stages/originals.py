"""Original images on disk: what the manifests of ingest point to."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from regflow.core.image import Image
from regflow.core.io.volumes import read_volume
from regflow.core.labels import whole_numbers


def read_original(manifest: Mapping[str, Any]) -> Image:
    """Read the image of a manifest in its own type, with its mask and labels if it names any.

    Raises:
        InputError: a file has become unreadable since ingest.
    """
    paths = manifest["paths"]
    image = read_volume(paths["image"], manifest["volume"])
    return Image(
        image.data,
        image.grid,
        np.asarray(read_volume(paths["mask"]).channel != 0) if "mask" in paths else None,
        whole_numbers(read_volume(paths["labels"]).channel) if "labels" in paths else None,
        manifest["modality"],
    )
