"""Homographies by small trained networks that see both scenes as square crops of one size."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from regflow.core.devices import open_torch_session
from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Transform
from regflow.methods.context import RunContext
from regflow.methods.initialize.linear_refinement import refine_linear
from regflow.methods.initialize.planar import (
    Matrix,
    Plane,
    coarsen_to,
    find_matrix,
    make_transform,
    masked_image,
    resample_to,
)
from regflow.methods.learned_models import load_model
from regflow.methods.weight_files import choose_weights

if TYPE_CHECKING:
    from torch import Tensor, nn

FLAT = 1e-5
"""Of a map of normalized coordinates: what bends less is affine, up to what 32-bit numbers lose."""

SHIFTS, TURNS, SCALES = (-0.25, 0.0, 0.25), (-0.3, 0.3), (0.8, 1.25)
"""Starts that steps are followed from: in half sides of the crop, radians, and factors."""

AlignCrops = Callable[["nn.Module", "Tensor", "Tensor", Mapping[str, Any]], "Tensor"]
"""Of a network, crops and masks ``(1, 2, side, side)`` and a method's options, the map ``(1, 3, 3)`` of
normalized coordinates from the fixed crop to the moving one."""


def align_crops(
    architecture: str,
    shipped: str,
    ask: AlignCrops,
    fixed: Image,
    moving: Image,
    initial: Transform,
    options: Mapping[str, Any],
    context: RunContext,
) -> Transform:
    """Ask a network how the moving scene lies, again as often as ``cascade`` says, and refine its answer.

    Args:
        architecture: of the network.
        shipped: name of the network that is asked where the option ``weights`` names none.
        ask: how it is asked.
        fixed: 2-D; its first channel and mask are used.
        moving: likewise.
        initial: affine or homography to start from.
        options: see the table in :mod:`regflow.methods.initialize`.
        context: of the run; no result depends on its threads.

    Raises:
        RegistrationError: an image is constant or has no valid pixel, the answer folds the scene, or the
            network is missing or another one.
    """
    first, second = masked_image(fixed, "fixed"), masked_image(moving, "moving")
    network, _ = load_model(choose_weights(options["weights"], shipped), architecture)
    crops = SquareCrops.cut(first, second, int(network.side))  # type: ignore[arg-type]
    with open_torch_session(context.threads, context.seed):
        matrix = _ask_again(network, crops, find_matrix(initial), ask, options)
    return _REFINE[options["refine"]](first, second, matrix, options, context)


def _ask_again(
    network: "nn.Module",
    crops: "SquareCrops",
    matrix: Matrix,
    ask: AlignCrops,
    options: Mapping[str, Any],
) -> Matrix:
    """Return what a cascade comes to: the answer under which the crops fit best."""
    import torch

    from regflow.methods.initialize.plane_maps_torch import measure_correlation

    answers: list[tuple[float, Matrix]] = []
    for _ in range(options["cascade"]):
        seen, valid = crops.look(matrix)
        found = ask(network, seen, valid, options)
        matrix = crops.compose_world_map(matrix, found)
        seen, valid = crops.look(matrix)
        answers.append((float(measure_correlation(seen, valid, torch.eye(3)[None])), matrix))
    return max(answers, key=lambda answer: answer[0])[1]


@dataclass(frozen=True, eq=False)
class SquareCrops:
    """Both scenes on a square of few pixels about the fixed one.

    Attributes:
        fixed: the fixed scene on the square.
        moving: the moving scene as it is.
    """

    fixed: Image
    moving: Image

    @classmethod
    def cut(cls, fixed: Image, moving: Image, side: int) -> "SquareCrops":
        """Lay a square of ``side`` pixels over the fixed scene, as large as its longest side."""
        lengths = np.array(fixed.grid.size) * fixed.grid.spacing
        spacing = float(lengths.max()) / side
        plane = coarsen_to(fixed, spacing)
        axes = plane.grid.affine[:2, :2] / plane.grid.spacing * spacing
        affine = np.eye(3)
        affine[:2, :2] = axes
        affine[:2, 2] = fixed.grid.center - axes @ np.full(2, (side - 1) / 2)
        return cls(resample_to(plane, Grid((side, side), affine, fixed.grid.crs)), moving)

    def look(self, matrix: Matrix) -> tuple["Tensor", "Tensor"]:
        """Return both crops and their masks ``(1, 2, side, side)``, the moving one seen through a map."""
        import torch

        there = resample_to(self.moving, self.fixed.grid, matrix)
        both = (self.fixed, there)
        crops = np.stack([_center(part) for part in both])
        masks = np.stack([np.asarray(part.mask, np.float32) for part in both])
        return torch.from_numpy(crops)[None], torch.from_numpy(masks)[None]

    def compose_world_map(self, matrix: Matrix, found: "Tensor") -> Matrix:
        """Return a map of world points after one of normalized coordinates.

        Raises:
            RegistrationError: it folds the square.
        """
        side = self.fixed.grid.shape[0]
        normal = np.array([[2 / side, 0, 1 / side - 1], [0, 2 / side, 1 / side - 1], [0, 0, 1]])
        inward = normal @ np.linalg.inv(self.fixed.grid.affine)
        change = found[0].double().numpy()
        if not np.isfinite(change).all() or not np.linalg.det(change) > 0:
            raise RegistrationError("the network's answer folds the scene; start nearer")
        change[2, :2][np.abs(change[2, :2]) < FLAT] = 0
        whole = matrix @ np.linalg.inv(inward) @ change @ inward
        # The origin of a CRS may lie behind the horizon of a view; the middle of the scene does not.
        return np.asarray(whole / (whole[2] @ [*self.fixed.grid.center, 1.0]))


def _center(image: Image) -> Plane:
    """Return a picture with its valid values about zero, their spread one; zero where they are not valid.

    What a network of 32-bit numbers sees must not depend on how far values are from zero.
    """
    assert image.mask is not None
    if not image.mask.any():
        raise RegistrationError("the scenes do not overlap where the network looks; start nearer")
    inside = image.channel[image.mask].astype(np.float64)
    spread = float(inside.std()) or 1.0
    return np.asarray(np.where(image.mask, (image.channel - inside.mean()) / spread, 0), np.float32)


def _keep(
    fixed: Image, moving: Image, matrix: Matrix, options: Mapping[str, Any], context: RunContext
) -> Transform:
    return make_transform(matrix, fixed.grid.center)


def _refine_by_windows(
    fixed: Image, moving: Image, matrix: Matrix, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Refine by windows; where too few of them agree the network's answer is kept."""
    try:
        matrix = refine_linear(fixed, moving, matrix, options["model"], seed=context.seed).matrix
    except RegistrationError:
        return make_transform(matrix, fixed.grid.center)
    return make_transform(matrix, fixed.grid.center)


