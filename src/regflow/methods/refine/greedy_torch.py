"""One level of the greedy scheme in torch, for a GPU: the steps of the numba kernels, to rounding."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from regflow.core.devices import choose_torch_device, open_torch_session
from regflow.methods.refine.greedy_cpu import (
    compute_edge_factors,
    compute_local_statistics,
    compute_mean_curvature,
)
from regflow.methods.refine.greedy_level import (
    VARIANCE_FLOOR,
    WHOLLY,
    GreedyLevel,
    LevelSolution,
    StepControl,
)

TorchForce = Callable[[Tensor, Tensor], tuple[Tensor, float]]


@contextmanager
def open_torch_solver(
    device: str, threads: int, seed: int
) -> Iterator[Callable[[GreedyLevel, NDArray[np.float32]], LevelSolution]]:
    """Yield a function that solves levels on the device that :func:`choose_torch_device` finds."""
    chosen = choose_torch_device(device)
    with open_torch_session(threads, seed):
        yield lambda level, field: solve_torch_level(level, field, chosen)


def solve_torch_level(level: GreedyLevel, field: NDArray[np.float32], device: torch.device) -> LevelSolution:
    """Run a level's iterations from a voxel field ``(3, Z, Y, X)``; see :func:`greedy_cpu.solve_level`."""

    def tensor(values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(device)

    with torch.inference_mode():
        current = tensor(field)
        force = (_correlation if level.correlation else _difference)(level, tensor)
        precision = compute_local_statistics(level).precision if level.correlation else None
        curvature, reach = compute_mean_curvature(level, precision), tensor(compute_edge_factors(level))
        weights = tensor(level.weights)
        valid = None if level.valid is None else tensor(level.valid)
        lengths = tensor(level.spacing).reshape(3, 1, 1, 1)
        update_taps = [tensor(taps) for taps in level.make_gaussians(level.update_sigma)]
        progress, travel = StepControl(level.tolerance), torch.zeros_like(current)
        for _ in range(level.iterations):
            seen = weights
            if valid is not None:
                seen = weights * (_sample(valid[None], current)[0] > WHOLLY)
            update, similarity = force(current, seen)
            if progress.check_convergence(similarity / float(weights.sum())):
                break
            update = _smooth(update, update_taps) * reach
            norm = float((update * lengths).square().sum(0).max().sqrt())
            scale = progress.step_scale * level.compute_factor(norm, curvature)
            travel = progress.step_scale * level.momentum * travel + scale * update
            field_taps = [tensor(taps) for taps in level.make_relaxation_kernels(scale * curvature)]
            current = _smooth(travel + _sample(current, travel), field_taps)
        return LevelSolution(current.cpu().numpy(), progress.history)


def _correlation(level: GreedyLevel, tensor: Callable[[NDArray[Any]], Tensor]) -> TorchForce:
    fixed, metric = tensor(level.fixed[:1]), tensor(level.metric)
    guide = _difference(level, tensor, 1) if len(level.fixed) > 1 else None
    moving = tensor(level.moving[:1])
    mean = _box(fixed, level.radii)
    variance = (_box(fixed * fixed, level.radii) - mean * mean).clamp_min(0) + VARIANCE_FLOOR

    def force(field: Tensor, weights: Tensor) -> tuple[Tensor, float]:
        moved = _sample(moving, field)
        average = _box(moved, level.radii)
        spread = _box(moved * moved, level.radii) - average * average + VARIANCE_FLOOR
        covariance = _box(moved * fixed, level.radii) - average * mean
        slope = covariance / spread
        pull = weights * slope * (fixed - mean - slope * (moved - average)) / variance
        similarity = (weights * slope * covariance / variance).sum()
        push = pull[0] * _gradient(moved[0], metric)
        if guide is None:
            return push, float(similarity)
        beside, less = guide(field, weights)
        return push + beside, float(similarity) + less

    return force


def _difference(level: GreedyLevel, tensor: Callable[[NDArray[Any]], Tensor], first: int = 0) -> TorchForce:
    fixed, moving, metric = tensor(level.fixed[first:]), tensor(level.moving[first:]), tensor(level.metric)

    def force(field: Tensor, weights: Tensor) -> tuple[Tensor, float]:
        moved = _sample(moving, field)
        difference = fixed - moved
        pulls = [
            weights * d * _gradient(channel, metric) for d, channel in zip(difference, moved, strict=True)
        ]
        return torch.stack(pulls).sum(0), -float((weights * difference.square()).sum())

    return force


def _sample(channels: Tensor, field: Tensor) -> Tensor:
    """Sample ``(C, Z, Y, X)`` linearly at ``i + field(i)``; borders extend."""
    shape = channels.shape[1:]
    axes = [torch.arange(n, dtype=field.dtype, device=field.device) for n in shape]
    identity = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    scale = torch.tensor([2.0 / max(n - 1, 1) for n in shape], dtype=field.dtype, device=field.device)
    places = (identity + field) * scale[:, None, None, None] - 1
    grid = places.flip(0).movedim(0, -1)[None]
    return F.grid_sample(channels[None], grid, mode="bilinear", padding_mode="border", align_corners=True)[0]


def _box(channels: Tensor, radii: Sequence[int]) -> Tensor:
    """Return means over windows, cut at the image's borders."""
    radii = [min(r, n // 2) if n > 1 else 0 for r, n in zip(radii, channels.shape[1:], strict=True)]
    width = [2 * r + 1 for r in radii]
    return F.avg_pool3d(channels[None], width, stride=1, padding=radii, count_include_pad=False)[0]


def _gradient(volume: Tensor, metric: Tensor) -> Tensor:
    """Return the slopes along each axis, as the kernels take them, times ``metric``."""
    slopes = []
    for axis, length in enumerate(volume.shape):
        index = torch.arange(length, device=volume.device)
        low, high = (index - 1).clamp_min(0), (index + 1).clamp_max(length - 1)
        shape = [-1 if other == axis else 1 for other in range(3)]
        run = (high - low).clamp_min(1).to(volume.dtype).reshape(shape)
        slopes.append((volume.index_select(axis, high) - volume.index_select(axis, low)) / run)
    return torch.stack(slopes) * metric[:, None, None, None]


def _smooth(channels: Tensor, taps: Sequence[Tensor]) -> Tensor:
    for axis, half in enumerate(taps, start=1):
        reach = half.numel() - 1
        if reach == 0 or channels.shape[axis] == 1:
            continue
        kernel = torch.cat([half.flip(0), half[1:]])
        shape, pad = [1, 1, 1, 1, 1], [0] * 6
        shape[axis + 1] = -1
        pad[2 * (3 - axis)] = pad[2 * (3 - axis) + 1] = reach
        padded = F.pad(channels[:, None], pad, mode="replicate")
        channels = F.conv3d(padded, kernel.reshape(shape))[:, 0]
    return channels
