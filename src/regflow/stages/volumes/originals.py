"""Original images on disk: what a sheet's row, or the manifest that ingest made of it, points to."""

from collections.abc import Mapping
from typing import Any

from regflow.core.image import Image
from regflow.core.labels import select_mask_samples
from regflow.core.landmark_pairs import LandmarkPairs, pair_landmarks
from regflow.io.header import Volume
from regflow.io.landmarks import read_landmarks
from regflow.io.volumes import read_labels, read_volume


def read_original(manifest: Mapping[str, Any]) -> Image:
    """Read the image of a manifest in its own type, with its mask and labels if it names any.

    Raises:
        InputError: a file has become unreadable since ingest.
    """
    return read_parts(manifest["paths"], manifest["volume"], manifest["modality"])


def read_parts(paths: Mapping[str, Any], volume: Volume = None, modality: str | None = None) -> Image:
    """Read an image in its own type, with its mask and labels if ``paths`` names any.

    Args:
        paths: files by their part: ``image``, and perhaps ``mask`` and ``labels``.
        volume: of the image's file, where it holds several.
        modality: of the image.

    Raises:
        InputError: a file cannot be read.
    """
    image = read_volume(paths["image"], volume)
    return Image(
        image.data,
        image.grid,
        select_mask_samples(read_volume(paths["mask"]).channel) if "mask" in paths else None,
        read_labels(paths["labels"])[0] if "labels" in paths else None,
        modality,
    )


def read_landmark_files(paths: Mapping[str, Any]) -> LandmarkPairs | None:
    """Read the landmarks of a sample and find each one's partner; None where a side has none.

    Args:
        paths: files by their part: perhaps ``landmarks``, of the moving image, and ``fixed_landmarks``.

    Raises:
        InputError: a file cannot be read, or has no partner of any landmark.
    """
    if "landmarks" not in paths or "fixed_landmarks" not in paths:
        return None
    return pair_landmarks(read_landmarks(paths["fixed_landmarks"]), read_landmarks(paths["landmarks"]))