def _refine_by_least_squares(
    fixed: Image, moving: Image, matrix: Matrix, options: Mapping[str, Any], context: RunContext
) -> Transform:
    """Refine by Lucas and Kanade's method, from where the network leads; where it leads away, keep that."""
    from regflow.methods.initialize import METHODS
    from regflow.methods.table import list_methods_of_kind

    row = list_methods_of_kind(METHODS, "rasters")["lucas-kanade"]
    start = make_transform(matrix, fixed.grid.center)
    try:
        found = row.load()(fixed, moving, start, row.complete({"model": options["model"]}), context)
    except RegistrationError:
        return start
    assert isinstance(found, Transform)
    return found


_REFINE = {"none": _keep, "windows": _refine_by_windows, "lucas-kanade": _refine_by_least_squares}


def _ask_corners(
    network: "nn.Module", crops: "Tensor", valid: "Tensor", options: Mapping[str, Any]
) -> "Tensor":
    from regflow.methods.initialize.plane_maps_torch import solve_corners

    return solve_corners(network(crops, valid))


def _ask_steps(
    network: "nn.Module", crops: "Tensor", valid: "Tensor", options: Mapping[str, Any]
) -> "Tensor":
    """Follow the steps from several starts, and return where the crops then fit best."""
    from regflow.methods.initialize.plane_maps_torch import measure_correlation

    starts = _list_starts(options["starts"], crops)
    crops, valid = (part.expand(len(starts), -1, -1, -1) for part in (crops, valid))
    found = network(crops, valid, options["model"], starts)[-1]
    best = int(measure_correlation(crops, valid, found).argmax())
    return cast("Tensor", found[best : best + 1])


def _list_starts(which: str, like: "Tensor") -> "Tensor":
    """Return maps ``(N, 3, 3)`` to start from: the identity first."""
    import torch

    moves = [(0.0, 0.0, 0.0, 1.0)]
    if which == "several":
        moves += [(x, y, 0.0, 1.0) for x in SHIFTS for y in SHIFTS if x or y]
        moves += [(0.0, 0.0, turn, 1.0) for turn in TURNS] + [(0.0, 0.0, 0.0, scale) for scale in SCALES]
    maps = []
    for x, y, turn, scale in moves:
        cosine, sine = scale * math.cos(turn), scale * math.sin(turn)
        maps.append([[cosine, -sine, x], [sine, cosine, y], [0.0, 0.0, 1.0]])
    return torch.tensor(maps, dtype=like.dtype)


homography_net = partial(align_crops, "stacked-corners", "homography-net", _ask_corners)
homography_net_unsupervised = partial(
    align_crops, "stacked-corners", "homography-net-unsupervised", _ask_corners
)
goturn = partial(align_crops, "siamese-corners", "goturn", _ask_corners)
deep_lk = partial(align_crops, "aligning-features", "deep-lk", _ask_steps)
