"""A rigid map by an agent that takes one small move after another, each time the one of the highest value."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.resample import coarsen_image
from regflow.core.sampling import sample_channel
from regflow.core.transform import Affine, Transform
from regflow.methods.context import RunContext
from regflow.methods.initialize.lucas_kanade import find_linear_start, make_linear_transform

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)

NETWORKS = {2: "agent-rigid-2d", 3: "agent-rigid-3d"}
ARCHITECTURE = "move-values"
FILLED = 0.75
"""Part of the cube's side that the object takes up."""
LOW, HIGH = 1.0, 99.0
"""Percentiles of a view that are shown as 0 and 1, as in the training."""
LEAST_VALUE = 0.004
"""Predicted gain, in units of half the cube's side, below which the agent stays where it is."""


def agent_rigid(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Let an agent bring the moving image onto the fixed one by rotations and shifts.

    A network that was taught by known poses predicts how much nearer each of some moves would come; the best
    is taken, until none is worth it. Source: Liao et al., An artificial agent for robust image
    registration, AAAI 2017 (greedy supervised action values).

    Args:
        fixed: of two or three dimensions; its first channel and mask are used.
        moving: likewise.
        initial: linear; where to start.
        options: see the table in :mod:`regflow.methods.initialize`.
        context: of the run.

    Raises:
        RegistrationError: an image is empty or constant, or the network is missing or of other dimensions.
    """
    from regflow.core.devices import open_torch_session
    from regflow.methods.learned_models import load_model

    ndim = fixed.grid.ndim
    network, description = load_model(options["weights"] or NETWORKS[ndim], ARCHITECTURE)
    if description.arguments["ndim"] != ndim:
        raise RegistrationError(
            f"agent-rigid: the network is for images of {description.arguments['ndim']} dimensions, "
            f"not {ndim}; correct the option 'weights'"
        )
    start, cube = find_linear_start(initial, ndim), _make_cube(fixed, description.arguments["side"])
    still = _show(_prepare(fixed, cube), cube, Affine.identity(ndim))
    coarse = _prepare(moving, cube)
    world = _unit_to_world(cube)
    with open_torch_session(context.threads, context.seed):
        found = _walk(network, still, coarse, cube, (start @ world, np.linalg.inv(world)), options["moves"])
    return make_linear_transform(start @ world @ found @ np.linalg.inv(world), fixed.grid)


def _make_cube(fixed: Image, side: int) -> Grid:
    """Return a cube or square of ``side`` samples, along the world's axes, that the object fills in part."""
    inside = np.argwhere(np.ones(fixed.grid.shape, bool) if fixed.mask is None else fixed.mask)
    if not len(inside):
        raise RegistrationError("agent-rigid: the fixed image has no valid sample")
    corners = fixed.grid.to_world(inside[:, ::-1])
    low, high = corners.min(axis=0), corners.max(axis=0)
    spacing = float((high - low).max()) / FILLED / side
    if not spacing > 0:
        raise RegistrationError("agent-rigid: the fixed image is a point")
    affine = np.eye(fixed.grid.ndim + 1)
    affine[:-1, :-1] *= spacing
    affine[:-1, -1] = (low + high) / 2 - spacing * (side - 1) / 2
    return Grid((side,) * fixed.grid.ndim, affine, fixed.grid.crs)


def _unit_to_world(cube: Grid) -> NDArray[np.float64]:
    """Return the map to the world from places about the cube's center, in half sides and in array order."""
    ndim = cube.ndim
    matrix = np.eye(ndim + 1)
    matrix[:ndim, :ndim] = np.eye(ndim)[::-1] * cube.size[0] * cube.spacing[0] / 2
    matrix[:ndim, ndim] = cube.center
    return matrix


def _walk(
    network: "nn.Module",
    still: NDArray[np.float32],
    moving: Image,
    cube: Grid,
    maps: tuple[NDArray[np.floating], NDArray[np.floating]],
    most: int,
) -> NDArray[np.float64]:
    """Take the best move again and again; return their product ``(d + 1, d + 1)``."""
    import torch

    from regflow.methods.initialize.rigid_moves import list_moves

    moves, strides = list_moves(cube.ndim)
    there, back = maps
    found = np.eye(cube.ndim + 1)
    visited: list[NDArray[np.float64]] = []
    for _ in range(most):
        pose = Affine(there @ found @ back)
        seen = torch.from_numpy(np.stack([still, _show(moving, cube, pose)])[None])
        with torch.inference_mode():
            gains = network(seen)[0].double().numpy() * strides
        best = int(gains.argmax())
        if gains[best] < LEAST_VALUE:
            break
        found = found @ moves[best]
        # A pose of before means that two moves undo each other: the agent is as near as it can tell.
        if any(np.abs(found - earlier).max() < 1e-6 for earlier in visited):
            break
        visited.append(found)
    log.info("agent-rigid: %d moves", len(visited))
    return found


def _prepare(image: Image, cube: Grid) -> Image:
    """Return an image no finer than the cube, its darkest value outside its mask."""
    coarse = coarsen_image(image.with_data(image.channel.astype(np.float32)), float(cube.spacing[0]))
    values = coarse.channel
    if coarse.mask is not None and coarse.mask.any():
        values = np.where(coarse.mask, values, values[coarse.mask].min())
    return coarse.with_data(values.astype(np.float32))


def _show(image: Image, cube: Grid, transform: Affine) -> NDArray[np.float32]:
    """Return an image as the network sees it: in the cube, percentiles brought to 0 and 1.

    Raises:
        RegistrationError: it is constant there.
    """
    outside = float(image.channel.min())
    view = sample_channel(image.channel, image.grid, cube, transform, outside=outside)
    low, high = np.percentile(view, (LOW, HIGH))
    if not high > low:
        raise RegistrationError("agent-rigid: an image is constant where it is seen")
    return np.clip((view - low) / (high - low), 0, 1).astype(np.float32)
