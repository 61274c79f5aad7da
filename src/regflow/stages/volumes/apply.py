"""The products: everything of the moving image on the fixed image's grid, by one interpolation.

Pixels come from the original files, not from the working copies, and are resampled once, by the
composed transform.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import regflow
from regflow.core.errors import InputError
from regflow.core.files import compute_sha256, write_json
from regflow.core.gate import Verdict
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.itk_threads import limit_itk_threads
from regflow.core.json_schema import fill_defaults
from regflow.core.labels import Labels, resample_labels, round_labels
from regflow.core.landmarks import Landmarks
from regflow.core.resample import INTERPOLATIONS, resample_array
from regflow.core.surroundings import find_background_level
from regflow.core.transform import Transform
from regflow.io.header import TimeAxis
from regflow.io.landmarks import read_landmarks, write_landmarks
from regflow.io.transforms import read_transform
from regflow.io.volumes import (
    read_header,
    read_labels,
    read_series,
    read_volume,
    refuse_diffusion_series,
    write_series,
    write_volume,
)
from regflow.stages.shell import Outcome, make_outcome, record_step, run_stage_work
from regflow.stages.volumes.ingest import read_manifest

log = logging.getLogger(__name__)

LABEL_MODES = ("nearest", "smooth")

OPTIONS: dict[str, dict[str, Any]] = {
    "interpolation": {
        "enum": list(INTERPOLATIONS),
        "description": "of the moving image and its companions",
        "default": "linear",
    },
    "labels": {
        "enum": list(LABEL_MODES),
        "description": "of label maps: the nearest sample's label, or smooth borders between labels",
        "default": "nearest",
    },
    "outside": {
        "type": ["number", "null"],
        "description": "value where the moving image has no sample; null takes the image's own background",
        "default": None,
    },
    "inverse": {
        "type": "boolean",
        "description": "also bring the fixed image, its labels and landmarks onto the moving image's grid",
        "default": False,
    },
}


def warp_image(
    image: Image,
    target: Grid,
    transform: Transform,
    interpolation: str = "linear",
    outside: float | None = None,
) -> Image:
    """Resample every channel of an image.

    Args:
        image: the moving image; its mask and labels are left behind.
        target: the grid of the result, fixed.
        transform: from fixed to moving world points.
        interpolation: one of :data:`~regflow.core.resample.INTERPOLATIONS`.
        outside: value where the moving image has no sample; None takes each channel's own background
            (:func:`~regflow.core.surroundings.find_background_level`): 0 around a stripped brain or a map of
            statistics, air in CT.

    Returns:
        An image of the same type of samples: integers are rounded and kept within their range.

    Raises:
        InputError: an unknown interpolation.
    """
    _known(interpolation, INTERPOLATIONS, "interpolation")
    channels = [
        _warp_channel(np.asarray(channel), image.grid, target, transform, interpolation, outside)
        for channel in image.data
    ]
    return Image(np.stack(channels), target, modality=image.modality)


def warp_labels(
    labels: Labels, source: Grid, target: Grid, transform: Transform, mode: str = "nearest"
) -> Labels:
    """Resample a label map; no label is invented.

    Args:
        labels: integer ``source.shape`` array, moving. Whole numbers stored as floats are taken too.
        source: its grid.
        target: the grid of the result, fixed.
        transform: from fixed to moving world points.
        mode: ``nearest``, or ``smooth`` for borders between samples
            (:func:`~regflow.core.labels.resample_labels`).

    Raises:
        InputError: an unknown mode, or values that are not whole numbers.
    """
    _known(mode, LABEL_MODES, "labels")
    whole = round_labels(labels)
    if mode == "smooth":
        return resample_labels(whole, source, target, transform)
    return resample_array(whole, source, target, transform, "nearest")


def warp_companion(
    output: str | Path, path: str, target: Grid, transform: Transform, settings: Mapping[str, Any]
) -> None:
    """Warp a companion from its own file and write it, volume by volume where it has several.

    Args:
        output: the file to write.
        path: the companion, in the moving image's space; of any grid.
        target: the grid of the result, fixed.
        transform: from fixed to moving world points.
        settings: ``interpolation`` and ``outside`` of the ``apply`` section.

    Raises:
        InputError: the companion cannot be read, is a diffusion series, or holds several volumes and the
            output is no NIfTI file.
    """
    refuse_diffusion_series(path)
    header = read_header(path)
    warped = (
        _warp_channel(volume, header.grid, target, transform, settings["interpolation"], settings["outside"])
        for volume in read_series(path)
    )
    if header.volumes == 1:
        write_volume(output, next(warped), target)
    else:
        write_series(output, warped, header.dtype, target, header.timing or TimeAxis(header.volumes))


def map_landmarks(landmarks: Landmarks, transform: Transform) -> Landmarks:
    """Move landmarks by a transform, their names kept.

    An image is pulled by the transform from fixed to moving points, but a point is pushed: moving
    landmarks come into the fixed image's space by the INVERSE, fixed landmarks into the moving
    image's by the forward transform.
    """
    return replace(landmarks, points=transform.apply(landmarks.points))


def apply(
    output: str | Path,
    *,
    sample: str,
    manifests: tuple[str | Path, str | Path],
    refined: str | Path,
    settings: Mapping[str, Any],
    threads: int = 1,
) -> Outcome:
    """Bring everything of one sample onto the fixed image's grid.

    Writes ``warped.nii.gz`` and, where the sample has them, ``labels.nii.gz``, ``landmarks.csv``
    and ``companions/NAME.nii.gz`` into ``output``; with the setting ``inverse`` also
    ``inverse_fixed.nii.gz``, ``inverse_labels.nii.gz`` and ``inverse_landmarks.csv`` in the moving
    image's space. Beside each stands a ``.json`` that says what it was made from and how.

    Args:
        output: the directory to make.
        sample: its id.
        manifests: of the fixed and the moving image, written by ingest.
        refined: directory written by refine, with ``transform.h5`` and ``inverse.h5``.
        settings: the ``apply`` section of the configuration; missing keys take their default.
        threads: most threads to use; no product depends on it.
    """
    settings = fill_defaults(OPTIONS, settings)

    def work(folder: Path) -> Outcome:
        fixed, moving = (read_manifest(manifest) for manifest in manifests)
        if "fixed_landmarks" in moving["paths"]:
            fixed = _with_landmarks(fixed, moving)
        steps: list[dict[str, Any]] = []
        with limit_itk_threads(threads):
            for carry in _directions(fixed, moving, Path(refined), settings["inverse"]):
                _carry(folder, carry, settings, steps)
        return make_outcome(Verdict("pass", "every product was written"), steps)

    return run_stage_work("apply", sample, output, [refined], work)


@dataclass(frozen=True)
class _Carry:
    """One direction: what is carried, onto which grid, and by which files.

    Attributes:
        source: manifest of the image that is carried.
        target: manifest of the image whose grid the products take.
        pull: transform file from target to source points, for images.
        push: transform file from source to target points, for landmarks.
        names: names of the products, without suffix, of the image, labels and landmarks.
        companions: companions that are carried too, by name.
    """

    source: Mapping[str, Any]
    target: Mapping[str, Any]
    pull: Path
    push: Path
    names: tuple[str, str, str]
    companions: Mapping[str, str]


def _directions(
    fixed: Mapping[str, Any], moving: Mapping[str, Any], refined: Path, inverse: bool
) -> list[_Carry]:
    forward, backward = refined / "transform.h5", refined / "inverse.h5"
    companions = moving["paths"].get("companions", {})
    names = ("warped", "labels", "landmarks")
    carries = [_Carry(moving, fixed, forward, backward, names, companions)]
    if inverse:
        names = ("inverse_fixed", "inverse_labels", "inverse_landmarks")
        carries.append(_Carry(fixed, moving, backward, forward, names, {}))
    return carries


def _with_landmarks(fixed: Mapping[str, Any], moving: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fixed image's manifest with the sample's own fixed landmarks."""
    part = "fixed_landmarks"
    paths = {**fixed["paths"], "landmarks": moving["paths"][part]}
    return {**fixed, "paths": paths, "sha256": {**fixed["sha256"], "landmarks": moving["sha256"][part]}}


