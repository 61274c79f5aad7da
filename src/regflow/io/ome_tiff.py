"""Mosaics as OME-TIFF: tiled, with levels of half the size each, made from a plain file of samples.

Specification: https://docs.openmicroscopy.org/ome-model/6.3.1/ome-tiff/
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from regflow.core.files import write_whole
from regflow.io.ome_zarr import SMALLEST, OmeProfile, halve_planes
from regflow.io.plain_file import PlainFile

TILE = 512
"""Side of a tile in pixels."""
_LAYOUT: dict[str, Any] = {
    **{"tile": (TILE, TILE), "compression": "zlib", "compressionargs": {"level": 1}},
    "photometric": "minisblack",
}


class OmeTiffWriter:
    """Writes a picture window by window: ``with OmeTiffWriter(path, profile) as tiff: tiff.write(...)``.

    The file appears, whole, when the block ends without an error. Windows may come in any order, each pixel
    once. One thread writes.
    """

    def __init__(self, path: str | Path, profile: OmeProfile, *, threads: int = 1) -> None:
        self.path, self.profile, self.threads = Path(path), profile, threads
        self._stack = ExitStack()
        self._digest = hashlib.blake2b(repr(profile).encode(), digest_size=16)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._part = stack.enter_context(write_whole(self.path))
            self._levels = [stack.enter_context(self._open_level(0, self.profile.shape))]
            self._stack = stack.pop_all()
        return self

    def write(
        self, values: NDArray[Any], rows: slice, cols: slice, valid: NDArray[np.bool_] | None = None
    ) -> None:
        """Write a window of all channels, ``(C, h, w)``; OME-TIFF has no word for what is not valid."""
        self._digest.update(np.ascontiguousarray(values).tobytes())
        self._levels[0].write(values, rows, cols)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack as stack:
            if error is None:
                self._finish(stack)
            else:
                # An error inside leaves nothing behind.
                stack.__exit__(kind, error, trace)

    def _open_level(self, number: int, shape: tuple[int, int, int]) -> PlainFile:
        return PlainFile(self._part.with_name(f"level{number}.bin"), shape, self.profile.dtype)

    def _finish(self, stack: ExitStack) -> None:
        from tifffile import TiffWriter

        while max(self._levels[-1].shape[1:]) > SMALLEST:
            fine = self._levels[-1]
            channels, rows, cols = fine.shape
            shape = (channels, -(-rows // 2), -(-cols // 2))
            coarse = stack.enter_context(self._open_level(len(self._levels), shape))
            _fill_half(fine, coarse)
            self._levels.append(coarse)
        options = {**_LAYOUT, "predictor": True, "maxworkers": self.threads}
        metadata = _describe("CYX", self.profile, self._digest.digest())
        with TiffWriter(self._part, bigtiff=True, ome=True) as tiff:
            for number, level in enumerate(self._levels):
                more: dict[str, Any] = (
                    {"subifds": len(self._levels) - 1, "metadata": metadata}
                    if number == 0
                    else {"subfiletype": 1}
                )
                tiff.write(_list_tiles(level), shape=level.shape, dtype=level.dtype, **options, **more)


def write_ome_volume(
    path: str | Path,
    read: Callable[[int, int], NDArray[Any]],
    depth: int,
    profile: OmeProfile,
    *,
    section_um: float | None = None,
    threads: int = 1,
) -> None:
    """Write a volume as OME-TIFF, plane by plane, whole or not at all.

    Args:
        path: of the file.
        read: returns the plane ``(rows, columns)`` of a channel and a section, both from 0; each is asked for
            twice.
        depth: number of sections.
        profile: of each section.
        section_um: distance of sections in micrometers, None where it is not known.
        threads: most threads to use.
    """
    from tifffile import TiffWriter

    channels, rows, cols = profile.shape
    digest = hashlib.blake2b(repr((profile, depth, section_um)).encode(), digest_size=16)
    for channel in range(channels):
        for section in range(depth):
            digest.update(np.ascontiguousarray(read(channel, section)).tobytes())
    tiles = (
        tile
        for channel in range(channels)
        for section in range(depth)
        for tile in _cut_tiles(read(channel, section))
    )
    with write_whole(path) as part, TiffWriter(part, bigtiff=True, ome=True) as tiff:
        tiff.write(
            tiles,
            shape=(channels, depth, rows, cols),
            dtype=profile.dtype,
            predictor=profile.dtype[0] in "iu",
            maxworkers=threads,
            metadata=_describe("CZYX", profile, digest.digest(), section_um),
            **_LAYOUT,
        )


def _describe(
    axes: str, profile: OmeProfile, digest: bytes, section_um: float | None = None
) -> dict[str, Any]:
    """Return what tifffile makes OME-XML of.

    Neither time nor chance is in it: equal pixels, written in one order, give equal bytes.
    """
    metadata: dict[str, Any] = {"axes": axes, "Name": profile.name, "UUID": str(UUID(bytes=digest))}
    if profile.channels:
        metadata["Channel"] = {"Name": list(profile.channels)}
    sizes = {"X": profile.pixel_size_um, "Y": profile.pixel_size_um, "Z": section_um}
    for axis, size in sizes.items():
        if size:
            metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "µm"}
    return metadata


def _list_tiles(level: PlainFile) -> Iterator[NDArray[Any]]:
    """Yield the tiles of a level, channel by channel, row by row; those at the border are cut."""
    channels, rows, cols = level.shape
    for channel in range(channels):
        for row in range(0, rows, TILE):
            yield from _cut_tiles(level.read(slice(row, min(row + TILE, rows)), slice(0, cols))[channel])


def _cut_tiles(plane: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield the tiles of a plane, row by row; those at the border are cut."""
    rows, cols = plane.shape
    for row in range(0, rows, TILE):
        for col in range(0, cols, TILE):
            yield np.ascontiguousarray(plane[row : row + TILE, col : col + TILE])


def _fill_half(fine: PlainFile, coarse: PlainFile) -> None:
    _, rows, cols = coarse.shape
    for row in range(0, rows, TILE):
        last = min(row + TILE, rows)
        strip = fine.read(slice(2 * row, min(2 * last, fine.shape[1])), slice(0, fine.shape[2]))
        coarse.write(halve_planes(strip), slice(row, last), slice(0, cols))
