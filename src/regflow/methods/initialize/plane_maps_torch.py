"""Homographies of squares in torch: through four corners, and looking images up through them.

Coordinates ``(x, y)`` are normalized: a square, edge to edge of its pixels, reaches from -1 to 1. Maps are
homogeneous ``(N, 3, 3)``, from the fixed square to the moving one.
"""

import torch
from torch import Tensor
from torch.nn import functional

COMPARED_REACH, COMPARED_BLURS = 12, (2, 4)
"""How far contrast is local, and what is averaged before crops are compared, pixels."""
LEAST_MEETING = 0.25
"""Part of the fixed crop on which the moving one must lie to be compared."""
CORNERS = ((-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0), (1.0, 1.0))


def list_corners(like: Tensor) -> Tensor:
    """Return the corners ``(4, 2)``, of the type of another tensor."""
    return like.new_tensor(CORNERS)


def solve_corners(shifts: Tensor) -> Tensor:
    """Return the homographies that shift the corners: the tensor direct linear transform.

    Source: Nguyen et al., IEEE Robotics and Automation Letters 3(3):2346-2353, 2018.

    Args:
        shifts: ``(N, 4, 2)`` of the corners.
    """
    corners = list_corners(shifts)
    x, y = corners.expand_as(shifts).unbind(dim=-1)
    u, v = (corners + shifts).unbind(dim=-1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    rows = [
        torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], dim=-1),
        torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], dim=-1),
    ]
    found = torch.linalg.solve(torch.cat(rows, dim=1), torch.cat([u, v], dim=1))
    return torch.cat([found, torch.ones_like(found[:, :1])], dim=1).reshape(-1, 3, 3)


def fit_affine_shifts(shifts: Tensor) -> Tensor:
    """Return the shifts ``(N, 4, 2)`` of the corners by the affine map that fits some best."""
    # Of a square: what bends is along the alternating sum, to which all affine maps are blind.
    signs = shifts.new_tensor([1.0, -1.0, -1.0, 1.0])[:, None]
    return shifts - signs * (signs * shifts).mean(dim=1, keepdim=True)


def move_points(maps: Tensor, points: Tensor) -> Tensor:
    """Map points ``(P, 2)``: ``(N, P, 2)``. Points that a map takes to infinity end far away."""
    moved = points @ maps[:, :, :2].transpose(1, 2) + maps[:, None, :, 2]
    return moved[..., :2] / moved[..., 2:].clamp(min=0.05)


def measure_corner_distances(maps: Tensor, shifts: Tensor) -> Tensor:
    """Return the distances ``(N, 4)`` of the mapped corners from where they belong."""
    corners = list_corners(shifts)
    return torch.linalg.vector_norm(move_points(maps, corners) - corners - shifts, dim=-1)


def list_pixels(shape: tuple[int, int], like: Tensor) -> Tensor:
    """Return the centers ``(H * W, 2)`` of pixels that fill the square."""
    rows, columns = ((torch.arange(n, dtype=like.dtype) + 0.5) * 2 / n - 1 for n in shape)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2).to(like.device)


def look_up(images: Tensor, places: Tensor) -> Tensor:
    """Return bilinear samples ``(N, C, P)`` of images ``(N, C, H, W)`` at places ``(N, P, 2)``; 0 outside.

    The images' pixels are those of :func:`list_pixels`.
    """
    found = functional.grid_sample(images, places[:, None], align_corners=False, padding_mode="zeros")
    return found[:, :, 0]


def correlate_moved(crops: Tensor, valid: Tensor, maps: Tensor) -> Tensor:
    """Return how well the moving crop fits the fixed one under maps ``(N, 3, 3)``: ``(N,)``, -1 to 1.

    It is the correlation of local contrasts where the crops meet, at two resolutions; -1 where they hardly
    meet.

    Args:
        crops: ``(N, 2, side, side)``, fixed and moving.
        valid: of the same shape, 0 or 1.
        maps: from the fixed crop to the moving one.
    """
    flat = standardize_locally(crops.flatten(0, 1)[:, None], valid.flatten(0, 1)[:, None], COMPARED_REACH)
    both = torch.cat([flat.reshape(crops.shape), valid], dim=1)
    found = []
    for blur in COMPARED_BLURS:
        coarse = functional.avg_pool2d(both, blur)
        places = move_points(maps, list_pixels((coarse.shape[-2], coarse.shape[-1]), coarse))
        there = look_up(coarse[:, [1, 3]], places)
        fixed, share = coarse[:, 0].flatten(1), coarse[:, 2].flatten(1) * there[:, 1]
        products = [(share * one * other).sum(dim=1) for one, other in _pair_up(fixed, there[:, 0])]
        correlation = products[1] / (products[0] * products[2]).clamp(min=1e-12).sqrt()
        found.append(torch.where(share.mean(dim=1) < LEAST_MEETING, -1.0, correlation))
    return torch.stack(found).mean(dim=0)


def _pair_up(one: Tensor, other: Tensor) -> list[tuple[Tensor, Tensor]]:
    return [(one, one), (one, other), (other, other)]


def standardize_locally(images: Tensor, valid: Tensor, reach: int) -> Tensor:
    """Return local differences from the mean in units of the local spread; 0 where nothing is valid.

    Args:
        images: ``(N, 1, H, W)``.
        valid: of the same shape, 0 or 1.
        reach: of the neighborhood either way, pixels.
    """
    share = _average(valid, reach).clamp(min=1e-3)
    centered = (images - _average(images * valid, reach) / share) * valid
    spread = (_average(centered.square(), reach) / share).sqrt()
    whole = centered.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return centered / (spread + 0.1 * whole + 1e-6)


def _average(images: Tensor, reach: int) -> Tensor:
    width = 2 * reach + 1
    rows = functional.avg_pool2d(images, (1, width), 1, (0, reach), count_include_pad=False)
    return functional.avg_pool2d(rows, (width, 1), 1, (reach, 0), count_include_pad=False)