def _carry(folder: Path, carry: _Carry, settings: Mapping[str, Any], steps: list[dict[str, Any]]) -> None:
    """Write all products of one direction, each with its side-car."""
    paths, sums = carry.source["paths"], carry.source["sha256"]
    target = Grid.from_dict(carry.target["grid"])
    transform = read_transform(carry.pull, target)
    image, labels, landmarks = carry.names
    with record_step(steps, image):
        original = read_volume(paths["image"], carry.source["volume"])
        warped = warp_image(original, target, transform, settings["interpolation"], settings["outside"])
        write_volume(folder / f"{image}.nii.gz", warped.channel, target)
        how = {"volume": carry.source["volume"], "interpolation": settings["interpolation"]}
        _describe(folder / f"{image}.json", carry, carry.pull, (paths["image"], sums["image"]), how)
    for name, path in carry.companions.items():
        with record_step(steps, f"companions/{name}"):
            warp_companion(folder / "companions" / f"{name}.nii.gz", path, target, transform, settings)
            how = {"interpolation": settings["interpolation"]}
            made_from = (path, sums["companions"][name])
            _describe(folder / "companions" / f"{name}.json", carry, carry.pull, made_from, how)
    if "labels" in paths:
        with record_step(steps, labels):
            whole, source = read_labels(paths["labels"])
            mode = settings["labels"]
            drawn = warp_labels(whole, source, target, transform, mode)
            write_volume(folder / f"{labels}.nii.gz", drawn, target)
            how = {"interpolation": f"labels, {mode}"}
            _describe(folder / f"{labels}.json", carry, carry.pull, (paths["labels"], sums["labels"]), how)
    if "landmarks" in paths:
        with record_step(steps, landmarks):
            push = read_transform(carry.push, Grid.from_dict(carry.source["grid"]))
            moved = map_landmarks(read_landmarks(paths["landmarks"]), push)
            write_landmarks(folder / f"{landmarks}.csv", moved)
            made_from = (paths["landmarks"], sums["landmarks"])
            _describe(folder / f"{landmarks}.json", carry, carry.push, made_from, {})


