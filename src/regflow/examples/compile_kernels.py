"""Compile the kernels once (``python -m regflow.examples.compile_kernels``): no first run waits for it.

Numba keeps what it compiled beside the sources. The methods run here on a small pair as they run on
a large one, so that every kernel is compiled for the types it will meet.
"""

from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from regflow.cohort.rasters.samples import FixedScene, RasterSample, Scene
from regflow.config.loading import load_defaults
from regflow.config.presets import merge_settings
from regflow.core.boxes import crop_image
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine
from regflow.datasets.scenes import write_scene
from regflow.methods import initialize, refine
from regflow.methods.context import Pair, RunContext
from regflow.methods.table import Method
from regflow.pipeline.change import detect_series
from regflow.pipeline.pair import register_pair
from regflow.stages.rasters import detect_options
from regflow.stages.rasters.detect_inputs import DatedScene
from regflow.stages.volumes.initialize import align_volumes
from regflow.stages.volumes.refine import deform_volumes

SAMPLES = 32
"""Along each axis of the small pair."""
PIXELS = 200
"""Along each axis of the small scenes."""


def make_blob(center: float) -> Image:
    """Return a smooth bright spot with a mask, ``(1, 32, 32, 32)`` float32 at 4 mm."""
    axis = (np.arange(SAMPLES) - SAMPLES / 2 - center) / SAMPLES
    radius = axis[:, None, None] ** 2 + 2 * axis[None, :, None] ** 2 + 3 * axis[None, None, :] ** 2
    data = np.exp(-20 * radius, dtype=np.float32)
    grid = Grid.from_geometry(data.shape, (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    return Image(data[None], grid, data > 0.02)


def compile_kernels() -> None:
    """Run every method that has kernels of its own on a small pair of each kind."""
    compile_volume_kernels()
    compile_raster_kernels()


def compile_on_two_cores() -> None:
    """Do as :func:`compile_kernels`, each kind in a process of its own beside the other's."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        for running in [processes.submit(run) for run in (compile_volume_kernels, compile_raster_kernels)]:
            running.result()


def compile_raster_kernels() -> None:
    """Register and compare small scenes of each type of samples, resampled in each way."""
    with TemporaryDirectory() as folder:
        _run_scenes(Path(folder))


def _run_scenes(folder: Path) -> None:
    for dtype, resampling in (("uint8", "nearest"), ("uint16", "cubic"), ("float32", "lanczos")):
        paths = [write_texture(folder / f"{dtype}{shift}.tif", shift, dtype) for shift in (0, 1)]
        fixed, moving = (Scene(str(path)) for path in paths)
        sample = RasterSample("moving", moving, FixedScene("fixed", fixed))
        for choice in (resampling, "bilinear"):
            register_pair("rasters", sample, folder / "aligned", config={"apply": {"resampling": choice}})
    finer = Scene(str(write_texture(folder / "finer.tif", 1, dtype, finer=2)))
    sample = RasterSample("moving", finer, FixedScene("fixed", fixed))
    register_pair("rasters", sample, folder / "aligned", config={"apply": {"resolution": "reference"}})
    dated = [DatedScene(str(path), path.stem) for path in paths]
    detect_series(dated, folder / "change", detect_options.complete_detect_options())


def write_texture(path: Path, shift: int, dtype: str, finer: int = 1) -> Path:
    """Write two bands of random texture, 200 m a side, that lie ``shift`` meters to the left."""
    from rasterio.crs import CRS
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(0).normal(size=(2, PIXELS, 2 * PIXELS))
    bands = 128 + 200 * gaussian_filter(noise, (0, 1.5, 1.5))[:, :, shift : shift + PIXELS]
    first, second = (np.kron(band, np.ones((finer, finer))) for band in bands)
    grid = Grid((PIXELS, PIXELS), np.diag([1.0, -1.0, 1.0]), CRS.from_epsg(32633).to_wkt())
    write_scene(path, {"a": first, "b": second}, grid.with_spacing(1 / finer), dtype=dtype)
    return path


def compile_volume_kernels() -> None:
    """Run the methods whose rows say so, on volumes of which the moving one lacks a part."""
    fixed = make_blob(0.0)
    moving = crop_image(make_blob(1.0), (slice(0, SAMPLES - 4), slice(0, SAMPLES), slice(0, SAMPLES)))
    settings, identity = load_defaults(), Affine.identity(3)
    for name, options in _list_runs(initialize.METHODS):
        align_volumes(fixed, moving, _choose(settings["initialize"], name, options), threads=2)
    for name, options in _list_runs(refine.METHODS):
        method = refine.METHODS[name]
        predict = method.load_predict()
        if predict is None:
            deform_volumes(fixed, moving, identity, _choose(settings["refine"], name, options), threads=2)
        else:
            predict([Pair(fixed, moving, identity)], method.complete(options), RunContext(threads=2), 1)


def _list_runs(table: Mapping[str, Method]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(name, options) for name, method in table.items() for options in method.compile_options]


def _choose(section: Mapping[str, Any], name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stage's settings with one method, and the options given to it."""
    return merge_settings(section, {"methods": [name], "options": {name: options}})


if __name__ == "__main__":
    compile_on_two_cores()
