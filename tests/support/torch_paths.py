"""What computes with torch on a CPU, small: ``torch_paths.py`` names what differs on 1, 2 and 4 threads.

Arrays are larger than those (32,768 samples) that torch never divides among threads.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import training_runs
from numpy.typing import NDArray

from regflow.core.devices import map_over_threads, open_torch_session
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine, DisplacementField
from regflow.methods.context import Pair, RunContext
from regflow.methods.refine import METHODS
from regflow.methods.refine.instance_optimization import instance_optimization
from regflow.methods.refine.voxelmorph import predict_pairs
from regflow.methods.refine.weights import NetworkDescription, build_network, save_weights
from regflow.training.sources import build_mixture

THREADS = (1, 2, 4)
SHAPE = (34, 38, 42)
NETWORK = NetworkDescription(
    **{"ndim": 3, "channels": (16, 16, 16, 16), "unet_out_channels": 16, "final_channels": (16,)},
    **{"spacing": 1.0, "intensity": {"method": "percentile"}, "masked": False, "half_resolution": False},
    **{"fold": 2, "search": 1, "fine_search": 1},
)
Bytes = tuple[bytes, ...]
Work = Callable[[int], Bytes]
"""Computes on a number of threads."""


def differing(work: Work) -> bool:
    """Tell whether the bytes of ``work`` depend on its threads, or on those that torch has outside."""
    before = torch.get_num_threads()
    found = set()
    try:
        for threads in THREADS:
            torch.set_num_threads(threads)
            found.add(work(threads))
    finally:
        torch.set_num_threads(before)
    return len(found) > 1


def operations(threads: int) -> Bytes:
    """Operations whose last bits change with torch's own threads on one processor or another."""
    rng = np.random.default_rng(1)
    image, weight = (
        torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
        for shape in ((2, 8, 34, 38, 42), (8, 8, 3, 3, 3))
    )

    def work(part: torch.Tensor) -> list[torch.Tensor]:
        filters = weight.clone().requires_grad_()
        found = torch.nn.functional.conv3d(part, filters, padding=1)
        (gradient,) = torch.autograd.grad(found.square().mean(), filters)
        wide = torch.nn.functional.interpolate(part[:, :, 0], (131, 190), mode="bilinear")
        return [found, gradient, part.sum(), part.sum(dim=1), part.sigmoid(), part.softmax(dim=1), wide]

    with open_torch_session(threads, seed=0):
        return _bytes(*(tensor for parts in map_over_threads(work, image.split(1)) for tensor in parts))


def drawing(threads: int) -> Bytes:
    """Pairs in two and three dimensions, drawn where torch has threads of its own."""
    batches = [
        build_mixture(training_runs.tiny(**given), seed=5).batch([0, 1])
        for given in ({"side": 256}, {"ndim": 3, "side": 48})
    ]
    return _bytes(*(getattr(each, name) for each in batches for name in ("fixed", "moving", "truth")))


def training(threads: int) -> Bytes:
    """A network after two steps of three pairs each, and what was measured."""
    settings = training_runs.tiny(
        **{"ndim": 3, "side": 32, "channels": [8, 8, 8, 8], "steps": 2, "batch": 3, "validation_pairs": 2},
        **{"weights": {"similarity": 0.3}},
    )
    with tempfile.TemporaryDirectory() as folder:
        trained = training_runs.run(settings, Path(folder), threads=threads)
    assert trained is not None
    figures = np.array([row[name] for row in trained.history for name in ("epe", "loss")])
    return _bytes(*trained.network.state_dict().values(), figures)


def asking(threads: int) -> Bytes:
    """What an untrained network answers, in both orders."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "untrained.safetensors"
        torch.manual_seed(2)
        save_weights(path, build_network(NETWORK), NETWORK)
        options = METHODS["voxelmorph"].complete({"device": "cpu", "weights": str(path)})
        request = Pair(*_pair(), Affine.identity(3))
        found = predict_pairs([request], options, RunContext(threads))[0]
    (field, _) = found.transform.parts
    assert isinstance(field, DisplacementField)
    return _bytes(field.vectors, np.array(found.gain))


def optimizing(threads: int) -> Bytes:
    """What two steps find by every dissimilarity of images."""
    found: list[Any] = []
    for loss in ("lncc", "mi", "mind", "mse"):
        given = {"shrink": [1], "iterations": [2], "loss": loss, "device": "cpu"}
        options = METHODS["instance-optimization"].complete(given)
        found.append(instance_optimization(*_pair(), Affine.identity(3), options, RunContext(threads)))
    return _bytes(*(each.parts[0].vectors for each in found))


def stepping(threads: int) -> Bytes:
    """The greedy scheme in torch, as where a GPU is asked for and there is none."""
    from regflow.methods.refine.greedy_pyramid import build_level, prepare_pyramid
    from regflow.methods.refine.greedy_torch import open_torch_solver

    one_level = {"shrink": [1], "iterations": [4], "radius": [2], "update_sigma": [2.0], "field_sigma": [0.5]}
    options = METHODS["greedy"].complete({**one_level, "metric": "lncc"})
    fixed, moving = (image.channel for image in _pair())
    level = build_level(prepare_pyramid(fixed, moving, None, None, np.ones(3), options), 0, options)
    with open_torch_solver("cpu", threads, 0) as solve:
        return _bytes(solve(level, np.zeros((3, *level.weights.shape), np.float32)).field)


def _pair() -> tuple[Image, Image]:
    """Smooth noise, and the same moved."""
    from scipy.ndimage import gaussian_filter, shift

    fixed = gaussian_filter(np.random.default_rng(4).random(SHAPE, dtype=np.float32), 2)
    moving = shift(fixed, (1, -1, 1), order=1, mode="nearest")
    grid = Grid(SHAPE, np.eye(4))
    return Image(fixed[None], grid), Image(moving[None], grid)


def _bytes(*parts: torch.Tensor | NDArray[Any]) -> Bytes:
    arrays = (part.detach().numpy() if isinstance(part, torch.Tensor) else part for part in parts)
    return tuple(np.ascontiguousarray(array).tobytes() for array in arrays)


PATHS: dict[str, Work] = {
    work.__name__: work for work in (operations, drawing, training, asking, optimizing, stepping)
}


if __name__ == "__main__":
    training_runs.draw_few_shapes()
    print(*(name for name, work in PATHS.items() if differing(work)))