def _describe(
    path: Path, carry: _Carry, transform: Path, source: tuple[str, str], how: Mapping[str, Any]
) -> None:
    """Write the side-car of a product: from which file (path, checksum) it was made, and how."""
    from importlib.metadata import version

    content = {
        "source": source[0],
        "source_sha256": source[1],
        "space_of": carry.target["paths"]["image"],
        "space_of_sha256": carry.target["sha256"]["image"],
        "transform": "/".join(transform.parts[-3:]),
        "transform_sha256": compute_sha256(transform),
        **how,
        "versions": {"regflow": regflow.__version__, "SimpleITK": version("SimpleITK")},
    }
    write_json(path, content)


def _warp_channel(
    data: NDArray[Any],
    source: Grid,
    target: Grid,
    transform: Transform,
    interpolation: str,
    outside: float | None,
) -> NDArray[Any]:
    if outside is None:
        outside = find_background_level(data)
    if data.dtype.kind in "iu":
        outside = round(outside)
    if interpolation == "nearest":
        return resample_array(data, source, target, transform, interpolation, outside)
    # ITK truncates what it interpolates between integers; float32 holds 24 bits exactly.
    exact = np.float32 if data.dtype.itemsize <= 2 or data.dtype == np.float32 else np.float64
    warped = resample_array(data.astype(exact), source, target, transform, interpolation, outside)
    if data.dtype == bool:
        return np.asarray(warped >= 0.5)
    if data.dtype.kind in "iu":
        limits = np.iinfo(data.dtype)
        warped = np.clip(np.rint(warped), limits.min, limits.max)
    return np.asarray(warped.astype(data.dtype))


def _known(name: str, known: tuple[str, ...], key: str) -> None:
    if name not in known:
        raise InputError(f"apply: unknown {key} '{name}'; choose one of {', '.join(known)}")
