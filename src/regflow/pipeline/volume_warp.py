"""Carry a volume, a label map or landmarks through a transform: what is behind ``regflow apply``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regflow.core.grid import Grid
from regflow.core.transform import Transform
from regflow.io.header import Volume
from regflow.io.landmarks import read_landmarks, write_landmarks
from regflow.io.volumes import read_header, read_labels, read_volume, refuse_diffusion_series, write_volume
from regflow.stages.volumes.apply import map_landmarks, warp_companion, warp_image, warp_labels


def warp_landmark_file(source: str | Path, output: str | Path, push: Transform) -> None:
    """Write landmarks moved by a transform.

    Args:
        source: the landmarks.
        output: the file to write.
        push: from the landmarks' points on.

    Raises:
        InputError: a file is not as it should be.
    """
    write_landmarks(output, map_landmarks(read_landmarks(source), push))


def warp_label_file(
    source: str | Path, output: str | Path, grid: Grid, pull: Transform, *, volume: Volume, mode: str
) -> None:
    """Write a label map on another grid.

    Args:
        source: the label map.
        output: the file to write.
        grid: of the result.
        pull: from points of the grid to points of the label map.
        volume: which one of a file of several.
        mode: ``nearest`` or ``smooth``.

    Raises:
        InputError: the file cannot be read, or its values are no labels.
    """
    write_volume(output, warp_labels(*read_labels(source, volume), grid, pull, mode), grid)


def warp_volume_file(
    source: str | Path,
    output: str | Path,
    grid: Grid,
    pull: Transform,
    *,
    volume: Volume,
    how: Mapping[str, Any],
) -> None:
    """Write one volume on another grid, or all of a file of several when none is named.

    Args:
        source: the volume.
        output: the file to write.
        grid: of the result.
        pull: from points of the grid to points of the volume.
        volume: which one of a file of several; None for all.
        how: ``interpolation`` and ``outside`` of the ``apply`` section.

    Raises:
        InputError: the file cannot be read, is a diffusion series, or holds several volumes and the output
            is no NIfTI file.
    """
    if volume is None:
        refuse_diffusion_series(source)
    if volume is None and read_header(source).volumes > 1:
        warp_companion(output, str(source), grid, pull, how)
        return
    warped = warp_image(read_volume(source, volume), grid, pull, **how)
    write_volume(output, warped.channel, grid)
