"""Small networks that are shown two images and answer with the displacement between them.

They are shown both images and, for each sample, where neighborhoods fit best: taught by similarity alone, a
network that is shown nothing but intensities has to find out about matching first, which takes days.

Each is called with images ``(N, 2, *shape)``, fixed and moving, 0 to 1, and answers with the displacement
``(N, d, *shape)`` from fixed to moving samples, components in array order. Its attribute ``multiple`` divides
the sides that it takes.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from regflow.methods.matching.matching_torch import (
    compute_coarse_descriptors,
    compute_matching_evidence,
    join_batches,
)
from regflow.methods.refine.velocity_torch import resize_field

SLOPE = 0.2
"""Of a rectifier below zero."""
SMALL = 1e-3
"""Spread of the last layer's fresh weights: a network begins with next to no displacement."""
FACTOR = 2
"""Samples that are averaged before neighborhoods are compared."""
SEARCHES = {2: 3, 3: 2}
"""How far neighborhoods are sought, averages, by dimensions."""


def count_inputs(ndim: int) -> int:
    """Return the channels of :func:`show_matches`."""
    return 3 + ndim


def show_matches(images: Tensor) -> Tensor:
    """Return what a network is shown of images ``(N, 2, *shape)``, sides even.

    Returns:
        ``(N, 3 + d, *shape)``: the images, the offset to where the neighborhood fits best, weighted by how
        clearly it does, in parts of the reach, and that weight.
    """
    ndim = images.ndim - 2
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        evidence = join_batches([_compare(*pair.split(1, dim=1)) for pair in images.split(1)])
        offsets, depth = evidence[:, :ndim], evidence[:, ndim : ndim + 1]
        most = depth.flatten(1).amax(dim=1).clamp(min=1e-6).view(-1, 1, *[1] * ndim)
        weight = (depth / most).clamp(min=0).sqrt()
        shown = torch.cat([offsets * weight / SEARCHES[ndim], weight], dim=1)
        return torch.cat([images, functional.interpolate(shown, images.shape[2:])], dim=1)


def _compare(fixed: Tensor, moving: Tensor) -> Tensor:
    one, other = (compute_coarse_descriptors(image, FACTOR) for image in (fixed, moving))
    return compute_matching_evidence(one, other, SEARCHES[fixed.ndim - 2])


