"""Which bands of a raster tell transparency: some that say so hold measurements."""

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

ALONG = 4
"""Windows along each side of a raster that are looked at."""
WINDOW_PX = 64
LEAST_EXTREME = 0.5
"""Share of an alpha band's samples that are wholly clear or wholly opaque, at least: feathered seams are
narrow, while a near-infrared band that a converter marked as alpha is neither nearly anywhere."""


def find_alpha_bands(dataset: "DatasetReader") -> tuple[int, ...]:
    """Return the numbers of the bands that tell transparency, by their mark and by what they hold."""
    from rasterio.enums import ColorInterp

    marked = [n for n, color in enumerate(dataset.colorinterp, start=1) if color == ColorInterp.alpha]
    return tuple(number for number in marked if _is_transparency(dataset, number))


def _is_transparency(dataset: "DatasetReader", number: int) -> bool:
    from regflow.core.files import stamp_file

    return _looked_at(dataset.name, stamp_file(dataset.name), number)


@lru_cache(maxsize=256)
def _looked_at(name: str, stamp: tuple[int, int, int] | None, number: int) -> bool:
    """Tell whether the samples of a band are mostly 0 or the largest; ``stamp`` tells files of one name."""
    from rasterio.errors import RasterioIOError
    from rasterio.windows import Window

    from regflow.io.open_rasters import open_raster

    dataset = open_raster(name)
    rows, cols = (
        np.linspace(0, max(size - WINDOW_PX, 0), ALONG).astype(int)
        for size in (dataset.height, dataset.width)
    )
    try:
        looks = [
            dataset.read(number, window=Window(col, row, WINDOW_PX, WINDOW_PX)).ravel()
            for row in np.unique(rows)
            for col in np.unique(cols)
        ]
    except RasterioIOError:
        # Whoever reads the samples is told that the file is damaged.
        return True
    values = np.concatenate(looks)
    extreme = (values == 0) | (values == values.max())
    return bool(extreme.mean() >= LEAST_EXTREME)
