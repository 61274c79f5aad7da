"""A scene's samples in another representation, computed window by window."""

from dataclasses import dataclass, replace
from typing import Any

from regflow.core.block_source import Block, BlockSource
from regflow.core.image import Image
from regflow.methods.representation import load_representation


@dataclass(frozen=True)
class RepresentedData:
    """Samples of another source in the representation of a method.

    A window is read with the method's margin, as far as the source reaches, so it equals the same
    window of the whole.

    Attributes:
        source: the samples as they are.
        method: name of a row of :data:`regflow.methods.representation.METHODS` with a function.
        options: of the method, complete, as pairs.
    """

    source: BlockSource
    method: str
    options: tuple[tuple[str, Any], ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, rows, columns)``."""
        return self.source.shape

    def read(self, rows: slice, cols: slice) -> Block:
        """Read a window that lies within the scene."""
        represent, margin = load_representation(self.method)
        options = dict(self.options)
        reach = margin(options)
        wide = [
            slice(max(0, part.start - reach), min(size, part.stop + reach))
            for part, size in zip((rows, cols), self.shape[1:], strict=True)
        ]
        block = self.source.read(*wide)
        values = represent(block.values, block.valid, options)
        inner = tuple(
            slice(part.start - outer.start, part.stop - outer.start)
            for part, outer in zip((rows, cols), wide, strict=True)
        )
        valid = block.valid[inner]
        kept = values[:, *inner].copy()
        kept[:, ~valid] = 0
        return Block(kept, valid)


def represent_lazily(image: Image, method: str, options: dict[str, Any]) -> Image:
    """Return a lazy image in a representation; ``intensity`` leaves it as it is."""
    if method == "intensity":
        return image
    return replace(image, data=RepresentedData(image.data, method, tuple(sorted(options.items()))))
