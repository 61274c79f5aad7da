"""An image: channels-first samples on a grid, with the mask of those that are valid."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.block_source import BlockSource
from regflow.core.grid import Grid


@dataclass(frozen=True, eq=False)
class Image:
    """Samples, their grid, and what is known about them.

    Attributes:
        data: ``(C, *grid.shape)`` samples: an array, or a lazy scene's
            :class:`~regflow.core.block_source.BlockSource`, which has a shape and is read window by window
            (:func:`~regflow.core.blocks.read_block`).
        grid: where the samples lie.
        mask: boolean ``grid.shape`` array of the samples that may steer a registration, or None
            when all may.
        labels: integer ``grid.shape`` array of structures, for methods that can use them.
        modality: ``T1w``, ``CT``, ``B04`` ...; None when unknown.
    """

    data: Any
    grid: Grid
    mask: NDArray[np.bool_] | None = None
    labels: NDArray[np.integer[Any]] | None = None
    modality: str | None = None

    def __post_init__(self) -> None:
        if tuple(self.data.shape[1:]) != self.grid.shape:
            raise ValueError(f"data of shape {self.data.shape} do not lie on a grid of {self.grid.shape}")
        for name in ("mask", "labels"):
            part = getattr(self, name)
            if part is not None and part.shape != self.grid.shape:
                raise ValueError(f"{name} of shape {part.shape} does not lie on a grid of {self.grid.shape}")

    @property
    def is_lazy(self) -> bool:
        """Whether no sample is in memory."""
        return isinstance(self.data, BlockSource)

    @property
    def channel(self) -> Any:
        """The first channel, ``grid.shape``.

        Raises:
            TypeError: the image is lazy.
        """
        if self.is_lazy:
            raise TypeError(
                "the samples of a lazy image are not in memory; read a window by read_block, or all by load"
            )
        return self.data[0]

    def with_data(self, data: Any) -> "Image":
        """Return the same image with other samples; a ``grid.shape`` array becomes one channel."""
        return replace(self, data=data[None] if data.ndim == self.grid.ndim else data)

    def with_mask(self, mask: NDArray[np.bool_] | None) -> "Image":
        """Return the same image with another mask."""
        return replace(self, mask=mask)
