"""The files of change detection, written window by window."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.chunks import Window
from regflow.core.grid import Grid
from regflow.io.cog import CogProfile, CogWriter, describe_gray_bands
from regflow.io.open_rasters import ignore_missing_georeference, import_gdal
from regflow.io.plain_file import PlainFile
from regflow.io.rasters import compute_geotransform
from regflow.methods.detect.maps import CHANGED, EXPLAINED, NODATA, UNCHANGED, ChangeMaps
from regflow.methods.detect.model import ChangeModel
from regflow.methods.detect.normalization import Normalization
from regflow.methods.detect.regions import Regions, label_regions
from regflow.methods.detect.scene_pair import DatedScenePair
from regflow.methods.detect.tiles import TILE

if TYPE_CHECKING:
    from rasterio.io import DatasetWriter

PROBABILITY_QUANTUM = 2.0**-24
"""Unit in which regions add up probabilities."""

COLORS = {
    UNCHANGED: (236, 236, 236, 255),
    CHANGED: (214, 40, 57, 255),
    EXPLAINED: (240, 170, 60, 255),
    NODATA: (0, 0, 0, 0),
}
_MEANINGS = {
    "CLASS_0": "unchanged",
    "CLASS_1": "changed",
    "CLASS_2": "explained by registration error",
    "CLASS_255": "no data",
}

Dates = tuple[str | None, str | None]


class ChangeFiles:
    """Writes the maps of a scene pair as they are made, then the regions.

    A context manager; what it needs meanwhile lies in a folder beside the results and is removed.
    """

    def __init__(self, folder: str | Path, pair: DatedScenePair, model: ChangeModel, dates: Dates) -> None:
        self._folder = Path(folder)
        self._grid = pair.before.grid
        self._tags = _tags(dates)
        self._unit = model.unit
        self._windows: list[Window] = []
        self._stack = ExitStack()

    def __enter__(self) -> "ChangeFiles":
        with ExitStack() as stack:
            work = Path(tempfile.mkdtemp(prefix=".work-", dir=self._folder))
            stack.callback(shutil.rmtree, work, ignore_errors=True)
            self._work = work
            tags = {**self._tags, "unit": self._unit}
            magnitude = _profile(self._grid, "magnitude", tags)
            probability = _profile(self._grid, "no-change probability", self._tags)
            self._magnitude = stack.enter_context(CogWriter(self._folder / "magnitude.tif", magnitude))
            self._probability = stack.enter_context(CogWriter(self._folder / "probability.tif", probability))
            rows, cols = self._grid.shape
            self._raw = stack.enter_context(PlainFile(work / "raw.bin", (1, rows, cols), "uint8"))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, part: ChangeMaps) -> None:
        """Write the maps of one window."""
        self._windows.append(part.window)
        self._magnitude.write(part.magnitude[None], *part.window)
        self._probability.write(part.probability[None], *part.window)
        self._raw.write(part.classes[None], *part.window)

    def finish(self, regions: Regions, quantum: float, dates: Dates) -> None:
        """Drop the regions that are too small from the classes and outline the others.

        Args:
            regions: of the windows in the order in which they were written.
            quantum: unit in which magnitudes were added up.
            dates: of both scenes, for the polygons' columns.
        """
        from regflow.io.vectors import write_polygons
        from regflow.methods.detect.polygons import measure_areas, trace_outlines

        numbers, kept = self._work / "numbers.tif", self._work / "kept.tif"
        self._number(regions, numbers, kept)
        count = len(regions.pixels)
        polygons = trace_outlines(numbers, kept, count)
        name, area = measure_areas(polygons, regions.pixels, self._grid)
        columns = {
            "id": np.arange(1, count + 1),
            "pixels": regions.pixels,
            name: area,
            "mean_magnitude": regions.sums[0] * quantum / regions.pixels,
            "no_change_probability": regions.sums[1] * PROBABILITY_QUANTUM / regions.pixels,
            "date_before": np.full(count, dates[0] or "", dtype=object),
            "date_after": np.full(count, dates[1] or "", dtype=object),
        }
        write_polygons(self._folder / "changes.gpkg", columns, polygons, self._grid.crs, layer="changes")

    def _number(self, regions: Regions, numbers: Path, kept: Path) -> None:
        with (
            _create(numbers, self._grid, "int32") as number_file,
            _create(kept, self._grid, "uint8") as kept_file,
            CogWriter(self._folder / "change.tif", _classes(self._grid, self._tags)) as change,
        ):
            for window, table in zip(self._windows, regions.tables, strict=True):
                classes = self._raw.read(*window)[0]
                found, _ = label_regions(classes == CHANGED)
                number = table[found].astype(np.int32)
                classes[(classes == CHANGED) & (number == 0)] = UNCHANGED
                _put(number_file, window, number)
                _put(kept_file, window, (number > 0).astype(np.uint8))
                change.write(classes[None], *window)


@contextmanager
def open_normalized(
    folder: Path, pair: DatedScenePair
) -> Iterator[Callable[[Window, NDArray[np.float32]], None]]:
    """Open ``normalized.tif`` for writing window by window."""
    names = (f"band {n}" for n in range(1, pair.after.data.shape[0] + 1))
    profile = CogProfile(pair.after.grid, "float32", describe_gray_bands(*names), float("nan"))
    with CogWriter(folder / "normalized.tif", profile) as cog:
        yield lambda window, values: cog.write(values, *window)


def normalize_window(
    window: Window, pair: DatedScenePair, lines: Normalization
) -> tuple[Window, NDArray[np.float32]]:
    """Return a window of the second date in the first date's radiometry; NaN where invalid."""
    from regflow.core.blocks import read_block

    block = read_block(pair.after, *window)
    values = lines.apply(block.values)
    values[:, ~block.valid] = np.nan
    return window, values


def _profile(grid: Grid, name: str, tags: dict[str, str]) -> CogProfile:
    return CogProfile(grid, "float32", describe_gray_bands(name), float("nan"), tags)


def _classes(grid: Grid, tags: dict[str, str]) -> CogProfile:
    bands = describe_gray_bands("change", dtype="uint8")
    return CogProfile(grid, "uint8", bands, NODATA, {**tags, **_MEANINGS}, COLORS, classes=True)


def _create(path: Path, grid: Grid, dtype: str) -> "DatasetWriter":
    """Open a file of one band for whole tiles."""
    rasterio = import_gdal()
    rows, cols = grid.shape
    layout = {"tiled": True, "blockxsize": TILE, "blockysize": TILE, "bigtiff": "if_safer"}
    size = {"count": 1, "height": rows, "width": cols, "dtype": dtype}
    place = {"crs": grid.crs, "transform": compute_geotransform(grid), "compress": "deflate", "zlevel": 1}
    with ignore_missing_georeference():
        return rasterio.open(path, "w", driver="GTiff", **layout, **size, **place)


def _put(target: "DatasetWriter", window: Window, values: NDArray[Any]) -> None:
    from rasterio.windows import Window as FileWindow

    target.write(values, 1, window=FileWindow.from_slices(*window))


def _tags(dates: Dates) -> dict[str, str]:
    return {f"DATE_{name}": date for name, date in zip(("BEFORE", "AFTER"), dates, strict=True) if date}
