"""Multi-frame DICOM: pydicom reads where each frame lies and what it is, SimpleITK's GDCM the samples.

GDCM gives the frames in the order of the file and scales all by the first one's slope. Here frames of
one kind make a volume, in order of position, each scaled by its own slope and intercept.

Source: DICOM PS3.3, C.7.6.16, multi-frame functional groups.
"""

import math
import struct
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError
from regflow.core.memory import check_room
from regflow.io.dicom_geometry import SAME_PLACE_MM, stack_grid
from regflow.io.header import Volume, VolumeHeader, check_volume
from regflow.io.itk_files import execute_reader, open_reader

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
_WITHIN_STACK = (0x00200032, 0x00209057)
"""Dimensions that count slices: position, and number within the stack."""

_DAMAGED = (
    *(AttributeError, TypeError, ValueError, LookupError, ArithmeticError, NotImplementedError),
    *(EOFError, OSError, struct.error),
)
"""What pydicom raises for headers that make no sense; it reads an element when it is asked for."""

Key = tuple[tuple[str, str], ...]


class DicomFrame(NamedTuple):
    """One frame of a file.

    Attributes:
        place: its number in the file, from 0.
        key: what tells its volume from others: names and values, both in words.
        dimensions: its indices along the dimensions that do not count slices.
        position: of the first sample's center, LPS millimeters.
        cosines: directions of rows and columns as columns, ``(3, 2)``.
        spacing: between samples along a row and along a column.
        scale: slope and intercept.
    """

    place: int
    key: Key
    dimensions: tuple[int, ...]
    position: NDArray[np.float64]
    cosines: NDArray[np.float64]
    spacing: tuple[float, float]
    scale: tuple[float, float]


class FrameStack(NamedTuple):
    """Frames that make one volume, in order of position, and its name among the others."""

    name: str
    frames: tuple[DicomFrame, ...]


class DicomFrames(NamedTuple):
    """What a multi-frame file holds.

    Attributes:
        stacks: its volumes.
        shape: rows and columns.
        stored: type in which frames are stored.
        first: slope and intercept of the file's first frame.
    """

    stacks: tuple[FrameStack, ...]
    shape: tuple[int, int]
    stored: np.dtype[Any]
    first: tuple[float, float]


def count_frames(path: Path) -> int:
    """Return how many frames a file states, after reading its header to the end.

    pydicom finds what is damaged; GDCM would first take as much memory as a damaged length asks for.

    Raises:
        InputError: no DICOM image, or a damaged one.
    """
    from pydicom import dcmread
    from pydicom.errors import BytesLengthException

    try:
        content = dcmread(path, stop_before_pixels=True)
        # An element is looked at only when it is asked for.
        elements = sum(1 for _ in content.iterall())
        stated = [int(content[name].value) for name in ("Rows", "Columns", "BitsAllocated", "BitsStored")]
        known = elements > 0 and min(stated) > 0
        count = int(content.get("NumberOfFrames") or 1)
    except (*_DAMAGED, BytesLengthException) as error:
        raise InputError(f"{path}: the DICOM header is damaged ({error}); export it again") from error
    if not known:
        raise InputError(f"{path}: holds no DICOM image; give the file or folder of one")
    return count


def read_frames(path: Path) -> DicomFrames | None:
    """Read what a multi-frame file holds, its samples aside; None where it does not place its frames.

    Raises:
        InputError: no DICOM file, a segmentation, or several frames at one place that nothing tells apart.
    """
    from pydicom.errors import BytesLengthException

    try:
        found = _parsed(path)
    except InputError:
        raise
    except (*_DAMAGED, BytesLengthException) as error:
        raise InputError(f"{path}: the DICOM header is damaged ({error}); export it again") from error
    if found is None:
        return None
    frames, shape, stored = found
    return DicomFrames(tuple(_stacks(path, frames)), shape, stored, frames[0].scale)


def read_frames_header(path: Path, found: DicomFrames, volume: Volume) -> VolumeHeader:
    """Return the header of one of a file's volumes, of the first where none is named.

    Raises:
        InputError: its frames make no volume, or there is no such volume.
    """
    names = tuple(stack.name for stack in found.stacks)
    frames = found.stacks[0 if volume is None else check_volume(path, volume, len(names), names)].frames
    first = frames[0]
    normal = np.cross(*first.cosines.T)
    positions = np.array([frame.position for frame in frames])
    plane = first.cosines * first.spacing
    grid = stack_grid(path, (len(frames), *found.shape), positions, plane, normal)
    told = names if len(names) > 1 else ()
    return VolumeHeader(path, "DICOM", grid, _value_type(found, frames), len(names), names=told)


