"""What a person sees of a training: a progress bar or lines, and TensorBoard's curves and pictures."""

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter
    from tqdm import tqdm

log = logging.getLogger(__name__)

EVENTS = "tensorboard"
SCALARS_EVERY = 20
"""Steps between two points of a curve."""


@dataclass(eq=False)
class TrainingBoard:
    """Where a training's figures go; nowhere in all processes but the first.

    Attributes:
        writer: of TensorBoard events.
        bar: progress bar in a terminal.
    """

    writer: "SummaryWriter | None" = None
    bar: "tqdm[Any] | None" = None

    @classmethod
    @contextmanager
    def open(cls, folder: Path, first: bool) -> Iterator["TrainingBoard"]:
        """Open the board of a training's folder; it is flushed and closed in the end."""
        if not first:
            yield cls()
            return
        from tensorboardX import SummaryWriter
        from tqdm import tqdm

        bar = tqdm(desc="train", unit="step", disable=not sys.stderr.isatty())
        writer = SummaryWriter(str(folder / EVENTS))
        try:
            yield cls(writer, bar)
        finally:
            writer.close()
            bar.close()

    def record_step(self, step: int, last: int, terms: Mapping[str, float]) -> None:
        """Note a step's terms of the objective."""
        if self.writer is None or self.bar is None:
            return
        self.bar.total, self.bar.n = last, step
        self.bar.set_postfix(loss=f"{terms['loss']:.3f}")
        if step % SCALARS_EVERY == 0:
            for name, value in terms.items():
                self.writer.add_scalar(f"train/{name}", value, step)

    def record_validation(self, figures: Mapping[str, float], images: Sequence[NDArray[np.float32]]) -> None:
        """Note a validation's figures, and show its first example.

        Args:
            figures: ``step`` and what was measured.
            images: of one shape, 0 to 1; they may be none.
        """
        if self.writer is None:
            return
        step = int(figures["step"])
        for name, value in figures.items():
            if name != "step":
                self.writer.add_scalar(f"validation/{name}", value, step)
        if images:
            self.writer.add_image("example", make_panel(images), step, dataformats="HW")
        shown = ", ".join(f"{name} {value:.4f}" for name, value in figures.items() if name != "step")
        log.info("step %d: %s", step, shown)


def make_panel(images: Sequence[NDArray[np.float32]]) -> NDArray[np.uint8]:
    """Put images of one shape side by side; of volumes, the middle slice."""
    flat = [image[image.shape[0] // 2] if image.ndim == 3 else image for image in images]
    return np.rint(np.clip(np.hstack(flat), 0, 1) * 255).astype(np.uint8)
