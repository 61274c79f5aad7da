"""Images read window by window, and coarser ones made by averaging.

An image's ``data`` is an array, or a :class:`~regflow.core.block_source.BlockSource` of which nothing is
in memory. :func:`read_block` reads a window of either, so a method need not know which it was given.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regflow.core.block_source import Block
from regflow.core.grid import Grid
from regflow.core.image import Image

WHOLE_FACTOR_TOLERANCE = 1e-3
"""Decimation by 2.0005 is decimation by 2: spacings are often rounded in headers."""

_STRIP_SAMPLES = 1 << 22
"""Samples of one channel read at once while decimating."""


def read_block(image: Image, rows: slice, cols: slice) -> Block:
    """Read a window of an image, lazy or in memory.

    Args:
        image: 2-D, with any number of channels.
        rows: start and stop; the window may reach outside the image, even lie there.
        cols: likewise.

    Returns:
        The window's samples; what lies outside the image, outside its mask, or is not finite is
        invalid and 0.

    Raises:
        InputError: the file cannot be decoded there.
    """
    (top, bottom), (left, right) = ((s.start, s.stop) for s in (rows, cols))
    height, width = image.grid.shape
    if 0 <= top < bottom <= height and 0 <= left < right <= width:
        return _read_inside(image, rows, cols)
    inner = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))
    shape = (bottom - top, right - left)
    values = np.zeros((image.data.shape[0], *shape), dtype=np.float32)
    valid = np.zeros(shape, dtype=bool)
    if inner[0].start < inner[0].stop and inner[1].start < inner[1].stop:
        block = _read_inside(image, *inner)
        place = (
            slice(inner[0].start - top, inner[0].stop - top),
            slice(inner[1].start - left, inner[1].stop - left),
        )
        values[:, *place] = block.values
        valid[place] = block.valid
    return Block(values, valid)


def load_block(image: Image) -> Image:
    """Return the image with float32 samples and boolean mask in memory; invalid samples are 0."""
    height, width = image.grid.shape
    block = read_block(image, slice(0, height), slice(0, width))
    return Image(block.values, image.grid, block.valid, modality=image.modality)


@dataclass(frozen=True)
class DecimatedData:
    """Samples of a finer image averaged over the area of each coarser sample.

    A sample is valid when half of its area or more is.

    Attributes:
        image: the finer samples, lazy or in memory.
        factors: finer samples per coarser one along rows and columns, 1 or more, not
            necessarily whole.
    """

    image: Image
    factors: tuple[float, float]

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, rows, columns)``."""
        channels, *size = self.image.data.shape
        return channels, *_decimated_shape(size, self.factors)

    def read(self, rows: slice, cols: slice) -> Block:
        """Read a window that lies within the decimated image."""
        from regflow.core.decimation import average_blocks

        finer = self.image.grid.shape
        across = _span(cols, self.factors[1], finer[1])
        strip = max(1, int(_STRIP_SAMPLES / ((across.stop - across.start) * self.factors[0])))
        parts = []
        for top in range(rows.start, rows.stop, strip):
            some = slice(top, min(top + strip, rows.stop))
            down = _span(some, self.factors[0], finer[0])
            block = read_block(self.image, down, across)
            starts = ((some.start, down.start), (cols.start, across.start))
            shape = (some.stop - some.start, cols.stop - cols.start)
            parts.append(average_blocks(block.values, block.valid, starts, shape, self.factors))
        values, valid = zip(*parts, strict=True)
        return Block(np.concatenate(values, axis=1), np.concatenate(valid, axis=0))


def decimate_data(image: Image, spacing: float) -> Image:
    """Return the lazy image with samples at least ``spacing`` world units apart, by averaging.

    The first sample's corner stays where it is; axes already that coarse stay as they are. Not by the
    Gaussian of :func:`regflow.core.resample.resample_aligned`: a mean over a sample's own area needs nothing
    around it, so any window of a scene has the bits of the whole, and pixels that are not valid are left out.
    A file's overviews are not read for it: what they hold depends on the kernel of whoever made them,
    and no result may depend on whether a file has some.
    """
    across, down = (_factor(spacing / own) for own in image.grid.spacing)
    if across == down == 1:
        return image
    grid = decimate_grid(image.grid, (down, across))
    return Image(DecimatedData(image, (down, across)), grid, modality=image.modality)


def decimate_grid(grid: Grid, factors: tuple[float, float]) -> Grid:
    """Return the grid whose samples cover ``factors`` (rows, columns) samples of a finer one."""
    down, across = factors
    finer = np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2], [0, 0, 1]])
    return Grid(_decimated_shape(grid.shape, factors), grid.affine @ finer, grid.crs)


def _factor(ratio: float) -> float:
    whole = round(ratio)
    if abs(ratio - whole) < WHOLE_FACTOR_TOLERANCE * max(whole, 1):
        ratio = float(whole)
    return max(1.0, ratio)


def _decimated_shape(shape: Sequence[int], factors: tuple[float, float]) -> tuple[int, int]:
    rows, cols = (max(1, int(np.ceil(n / f - 1e-3))) for n, f in zip(shape, factors, strict=True))
    return rows, cols


def _span(coarse: slice, factor: float, size: int) -> slice:
    """Return the finer samples that a run of coarser ones touches."""
    return slice(int(np.floor(coarse.start * factor)), min(int(np.ceil(coarse.stop * factor)), size))


def _read_inside(image: Image, rows: slice, cols: slice) -> Block:
    if image.is_lazy:
        block = image.data.read(rows, cols)
        if image.mask is None:
            return Block(np.asarray(block.values, np.float32), block.valid)
        valid = block.valid & image.mask[rows, cols]
        return Block(np.where(valid, block.values, np.float32(0)), valid)
    values = np.array(image.data[:, rows, cols], dtype=np.float32)
    valid = np.asarray(np.isfinite(values).all(axis=0))
    if image.mask is not None:
        valid &= image.mask[rows, cols]
    if not valid.all():
        values[:, ~valid] = 0
    return Block(values, valid)
