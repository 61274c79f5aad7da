"""Methods that ask a small trained network for a displacement, pass by pass, from coarse to fine."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regflow.core.devices import open_torch_session
from regflow.core.errors import RegistrationError
from regflow.core.extent import measure_longest_side
from regflow.core.image import Image
from regflow.core.transform import Composite, Transform
from regflow.methods.context import RunContext
from regflow.methods.learned_models import load_model, require_dimensions
from regflow.methods.refine.field_options import ARCHITECTURE_OF, NETWORKS
from regflow.methods.refine.greedy import smooth_folds
from regflow.methods.refine.loaded_pair import WorkingPair, coarsen_channels, load_working_pair
from regflow.methods.refine.velocity_torch import follow_displacement, resize_field, sample_channels
from regflow.methods.refine.voxelmorph import measure_world_unit
from regflow.methods.refine.working import normalize_pair

log = logging.getLogger(__name__)

PERCENTILES = {"low": 1.0, "high": 99.0}
"""Intensities that become 0 and 1, as in training."""
MARGIN_SAMPLES = 8
"""About the fixed mask, samples of the finest pass."""
MOST_ACROSS = {2: 2048, 3: 256}
"""Samples along the longest side by dimensions: larger images are averaged, so that memory suffices."""


def unet(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Ask a U-Net for the displacement; options are ``field_options.LEARNED_FIELD``.

    Raises:
        RegistrationError: the network is missing, of another architecture or of other dimensions, or the
            images have no sample in common.
        InputError: the network's file is damaged, or an image is constant inside its mask.
    """
    return _register("unet", fixed, moving, initial, options, context)


def dirnet(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Ask a network for the control points of a B-spline; see :func:`unet` for options and errors."""
    return _register("dirnet", fixed, moving, initial, options, context)


def quicksilver(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Ask networks for initial momenta, and shoot them; see :func:`unet` for options and errors."""
    return _register("quicksilver", fixed, moving, initial, options, context)


def agent_modes(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Let an agent step along modes of deformation; see :func:`unet` for options and errors."""
    return _register("agent-modes", fixed, moving, initial, options, context)


def _register(
    method: str,
    fixed: Image,
    moving: Image,
    initial: Transform,
    options: Mapping[str, Any],
    context: RunContext,
) -> Composite:
    ndim = fixed.grid.ndim
    with open_torch_session(context.threads, context.seed):
        name = options["weights"] or NETWORKS[method].get(ndim)
        if name is None:
            raise RegistrationError(
                f"{method}: no network of {ndim} dimensions comes along; train one and name it in the option "
                "'weights'"
            )
        network, description = load_model(name, ARCHITECTURE_OF[method])
        arguments = description.arguments
        require_dimensions(method, description, ndim)
        own = float(fixed.grid.spacing.min())
        unit = own if ndim == 2 else measure_world_unit(fixed, arguments["spacing"])
        finest = max(own, unit * arguments["spacing"], measure_longest_side(fixed.grid) / MOST_ACROSS[ndim])
        pair = load_working_pair(fixed, moving, initial, finest, MARGIN_SAMPLES * finest)
        field = predict_displacement(network, pair, arguments["passes"])
    return pair.compose_field(smooth_folds(field), initial)


def predict_displacement(network: Any, pair: WorkingPair, passes: Sequence[float]) -> NDArray[np.float32]:
    """Ask a network about a pair, pass by pass.

    Args:
        network: see :mod:`regflow.methods.refine.field_networks`.
        pair: on its working grid.
        passes: how much coarser each is; each sees the moving image as those before have moved it.

    Returns:
        ``(d, *shape)`` displacement in samples of the working grid.

    Raises:
        InputError: an image is constant inside its mask.
    """
    images = [_normalize(image) for image in (pair.fixed, pair.moving)]
    total: Tensor | None = None
    for shrink in passes:
        _, *coarse = coarsen_channels(pair.fixed.grid, float(shrink), *images)
        still, moved = (torch.from_numpy(np.ascontiguousarray(image))[None, None] for image in coarse)
        if total is not None:
            moved = sample_channels(moved, resize_field(total, moved.shape[2:]))
        with torch.inference_mode():
            step = predict_step(network, torch.cat([still, moved], dim=1))
        log.debug("pass at %g: steps of %.2f samples", shrink, float(step.square().sum(dim=1).mean().sqrt()))
        total = follow_displacement(step, total)
    assert total is not None
    return np.asarray(resize_field(total, pair.fixed.grid.shape)[0].numpy(), np.float32)


def predict_step(network: Any, images: Tensor) -> Tensor:
    """Ask a network about images ``(N, 2, *shape)`` of any size, continued as they end at their border."""
    extra = [-count % network.multiple for count in images.shape[2:]]
    before = [count // 2 for count in extra]
    sides = [side for low, count in zip(before, extra, strict=True) for side in (count - low, low)][::-1]
    found: Tensor = network(torch.nn.functional.pad(images, sides, mode="replicate"))
    for axis, (low, count) in enumerate(zip(before, images.shape[2:], strict=True), start=2):
        found = found.narrow(axis, low, count)
    return found


def _normalize(image: Image) -> NDArray[np.float32]:
    """Return the first channel as in training; what a scene lacks is 0."""
    values = normalize_pair(image, "percentile", PERCENTILES).channel
    if image.grid.ndim == 2 and image.mask is not None:
        values = np.where(image.mask, values, 0)
    return np.asarray(values, np.float32)
