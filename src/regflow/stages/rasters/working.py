"""Working scenes: how to open them, and how they lie on disk between the stages."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from regflow.core.blocks import decimate_data, load_block
from regflow.core.files import read_json, write_json
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.io.scenes import SceneView, open_view
from regflow.methods.representation.data import represent_lazily

VIEW_FILE = "view.json"
OVERVIEW_FILE = "overview.tif"


@dataclass(frozen=True)
class WorkingScene:
    """How to open a scene for registration; nothing of it is in memory.

    Attributes:
        view: the file, its bands, mask and grid, in the fixed scene's CRS.
        spacing: to which it is averaged for the refine stage, in world units; None keeps its pixels.
        coarse_spacing: the same for the initialize stage.
        representation: name of a row of :data:`regflow.methods.representation.METHODS`.
        options: of that method, complete.
    """

    view: SceneView
    spacing: float | None = None
    coarse_spacing: float | None = None
    representation: str = "intensity"
    options: Mapping[str, Any] = field(default_factory=dict)

    def open(self) -> Image:
        """Return the lazy image at working resolution, one float32 channel."""
        return self._opened(self.spacing)

    def load_overview(self) -> Image:
        """Read the image as the initialize stage sees it: ``(1, H, W)`` float32 with its mask."""
        return load_block(self._opened(self.coarse_spacing))

    def match_spacing(self, moving: "WorkingScene") -> "WorkingScene":
        """Return this fixed scene at the spacing of a coarser moving scene."""
        spacing = max((s for s in (self.spacing, moving.spacing) if s is not None), default=None)
        return replace(self, spacing=spacing)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description."""
        content = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**content, "view": self.view.to_dict(), "options": dict(self.options)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "WorkingScene":
        """Rebuild a working scene from :meth:`to_dict`."""
        known = {name: content[name] for name in cls.__dataclass_fields__}
        return cls(**{**known, "view": SceneView.from_dict(content["view"])})

    def _opened(self, spacing: float | None) -> Image:
        image = open_view(self.view)
        if spacing is not None:
            image = decimate_data(image, spacing)
        return represent_lazily(image, self.representation, dict(self.options))


def write_working(folder: str | Path, scene: WorkingScene, overview: Image) -> None:
    """Write ``view.json`` and ``overview.tif`` (the channel and its mask, float32)."""
    folder = Path(folder)
    write_json(folder / VIEW_FILE, {**scene.to_dict(), "overview_grid": overview.grid.to_dict()})
    write_overview(folder / OVERVIEW_FILE, overview)


def read_scene(folder: str | Path) -> WorkingScene:
    """Read how to open a scene from the directory that preprocess wrote."""
    return WorkingScene.from_dict(read_json(Path(folder) / VIEW_FILE))


def read_pair(prepared: tuple[str | Path, str | Path]) -> tuple[Image, Image]:
    """Open the fixed and the moving scene lazily at the pair's working resolution."""
    fixed, moving = (read_scene(folder) for folder in prepared)
    return fixed.match_spacing(moving).open(), moving.open()


def read_overview(folder: str | Path) -> Image:
    """Read a scene as the initialize stage sees it: ``(1, H, W)`` float32 with its mask."""
    from regflow.io.rasters import read_window

    content = read_json(Path(folder) / VIEW_FILE)
    grid = Grid.from_dict(content["overview_grid"])
    rows, cols = (slice(0, count) for count in grid.shape)
    values, _ = read_window(Path(folder) / OVERVIEW_FILE, [1, 2], rows, cols, nodata=None)
    return Image(values[:1], grid, values[1] > 0, modality=content["view"]["name"])


def write_overview(path: str | Path, overview: Image) -> None:
    """Write an in-memory overview as a GeoTIFF that any tool opens."""
    from regflow.io.raster_files import write_raster

    samples = np.asarray(overview.channel, dtype=np.float32)
    mask = np.ones_like(samples) if overview.mask is None else overview.mask.astype(np.float32)
    name = overview.modality or "compared"
    write_raster(path, np.stack([samples, mask]), overview.grid, names=[name, "mask"])
