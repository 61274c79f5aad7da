"""Compile the kernels once (``python -m regflow.examples.compile_kernels``): no first run waits for it.

Numba keeps what it compiled beside the sources. The methods run here on a small pair as they run on
a large one, so that every kernel is compiled for the types it will meet.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
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
    """Run every method that has kernels of its own on a small pair."""
    for compile_some in list_tasks():
        compile_some()


def compile_on_two_cores() -> None:
    """Do as :func:`compile_kernels` in two processes that share the tasks out as they get on."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        for running in [processes.submit(compile_some) for compile_some in list_tasks()]:
            running.result()


def list_tasks() -> list[Callable[[], None]]:
    """Return what compiles the kernels of scenes, and of each of the methods for volumes, longest first."""
    refinements = [partial(compile_refinement, *run) for run in _list_runs(refine.METHODS)]
    starts = [partial(compile_start, *run) for run in _list_runs(initialize.METHODS)]
    return [compile_raster_kernels, *refinements, *starts]


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


def compile_start(name: str, options: Mapping[str, Any]) -> None:
    """Run a method of ``initialize`` on volumes of which the moving one lacks a part."""
    align_volumes(*make_volumes(), _choose(load_defaults()["initialize"], name, options), threads=2)


def compile_refinement(name: str, options: Mapping[str, Any]) -> None:
    """Run a method of ``refine`` on the same, or let it predict."""
    fixed, moving = make_volumes()
    identity = Affine.identity(3)
    method = refine.METHODS[name]
    predict = method.load_predict()
    if predict is None:
        settings = _choose(load_defaults()["refine"], name, options)
        deform_volumes(fixed, moving, identity, settings, threads=2)
    else:
        predict([Pair(fixed, moving, identity)], method.complete(options), RunContext(threads=2), 1)


def make_volumes() -> tuple[Image, Image]:
    """Return two bright spots, of which the second's image lacks a part."""
    seen = (slice(0, SAMPLES - 4), slice(0, SAMPLES), slice(0, SAMPLES))
    return make_blob(0.0), crop_image(make_blob(1.0), seen)


def _list_runs(table: Mapping[str, Method]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(name, options) for name, method in table.items() for options in method.compile_options]


def _choose(section: Mapping[str, Any], name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stage's settings with one method, and the options given to it."""
    return merge_settings(section, {"methods": [name], "options": {name: options}})


if __name__ == "__main__":
    compile_on_two_cores()
