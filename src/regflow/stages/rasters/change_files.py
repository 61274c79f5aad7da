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
from regflow.core.io.rasters import gdal, geotransform
from regflow.methods.detect.maps import CHANGED, NODATA, UNCHANGED, Measured
from regflow.methods.detect.model import ChangeModel
from regflow.methods.detect.normalization import Normalization
from regflow.methods.detect.regions import Regions, labeled
from regflow.methods.detect.scene_pair import ScenePair

if TYPE_CHECKING:
    from rasterio.io import DatasetWriter

PROBABILITY_QUANTUM = 2.0**-24
"""Unit in which regions add up probabilities."""

Dates = tuple[str | None, str | None]


class ChangeFiles:
    """Writes the maps of a scene pair as they are made, then the regions.

    A context manager; what it needs meanwhile lies in a folder beside the results and is removed.
    """

    def __init__(self, folder: str | Path, pair: ScenePair, model: ChangeModel, dates: Dates) -> None:
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
            unit = {"unit": self._unit}
            self._magnitude = stack.enter_context(
                _cog(self._folder / "magnitude.tif", self._grid, "float32", {**self._tags, **unit})
            )
            self._probability = stack.enter_context(
                _cog(self._folder / "probability.tif", self._grid, "float32", self._tags)
            )
            self._stack = stack.pop_all()
        self._raw = _create(work / "raw.tif", self._grid, "uint8")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._raw.close()
        self._stack.__exit__(kind, error, trace)

    def write(self, part: Measured) -> None:
        """Write the maps of one window."""
        self._windows.append(part.window)
        self._magnitude(part.window, part.magnitude)
        self._probability(part.window, part.probability)
        _put(self._raw, part.window, part.classes)

    def finish(self, regions: Regions, quantum: float, dates: Dates) -> None:
        """Drop the regions that are too small from the classes and outline the others.

        Args:
            regions: of the windows in the order in which they were written.
            quantum: unit in which magnitudes were added up.
            dates: of both scenes, for the polygons' columns.
        """
        from regflow.core.io.vectors import write_polygons
        from regflow.methods.detect.polygons import areas, outlines

        numbers, kept = self._work / "numbers.tif", self._work / "kept.tif"
        self._number(regions, numbers, kept)
        count = len(regions.pixels)
        polygons = outlines(numbers, kept, count, self._grid)
        name, area = areas(polygons, regions.pixels, self._grid)
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
        from rasterio import open

        self._raw.close()
        with (
            open(self._work / "raw.tif") as raw,
            _create(numbers, self._grid, "int32") as number_file,
            _create(kept, self._grid, "uint8") as kept_file,
            _cog(self._folder / "change.tif", self._grid, "uint8", self._tags) as change,
        ):
            for window, table in zip(self._windows, regions.tables, strict=True):
                classes = raw.read(1, window=_window(window))
                found, _ = labeled(classes == CHANGED)
                number = table[found].astype(np.int32)
                classes[(classes == CHANGED) & (number == 0)] = UNCHANGED
                _put(number_file, window, number)
                _put(kept_file, window, (number > 0).astype(np.uint8))
                change(window, classes)


@contextmanager
def open_normalized(folder: Path, pair: ScenePair) -> Iterator[Callable[[Window, NDArray[np.float32]], None]]:
    """Open ``normalized.tif`` for writing window by window."""
    bands = pair.after.data.shape[0]
    with _cog(folder / "normalized.tif", pair.after.grid, "float32", {}, bands) as write:
        yield write


def normalized_window(
    window: Window, pair: ScenePair, lines: Normalization
) -> tuple[Window, NDArray[np.float32]]:
    """Return a window of the second date in the first date's radiometry; NaN where invalid."""
    from regflow.core.scene import read_block

    block = read_block(pair.after, *window)
    values = lines.apply(block.values)
    values[:, ~block.valid] = np.nan
    return window, values


@contextmanager
def _cog(
    path: Path, grid: Grid, dtype: str, tags: dict[str, str], bands: int = 1
) -> Iterator[Callable[[Window, NDArray[Any]], None]]:
    """Give a function that writes windows; a cloud-optimized GeoTIFF appears when the block ends."""
    from rasterio.shutil import copy

    from regflow.core.files import whole

    gdal()
    with whole(path) as part:
        draft = part.with_name("draft.tif")
        with _create(draft, grid, dtype, bands) as target:
            target.nodata = np.nan if dtype == "float32" else NODATA
            target.update_tags(**tags)
            yield lambda window, values: _put(target, window, values)
        options = {"compress": "deflate", "predictor": "yes", "num_threads": "1", "bigtiff": "if_safer"}
        resampling = "average" if dtype == "float32" else "mode"
        copy(draft, part, driver="COG", **options, overview_resampling=resampling)


def _create(path: Path, grid: Grid, dtype: str, bands: int = 1) -> "DatasetWriter":
    rows, cols = grid.shape
    return gdal().open(
        path,
        "w",
        driver="GTiff",
        width=cols,
        height=rows,
        count=bands,
        dtype=dtype,
        crs=grid.crs,
        transform=geotransform(grid),
        tiled=True,
        blockxsize=256,
        blockysize=256,
        compress="deflate",
        zlevel=1,
        bigtiff="if_safer",
    )


def _put(target: "DatasetWriter", window: Window, values: NDArray[Any]) -> None:
    target.write(values if values.ndim == 3 else values[None], window=_window(window))


def _window(window: Window) -> Any:
    from rasterio.windows import Window as FileWindow

    return FileWindow.from_slices(*window)


def _tags(dates: Dates) -> dict[str, str]:
    return {f"DATE_{name}": date for name, date in zip(("BEFORE", "AFTER"), dates, strict=True) if date}