def read_frames_volume(
    path: Path, file: Path, found: DicomFrames, volume: Volume
) -> tuple[NDArray[Any], VolumeHeader]:
    """Read one of a file's volumes, ``(z, y, x)``, and its header.

    Args:
        path: as the user named it, for messages.
        file: the file itself.
        found: what :func:`read_frames` found in it.
        volume: index or name; needed where there are several.

    Raises:
        InputError: as :func:`read_frames_header`, several volumes and none named, or the samples are damaged.
    """
    names = tuple(stack.name for stack in found.stacks)
    index = check_volume(path, volume, len(names), names)
    header, chosen = read_frames_header(path, found, index), found.stacks[index].frames
    count = sum(len(stack.frames) for stack in found.stacks)
    # GDCM's values take 8 bytes at most, and the volume's own no more.
    check_room(16.0 * count * math.prod(found.shape), f"{path}: this file")
    values = execute_reader(open_reader(file), path).reshape(count, *found.shape)[
        [frame.place for frame in chosen]
    ]
    return _rescaled(values, chosen, found.first, header.dtype), header


def _rescaled(
    values: NDArray[Any], frames: Sequence[DicomFrame], first: tuple[float, float], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Return the frames' own values from those that GDCM scaled as it does the file's first frame."""
    if all(frame.scale == first for frame in frames):
        return values.astype(dtype, copy=False)
    slope, intercept = first
    scaled = np.empty(values.shape, dtype)
    for place, (plane, frame) in enumerate(zip(values, frames, strict=True)):
        stored = np.rint((plane.astype(np.float64) - intercept) / slope)
        scaled[place] = stored * frame.scale[0] + frame.scale[1]
    return scaled


def _value_type(found: DicomFrames, frames: Sequence[DicomFrame]) -> np.dtype[Any]:
    """Return the stored type where values are stored as they are, else a float that holds them."""
    if all(frame.scale == (1.0, 0.0) for frame in frames):
        return found.stored
    return np.dtype(np.float32 if found.stored.itemsize <= 2 else np.float64)


def _parsed(path: Path) -> tuple[list[DicomFrame], tuple[int, int], np.dtype[Any]] | None:
    """Return the frames, their rows and columns and stored type; None where frames have no place."""
    from pydicom import dcmread

    content = dcmread(path, stop_before_pixels=True)
    if content.get("SOPClassUID") == SEGMENTATION:
        raise InputError(
            f"{path}: a DICOM segmentation; convert it to a label map in NIfTI, e.g. with dcmqi's "
            "segimage2itkimage"
        )
    shared = _first(content, "SharedFunctionalGroupsSequence")
    groups = content.get("PerFrameFunctionalGroupsSequence") or []
    frames = [_frame(index, group, shared, content) for index, group in enumerate(groups)]
    placed = [frame for frame in frames if frame is not None]
    if not placed or len(placed) < len(frames):
        return None
    signed = "i" if content.get("PixelRepresentation", 0) else "u"
    stored = np.dtype(f"{signed}{int(content.BitsAllocated) // 8}")
    return placed, (int(content.Rows), int(content.Columns)), stored


def _frame(index: int, group: "Dataset", shared: "Dataset | None", content: "Dataset") -> DicomFrame | None:
    """Return a frame's place and kind; None where its position or orientation is not stated."""

    def part(sequence: str) -> "Dataset | None":
        return _first(group, sequence) or (None if shared is None else _first(shared, sequence))

    position, turn = part("PlanePositionSequence"), part("PlaneOrientationSequence")
    measures, scale = part("PixelMeasuresSequence"), part("PixelValueTransformationSequence")
    if position is None or turn is None or measures is None:
        return None
    down, across = (float(value) for value in measures.PixelSpacing)
    cosines = np.reshape([float(value) for value in turn.ImageOrientationPatient], (2, 3)).T
    return DicomFrame(
        index,
        _key(part, cosines),
        _dimensions(part("FrameContentSequence"), content),
        np.reshape([float(value) for value in position.ImagePositionPatient], 3),
        cosines,
        (across, down),
        (1.0, 0.0) if scale is None else (float(scale.RescaleSlope), float(scale.RescaleIntercept)),
    )


def _key(part: Any, cosines: NDArray[np.float64]) -> Key:
    """Return what tells a frame's volume from others, in words."""
    types = [part(f"{name}FrameTypeSequence") for name in ("MRImage", "CTImage", "PET", "XAXRF")]
    stated = next((found for found in types if found is not None), None)
    kind = [] if stated is None else [str(word) for word in stated.get("FrameType", [])]
    entries = (
        ("stack", part("FrameContentSequence"), "StackID"),
        ("time", part("FrameContentSequence"), "TemporalPositionIndex"),
        ("echo", part("MREchoSequence"), "EffectiveEchoTime"),
        ("b", part("MRDiffusionSequence"), "DiffusionBValue"),
        ("part", stated, "ComplexImageComponent"),
    )
    found = [("", " ".join(word for word in kind[2:] if word != "NONE")), ("origin", " ".join(kind[:1]))]
    found += [(name, "" if group is None else str(group.get(tag, ""))) for name, group, tag in entries]
    return (*found, ("plane", " ".join(f"{value:.3f}" for value in (np.round(cosines, 3) + 0.0).T.ravel())))


def _dimensions(content: "Dataset | None", whole: "Dataset") -> tuple[int, ...]:
    """Return a frame's indices along the dimensions that do not count slices."""
    values = [] if content is None else content.get("DimensionIndexValues", [])
    values = [values] if isinstance(values, int) else list(values)
    pointers = [item.get("DimensionIndexPointer") for item in whole.get("DimensionIndexSequence", [])]
    if len(pointers) != len(values):
        return ()
    return tuple(int(v) for v, tag in zip(values, pointers, strict=True) if tag not in _WITHIN_STACK)


def _stacks(path: Path, frames: Sequence[DicomFrame]) -> list[FrameStack]:
    """Return the volumes of a file, in the order in which they begin."""
    groups = [_ordered(group) for group in _grouped(frames)]
    if any(map(_crowded, groups)):
        groups = [
            _ordered(finer)
            for group in groups
            for finer in (_grouped(group, dimensions=True) if _crowded(group) else [group])
        ]
    if any(map(_crowded, groups)):
        raise InputError(
            f"{path}: several frames lie at one place and nothing tells them apart; convert the file to "
            "NIfTI, e.g. with dcm2niix"
        )
    groups.sort(key=lambda group: min(frame.place for frame in group))
    return [FrameStack(name, tuple(group)) for name, group in zip(_names(groups), groups, strict=True)]


def _grouped(frames: Sequence[DicomFrame], *, dimensions: bool = False) -> list[list[DicomFrame]]:
    def kind(frame: DicomFrame) -> Any:
        return frame.key, frame.dimensions if dimensions else ()

    return [list(group) for _, group in groupby(sorted(frames, key=kind), key=kind)]


def _ordered(frames: Sequence[DicomFrame]) -> list[DicomFrame]:
    """Return frames in order of position along their normal."""
    return sorted(frames, key=lambda frame: (_height(frame), frame.place))


def _height(frame: DicomFrame) -> float:
    return float(np.cross(*frame.cosines.T) @ frame.position)


def _crowded(frames: Sequence[DicomFrame]) -> bool:
    heights = np.array([_height(frame) for frame in frames])
    return len(frames) > 1 and float(np.diff(heights).min()) < SAME_PLACE_MM


def _names(groups: Sequence[Sequence[DicomFrame]]) -> list[str]:
    """Return names of volumes: what of their keys differs, or their number."""
    keys = [group[0].key for group in groups]
    differing = [k for k in range(len(keys[0])) if len({key[k] for key in keys}) > 1]
    telling = [k for k in differing if len({key[k] for key in keys if key[k][1]}) == len(keys)]
    used = telling[:1] or differing
    names = [" ".join(" ".join(key[k]).strip() for k in used) for key in keys]
    return names if len(set(names)) == len(names) else [str(number) for number in range(len(names))]


def _first(group: "Dataset", sequence: str) -> "Dataset | None":
    items = group.get(sequence)
    return items[0] if items else None
