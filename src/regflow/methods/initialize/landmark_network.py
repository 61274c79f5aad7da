"""The network that finds landmarks: a heat map for each."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from monai.networks.nets import UNet

NEIGHBORS = 3
"""Samples around the highest one of a heat map, along each axis, that say where between samples it is."""


def build_landmark_network(
    ndim: int, side: int, landmarks: Sequence[str], channels: Sequence[int]
) -> "UNet | nn.Module":
    """Return a U-Net from an image ``(N, 1, *shape)`` to a logarithmic heat map for each landmark.

    Source: Payer et al., Medical Image Analysis 54:207-219, 2019 (heat maps by regression).

    Args:
        ndim: 2 or 3.
        side: samples along each axis of what it sees.
        landmarks: their names.
        channels: of each level, each half as fine as the one before.
    """
    from monai.networks.nets import UNet

    return UNet(
        spatial_dims=ndim,
        in_channels=1,
        out_channels=len(landmarks),
        channels=channels,
        strides=(2,) * (len(channels) - 1),
        num_res_units=1,
        norm=("GROUP", {"num_groups": 4}),
    )


def find_peaks(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return where heat maps are highest, between samples, and how much of them lies there.

    Args:
        logits: ``(K, *shape)``.

    Returns:
        Indices ``(K, d)`` in array order, and ``(K,)`` the part of each map within ``NEIGHBORS`` samples of
        its peak: 1 where the network is sure of one place.
    """
    shape, ndim = logits.shape[1:], logits.ndim - 1
    chances = torch.softmax(logits.flatten(1).double(), dim=1).view(logits.shape)
    highest = chances.flatten(1).argmax(dim=1)
    peaks, sure = [], []
    for chance, number in zip(chances, highest.tolist(), strict=True):
        place: list[int] = []
        window = []
        for length in reversed(shape):
            place.insert(0, number % length)
            number //= length
        for at, length in zip(place, shape, strict=True):
            window.append(slice(max(0, at - NEIGHBORS), min(length, at + NEIGHBORS + 1)))
        near = chance[tuple(window)]
        mass = near.sum()
        peak = []
        for axis in range(ndim):
            along = near.sum(dim=[other for other in range(ndim) if other != axis])
            ticks = torch.arange(window[axis].start, window[axis].stop, dtype=torch.float64)
            peak.append((along * ticks).sum() / mass)
        peaks.append(torch.stack(peak))
        sure.append(mass)
    return torch.stack(peaks), torch.stack(sure)
