"""Deformable registration of one pair by gradient descent on its velocity field.

The scheme of VoxelMorph's loss without its network (Balakrishnan et al., 2019): Adam moves a
stationary velocity field, coarse to fine, until the objective no longer falls.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation
from torch import Tensor

from regflow.core import fields
from regflow.core.devices import choose_torch_device, open_torch_session
from regflow.core.errors import InputError, RegistrationError, SettingError
from regflow.core.image import Image
from regflow.core.transform import Composite, DisplacementField, Transform, flatten_transform
from regflow.methods.context import Pair, RunContext
from regflow.methods.matching.self_similarity_torch import compute_mind, sum_box
from regflow.methods.refine import losses_torch as losses
from regflow.methods.refine.greedy_contrast import has_linear_contrast, match_contrast
from regflow.methods.refine.greedy_pyramid import MARGIN_SAMPLES, prepare_pyramid
from regflow.methods.refine.velocity_torch import (
    integrate_velocity,
    resize_field,
    sample_channels,
    to_displacement_field,
)
from regflow.methods.refine.voxelmorph import predict_pairs
from regflow.methods.refine.working import make_working_grid, normalize_pair, require_samples, resample_both

log = logging.getLogger(__name__)

MASK_MARGIN = 2
"""Samples by which the fixed mask is grown at each level, so that the object's border steers too."""
REGULARIZERS = {"bending": losses.compute_bending, "diffusion": losses.compute_diffusion}


@dataclass(frozen=True)
class OptimizationLevel:
    """What one level compares.

    Attributes:
        loss: how, one of :data:`FEATURES`.
        fixed: ``(1, C, *shape)`` intensities, descriptors or labels.
        moving: the same of the moving image.
        fixed_mask: ``(1, 1, *shape)`` weights, or None.
        moving_mask: the same, to be carried along with the moving image.
        velocity_shape: samples of the velocity field.
        velocity_spacing: world units between them, array order.
    """

    loss: str
    fixed: Tensor
    moving: Tensor
    fixed_mask: Tensor | None
    moving_mask: Tensor | None
    velocity_shape: tuple[int, ...]
    velocity_spacing: tuple[float, ...]


