"""Compile the kernels once (``python -m regflow.examples.compile_kernels``): no first run waits for it.

Numba keeps what it compiled beside the sources. The methods run here on a small pair as they run on
a large one, so that every kernel is compiled for the types it will meet.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from regflow.cohort.rasters.samples import FixedScene, RasterSample, Scene
from regflow.config.loading import load_defaults
from regflow.config.presets import merge_settings
from regflow.core.boxes import crop_image
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine
from regflow.datasets.scenes import write_scene
from regflow.methods.context import Pair, RunContext
from regflow.methods.refine import METHODS
from regflow.methods.refine.greedy_options import GREEDY
from regflow.pipeline.change import detect_series
from regflow.pipeline.raster_pair import register_scenes
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
    with TemporaryDirectory() as folder:
        compile_raster_kernels(Path(folder))


def compile_raster_kernels(folder: Path) -> None:
    """Register and compare small scenes of each type of samples, resampled in each way."""
    for dtype, resampling in (("uint8", "nearest"), ("uint16", "cubic"), ("float32", "lanczos")):
        paths = [write_texture(folder / f"{dtype}{shift}.tif", shift, dtype) for shift in (0, 1)]
        fixed, moving = (Scene(str(path)) for path in paths)
        sample = RasterSample("warm", moving, FixedScene("fixed", fixed))
        for choice in (resampling, "bilinear"):
            register_scenes(sample, folder / "aligned", config={"apply": {"resampling": choice}})
    finer = Scene(str(write_texture(folder / "finer.tif", 1, dtype, finer=2)))
    sample = RasterSample("warm", finer, FixedScene("fixed", fixed))
    register_scenes(sample, folder / "aligned", config={"apply": {"resolution": "reference"}})
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
    write_scene(path, {"a": first, "b": second}, grid.resampled(1 / finer), dtype=dtype)
    return path


def compile_volume_kernels() -> None:
    """Run what volumes need, and the greedy engine of both kinds; the moving image lacks a part."""
    from regflow.methods.refine.voxelmorph import predict_pairs

    fixed, moving = (
        make_blob(0.0),
        crop_image(make_blob(1.0), (slice(0, SAMPLES - 4), slice(0, SAMPLES), slice(0, SAMPLES))),
    )
    settings = load_defaults()
    align_volumes(
        fixed, moving, merge_settings(settings["initialize"], {"methods": ["mutual-information"]}), threads=2
    )
    network = METHODS["voxelmorph"]
    asked = network.complete({"refinement": "none"})
    predict_pairs([Pair(fixed, moving, Affine.identity(3))], asked, RunContext(threads=2))
    for metric in GREEDY["metric"]["enum"]:
        greedy = {"metric": metric, "iterations": [2, 2, 2]}
        options = {"methods": ["greedy"], "options": {"greedy": greedy}}
        deform_volumes(
            fixed, moving, Affine.identity(3), merge_settings(settings["refine"], options), threads=2
        )


if __name__ == "__main__":
    compile_kernels()
