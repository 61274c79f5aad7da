"""Two images as people hold them, and all that belongs to them, as files that the stages read."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regflow.core.image import Image
from regflow.pipeline.exchange import (
    StoredImage,
    find_common_kind,
    store_image,
    store_landmarks,
    store_part,
)
from regflow.pipeline.pair_options import refuse_other_kind

_PARTS = ("fixed_mask", "moving_mask", "fixed_labels", "moving_labels")
_LANDMARKS = ("fixed_landmarks", "moving_landmarks")
_CARRIED_ALONG = ("companions", "classes")


@dataclass(frozen=True, eq=False)
class StoredPair:
    """A pair as files.

    Attributes:
        kind: ``volumes`` or ``rasters``.
        fixed: the fixed image.
        moving: the moving image.
        parts: what belongs to them, by the names of :func:`regflow.api.register`.
    """

    kind: str
    fixed: StoredImage
    moving: StoredImage
    parts: Mapping[str, Any]


def store_pair(fixed: Any, moving: Any, given: Mapping[str, Any], folder: Path) -> StoredPair:
    """Return a pair as files.

    Args:
        fixed: of any type that :func:`regflow.api.register` takes.
        moving: likewise.
        given: its arguments by name.
        folder: where files of images in memory are written.

    Raises:
        InputError: an image or a part is none, the images are of two kinds, or a part is of the other kind.
    """
    moving_spacing = given["spacing"]
    fixed_spacing = moving_spacing if given["fixed_spacing"] is None else given["fixed_spacing"]
    sides = {
        "fixed": store_image(fixed, folder, "fixed", fixed_spacing),
        "moving": store_image(moving, folder, "moving", moving_spacing),
    }
    kind = find_common_kind(
        [image.name for image in sides.values()], [image.kind for image in sides.values()]
    )
    refuse_other_kind(given, kind)
    return StoredPair(kind, sides["fixed"], sides["moving"], _store_parts(given, sides, folder))


def list_given_parts(moving: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of the moving side was given, by the part of the result that comes back like it."""
    labels = given["moving_labels"]
    if labels is None and isinstance(moving, Image) and moving.labels is not None:
        labels = moving.labels
    parts = {"image": moving, "labels": labels}
    parts |= {f"companions/{name}": image for name, image in (given["companions"] or {}).items()}
    return {name: part for name, part in parts.items() if part is not None}


def _store_parts(given: Mapping[str, Any], sides: Mapping[str, StoredImage], folder: Path) -> dict[str, Any]:
    """Return what belongs to two images as files, where it is not given with an Image itself."""
    parts: dict[str, Any] = {}
    for name in _PARTS:
        side, _, part = name.partition("_")
        parts[name] = sides[side].parts.get(part)
        if given[name] is not None:
            parts[name] = store_part(given[name], folder, name, sides[side])
    for name in _LANDMARKS:
        parts[name] = None if given[name] is None else store_landmarks(given[name], folder, name)
    for name, side in (("modality", "moving"), ("fixed_modality", "fixed")):
        parts[name] = given[name] or sides[side].parts.get("modality")
    for group in _CARRIED_ALONG:
        parts[group] = {
            name: store_part(image, folder, f"{group}_{name}", sides["moving"])
            for name, image in (given[group] or {}).items()
        }
    for name in ("truth", "landmarks"):
        parts[name] = None if given[name] is None else str(given[name])
    return parts
