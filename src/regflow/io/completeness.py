"""Whether a raster file is all there, told from its table of contents without decoding a pixel."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from regflow.io.open_rasters import open_raster

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

_CODESTREAM_BOX = b"jp2c"
_CODESTREAM_END = b"\xff\xd9"


def count_missing_bytes(path: str | Path) -> int | None:
    """Return how many bytes a local file lacks of what its header promises.

    Returns:
        0 for a whole file, None for a format that keeps no table to tell from. A JPEG 2000 stream
        whose length is not stated lacks 1 byte or more when its end mark is missing.

    Raises:
        InputError: the file cannot be opened.
    """
    dataset = open_raster(path)
    size = Path(path).stat().st_size
    if dataset.driver in ("GTiff", "COG"):
        return max(0, max(_block_ends(dataset), default=0) - size)
    if dataset.driver.startswith("JP2"):
        with Path(path).open("rb") as stream:
            return _missing_of_jp2(stream, size)
    return None


def _block_ends(dataset: "DatasetReader") -> Iterator[int]:
    """Yield where each stored block of a GeoTIFF ends in the file; sparse blocks are not stored."""
    bands = dataset.indexes if dataset.interleaving.name == "band" else dataset.indexes[:1]
    for band in bands:
        height, width = dataset.block_shapes[band - 1]
        for row in range(-(-dataset.height // height)):
            for column in range(-(-dataset.width // width)):
                place = f"{column}_{row}"
                start, length = (
                    dataset.get_tag_item(f"BLOCK_{what}_{place}", "TIFF", bidx=band)
                    for what in ("OFFSET", "SIZE")
                )
                if start is not None and length is not None:
                    yield int(start) + int(length)


def _missing_of_jp2(stream: BinaryIO, size: int) -> int:
    """Walk through the boxes of a JP2 file up to its codestream."""
    at = 0
    while at + 8 <= size:
        stream.seek(at)
        length, kind = struct.unpack(">I4s", stream.read(8))
        if length == 1:
            (length,) = struct.unpack(">Q", stream.read(8).ljust(8, b"\0"))
        if length == 0:
            stream.seek(-len(_CODESTREAM_END), 2)
            return int(kind == _CODESTREAM_BOX and stream.read() != _CODESTREAM_END)
        at += max(length, 8)
    return max(0, at - size)