def instance_optimization(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Refine an alignment; options are ``learning_options.INSTANCE_OPTIMIZATION``.

    Raises:
        InputError: the loss needs label maps, which are missing.
        SettingError: levels and iterations differ in number.
        RegistrationError: the objective stopped being a number, or the network to start from is
            missing.
    """
    _check(fixed, moving, options)
    device = choose_torch_device(options["device"])
    with open_torch_session(context.threads, context.seed):
        velocity: Tensor | None = None
        if options["start"] == "voxelmorph":
            alone = {**options, "spacing_mm": None, "refinement": "none"}
            initial = predict_pairs([Pair(fixed, moving, initial)], alone, context)[0].transform
        for shrink, iterations in zip(options["shrink"], options["iterations"], strict=True):
            level = _level(Pair(fixed, moving, initial), shrink, velocity, options, device)
            if velocity is None:
                velocity = torch.zeros(1, fixed.grid.ndim, *level.velocity_shape, device=device)
            velocity = _descend(resize_field(velocity, level.velocity_shape), level, iterations, options)
        assert velocity is not None
        field = to_displacement_field(integrate_velocity(velocity), fixed.grid)
    return _led_by(field, initial)


def _led_by(field: DisplacementField, initial: Transform) -> Composite:
    """Put a field before a transform; a field that leads the transform is merged with it."""
    parts = list(flatten_transform([initial]))
    if not isinstance(parts[0], DisplacementField) or not parts[0].grid.matches(field.grid):
        return Composite((field, initial))
    first, second = (fields.to_voxels(part.vectors, field.grid) for part in (field, parts[0]))
    merged = fields.to_world(fields.compose_displacements(second, first), field.grid)
    return Composite((DisplacementField(merged, field.grid), *parts[1:]))


def _check(fixed: Image, moving: Image, options: Mapping[str, Any]) -> None:
    if len(options["shrink"]) != len(options["iterations"]):
        raise SettingError(
            f"instance-optimization: {len(options['shrink'])} levels in 'shrink' but "
            f"{len(options['iterations'])} in 'iterations'; give one number of iterations per level"
        )
    if options["loss"] == "dice" and (fixed.labels is None or moving.labels is None):
        raise InputError(
            "instance-optimization: the loss 'dice' needs label maps of the fixed and the moving image; "
            "give both or take another loss"
        )


def _level(
    request: Pair,
    shrink: float,
    velocity: Tensor | None,
    options: Mapping[str, Any],
    device: torch.device,
) -> OptimizationLevel:
    loss, fixed = options["loss"], request.fixed
    if loss == "auto":
        loss, fixed = _settled(request, velocity, options)
    finest = options["spacing_mm"] or float(fixed.grid.spacing.min())
    coarser = options["velocity_shrink"]
    grid = make_working_grid(fixed.grid, finest * shrink, multiple=coarser)
    pair = resample_both(fixed, request.moving, request.initial, grid)
    fixed_part, moving_part = FEATURES[loss](*pair)
    return OptimizationLevel(
        loss,
        fixed_part.to(device),
        moving_part.to(device),
        _mask(pair[0], MASK_MARGIN, device) if options["masks"] in ("fixed", "both") else None,
        _mask(pair[1], 0, device) if options["masks"] == "both" else None,
        tuple(count // coarser for count in grid.shape),
        tuple(float(step) * coarser for step in grid.spacing[::-1]),
    )


def _settled(request: Pair, velocity: Tensor | None, options: Mapping[str, Any]) -> tuple[str, Image]:
    """Return the loss that ``auto`` stands for at the alignment so far, and the fixed image for it.

    Of images of two contrasts the fixed one is brought to the moving one's, where the alignment shows
    how; else descriptors are compared. All samples are looked at: coarser ones mix tissues, and a mixture
    of two may look like a third. Of images of several channels nothing is asked.

    Raises:
        RegistrationError: the images do not overlap, or one is constant.
    """
    fixed, so_far = request.fixed, request.initial
    if len(fixed.data) > 1:
        return "lncc", fixed
    if velocity is not None:
        so_far = _led_by(to_displacement_field(integrate_velocity(velocity), fixed.grid), so_far)
    moved = resample_both(fixed, request.moving, so_far, fixed.grid)[1]
    require_samples(moved)
    mask = None if options["masks"] == "none" else fixed.mask
    widths = fixed.grid.spacing[::-1] / fixed.grid.spacing.min()
    settings = {"metric": "lncc", "margin": MARGIN_SAMPLES}
    both = prepare_pyramid(fixed.channel, moved.channel, mask, None, widths, settings)
    if has_linear_contrast(both):
        return "lncc", fixed
    brought = match_contrast(both, np.zeros((3, 1, 1, 1), np.float32))
    if brought is None:
        return "mind", fixed
    whole = np.zeros(fixed.grid.shape, np.float32)
    whole[both.window] = brought.fixed.reshape(whole[both.window].shape)
    return "lncc", fixed.with_data(whole)


def _descend(start: Tensor, level: OptimizationLevel, iterations: int, options: Mapping[str, Any]) -> Tensor:
    """Lower a level's objective; the velocity of its lowest value comes back.

    Adam takes steps of one length everywhere, in places where the images say nothing as well;
    it moves the velocity before smoothing, so that its steps are smooth.
    """
    change = torch.zeros_like(start, requires_grad=True)
    adam = torch.optim.Adam([change], lr=options["rate"])
    dissimilarity = _dissimilarity(level, options)
    progress = ConvergenceMonitor(options["tolerance"], options["patience"])
    best, lowest = start, float("inf")
    for _ in range(iterations):
        adam.zero_grad()
        velocity = start + _smoothed(change, options["smoothing"])
        objective = _objective(velocity, level, dissimilarity, options)
        value = float(objective.detach())
        if not np.isfinite(value):
            raise RegistrationError(
                f"the objective of instance-optimization became {value}; lower 'rate' or check the images"
            )
        if value < lowest:
            best, lowest = velocity.detach(), value
        if progress.check_convergence(value):
            break
        objective.backward()
        adam.step()
    shape = "x".join(str(count) for count in level.fixed.shape[2:])
    told = shape, level.loss, len(progress.values), lowest
    log.info("%s samples: %s, %d iterations, objective %.5f", *told)
    return best


def _smoothed(field: Tensor, passes: int) -> Tensor:
    """Average over three samples along each axis, ``passes`` times: nearly a Gaussian."""
    if passes == 0:
        return field
    count = sum_box(torch.ones_like(field[:, :1]), 1)
    for _ in range(passes):
        field = sum_box(field, 1) / count
    return field


def _objective(
    velocity: Tensor,
    level: OptimizationLevel,
    dissimilarity: Callable[..., Tensor],
    options: Mapping[str, Any],
) -> Tensor:
    displacement = resize_field(integrate_velocity(velocity), level.fixed.shape[2:])
    warped = sample_channels(level.moving, displacement)
    mask = level.fixed_mask
    if level.moving_mask is not None:
        carried = sample_channels(level.moving_mask, displacement.detach())
        mask = carried if mask is None else mask * carried
    smoothness = REGULARIZERS[options["regularizer"]](velocity, level.velocity_spacing)
    return dissimilarity(level.fixed, warped, mask) + options["weight"] * smoothness


class ConvergenceMonitor:
    """Tells when an objective no longer falls."""

    def __init__(self, tolerance: float, patience: int) -> None:
        self.tolerance = tolerance
        self.patience = patience
        self.values: list[float] = []

    def check_convergence(self, value: float) -> bool:
        """Add a value; true when the last ``patience`` lowered the least one by too little."""
        self.values.append(value)
        if len(self.values) <= self.patience:
            return False
        before, after = min(self.values[: -self.patience]), min(self.values)
        return before - after <= self.tolerance * abs(before)


def _dissimilarity(level: OptimizationLevel, options: Mapping[str, Any]) -> Callable[..., Tensor]:
    if level.loss == "lncc":
        return lambda f, w, m: losses.compute_local_correlation(f, w, m, options["radius"], options["signed"])
    if level.loss == "mi":
        # Fixed ranges: those of the warped image would move the bins with the field.
        return lambda f, w, m: losses.compute_mutual_information(f, w, m, ranges=((0, 1), (0, 1)))
    if level.loss == "dice":
        return losses.compute_label_overlap
    return losses.compute_mean_squared_error


def _mask(image: Image, margin: int, device: torch.device) -> Tensor | None:
    if image.mask is None:
        return None
    grown = binary_dilation(image.mask, iterations=margin) if margin else image.mask
    return torch.from_numpy(grown.astype(np.float32))[None, None].to(device)


def _intensities(fixed: Image, moving: Image) -> tuple[Tensor, Tensor]:
    """Both images scaled robustly to 0 to 1, so that weights mean the same for every pair."""
    first, second = (normalize_pair(image, "percentile", {}).data for image in (fixed, moving))
    return _tensor(first), _tensor(second)


def _descriptors(fixed: Image, moving: Image) -> tuple[Tensor, Tensor]:
    """MIND channels of both images; warping them is cheaper than describing anew each time."""
    first, second = _intensities(fixed, moving)
    return compute_mind(first[:, :1]), compute_mind(second[:, :1])


def _labels(fixed: Image, moving: Image) -> tuple[Tensor, Tensor]:
    """One channel per label of the fixed image, background left out."""
    assert fixed.labels is not None
    assert moving.labels is not None
    values = [value for value in np.unique(fixed.labels) if value != 0]
    if not values:
        raise InputError("instance-optimization: the fixed image's label map is empty on the working grid")
    first, second = (np.stack([part == value for value in values]) for part in (fixed.labels, moving.labels))
    return _tensor(first), _tensor(second)


def _tensor(channels: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(channels, dtype=np.float32))[None]


FEATURES: dict[str, Callable[[Image, Image], tuple[Tensor, Tensor]]] = {
    "lncc": _intensities,
    "mse": _intensities,
    "mi": _intensities,
    "mind": _descriptors,
    "dice": _labels,
}