class FieldUNet(nn.Module):
    """A plain U-Net that answers with a displacement at half the images' resolution.

    Source: Ronneberger et al., MICCAI 2015; half resolution as Balakrishnan et al., 2019.
    """

    def __init__(self, ndim: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.multiple = 2 ** len(channels)
        downs = pairwise([count_inputs(ndim), *channels])
        self.down = nn.ModuleList(make_block(ndim, before, after, 2) for before, after in downs)
        ups = pairwise(channels[::-1])
        self.up = nn.ModuleList(make_block(ndim, below + skip, skip, 1) for below, skip in ups)
        self.head = make_head(ndim, channels[0])

    def forward(self, images: Tensor) -> Tensor:
        """Return the displacement, see the module."""
        skips, seen = [], show_matches(images)
        for down in self.down:
            seen = down(seen)
            skips.append(seen)
        for up, skip in zip(self.up, skips[-2::-1], strict=True):
            seen = up(torch.cat([functional.interpolate(seen, scale_factor=2.0), skip], dim=1))
        return resize_field(self.head(seen).float(), images.shape[2:])


class ControlPointNetwork(nn.Module):
    """A convolutional network that answers with the control points of a uniform cubic B-spline.

    Source: de Vos et al., DLMIA 2017, and Medical Image Analysis 52:128-143, 2019.
    """

    def __init__(self, ndim: int, channels: Sequence[int], pools: int) -> None:
        super().__init__()
        self.multiple = 2**pools
        self.pools = pools
        layers = pairwise([count_inputs(ndim), *channels])
        self.layers = nn.ModuleList(make_convolution(ndim, before, after, 1) for before, after in layers)
        self.head = make_head(ndim, channels[-1])

    def forward(self, images: Tensor) -> Tensor:
        """Return the displacement, see the module."""
        pool = functional.avg_pool3d if images.ndim == 5 else functional.avg_pool2d
        seen = show_matches(images)
        for number, layer in enumerate(self.layers):
            seen = layer(seen)
            if number < self.pools:
                seen = pool(seen, 2)
        return sample_spline(self.head(seen), self.multiple)


def sample_spline(control: Tensor, spacing: int) -> Tensor:
    """Evaluate a uniform cubic B-spline that goes on at its border as it ends.

    Args:
        control: ``(N, C, *nodes)``, in the middles of cells of ``spacing`` samples.
        spacing: of the nodes, samples.

    Returns:
        ``(N, C, *nodes * spacing)``.
    """
    with torch.autocast(control.device.type, enabled=False):
        values = functional.pad(control.float(), (2, 2) * (control.ndim - 2), mode="replicate")
        for nodes in control.shape[2:]:
            # The axis that is evaluated goes last, so that the next one comes to its place.
            values = torch.tensordot(values, _spline_basis(nodes, spacing, values), dims=([2], [1]))
        return values


def _spline_basis(nodes: int, spacing: int, like: Tensor) -> Tensor:
    """Return cubic B-splines of nodes, two more on either side: ``(nodes * spacing, nodes + 4)``."""
    places = (torch.arange(nodes * spacing, dtype=like.dtype, device=like.device) + 0.5) / spacing - 0.5
    centers = torch.arange(-2, nodes + 2, dtype=like.dtype, device=like.device)
    distance = (places[:, None] - centers[None]).abs()
    near = 2 / 3 - distance.square() + distance**3 / 2
    return torch.where(distance < 1, near, (2 - distance).clamp(min=0) ** 3 / 6)


def make_convolution(ndim: int, before: int, after: int, stride: int) -> nn.Module:
    """Return a convolution of three samples a side, and a rectifier."""
    convolution = nn.Conv3d if ndim == 3 else nn.Conv2d
    return nn.Sequential(convolution(before, after, 3, stride, 1), nn.LeakyReLU(SLOPE))


def make_block(ndim: int, before: int, after: int, stride: int) -> nn.Module:
    """Return two convolutions, the first with a stride."""
    return nn.Sequential(
        make_convolution(ndim, before, after, stride), make_convolution(ndim, after, after, 1)
    )


def make_head(ndim: int, channels: int) -> nn.Module:
    """Return the last convolution, from features to a vector at each sample."""
    head = (nn.Conv3d if ndim == 3 else nn.Conv2d)(channels, ndim, 3, padding=1)
    nn.init.normal_(head.weight, std=SMALL)
    assert head.bias is not None
    nn.init.zeros_(head.bias)
    return head


def build_unet(ndim: int, channels: Sequence[int], spacing: float, passes: Sequence[float]) -> nn.Module:
    """Return a :class:`FieldUNet` with fresh weights from torch's random numbers.

    Args:
        ndim: 2 or 3.
        channels: of each level, finest first.
        spacing: of the last pass when it is used; mm, or pixels. Kept with the network, as are
        passes: how much coarser each pass is.
    """
    return FieldUNet(ndim, channels)


def build_control_points(
    ndim: int, channels: Sequence[int], spacing: float, passes: Sequence[float], pools: int
) -> nn.Module:
    """Return a :class:`ControlPointNetwork`; see :func:`build_unet`.

    Args:
        ndim: 2 or 3.
        channels: of each convolution; the first ``pools`` of them are followed by an average over 2 samples.
        spacing: see there.
        passes: see there.
        pools: the control points stand ``2**pools`` samples apart.
    """
    return ControlPointNetwork(ndim, channels, pools)
