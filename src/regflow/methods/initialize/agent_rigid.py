"""A rigid map by an agent that takes one small move after another, each time the one of the highest value."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine, Transform
from regflow.methods.context import RunContext
from regflow.methods.initialize.lucas_kanade import find_linear_start, make_linear_transform
from regflow.methods.matching.views import make_cube, prepare_view, sample_view

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)

NETWORKS = {2: "agent-rigid-2d", 3: "agent-rigid-3d"}
ARCHITECTURE = "move-values"
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
    from regflow.methods.learned_models import load_model, require_dimensions

    ndim = fixed.grid.ndim
    network, description = load_model(options["weights"] or NETWORKS[ndim], ARCHITECTURE)
    require_dimensions("agent-rigid", description, ndim)
    start, cube = find_linear_start(initial, ndim), make_cube(fixed, description.arguments["side"])
    still = sample_view(prepare_view(fixed, cube), cube, Affine.identity(ndim))
    coarse = prepare_view(moving, cube)
    world = _unit_to_world(cube)
    with open_torch_session(context.threads, context.seed):
        found = _walk(network, still, coarse, cube, (start @ world, np.linalg.inv(world)), options["moves"])
    return make_linear_transform(start @ world @ found @ np.linalg.inv(world), fixed.grid)


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
        seen = torch.from_numpy(np.stack([still, sample_view(moving, cube, pose)])[None])
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
