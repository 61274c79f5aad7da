"""The task of an agent: the value of each move, from pairs whose poses are known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from regflow.core.errors import InputError
from regflow.methods.initialize.rigid_moves import LEVER, list_moves, measure_gains, turn_in_plane
from regflow.methods.learned_models import ModelDescription
from regflow.training.bands import BandPairs
from regflow.training.deformations import RelatedDeformations
from regflow.training.painted import PaintedPairs
from regflow.training.pairs import Draw, PairMixture
from regflow.training.scans import ScanPairs
from regflow.training.sources import build_mixture
from regflow.training.task import AskNetwork, DrawnExamples, Sums, TensorBatch, TrainingTask, make_model_task

LEAST, MOST = 0.01, 0.7
"""Root mean square displacement of a pose, in units of half the patch's side."""
STEEPEST = np.deg2rad(60.0)
SEEN_WHOLE = 0.6
"""Least spacing of a patch as a part of the widest: the agent sees whole objects."""
PART = 4
"""Examples that learn together: alike whatever the threads."""


def make_task(settings: Mapping[str, Any], seed: int) -> TrainingTask:
    """Return what is learned by the settings of a training.

    Raises:
        InputError: training data are missing, or cannot be moved rigidly.
    """
    arguments = {name: settings[name] for name in ("ndim", "side", "channels")}
    description = ModelDescription("move-values", arguments)
    mixture = build_mixture(settings, seed)
    sources = {name: _move_rigidly(name, source) for name, source in mixture.sources.items()}
    draw = DrawMoves(replace(mixture, sources=sources))
    return make_model_task(
        description=description,
        examples=DrawnExamples(draw, seed),
        prepare=lambda network, batch: batch.split(PART),
        compute_loss=_compute_loss,
        measure=_measure,
        show=_show,
    )


@dataclass(frozen=True, eq=False)
class DrawMoves:
    """Draws a pair, and what each move is worth to it.

    Attributes:
        mixture: of pairs that differ by a rigid pose.
    """

    mixture: PairMixture

    def __call__(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Draw an example: ``images`` ``(2, *shape)`` and ``values`` ``(K,)``."""
        pair = self.mixture.pair(int(rng.integers(1 << 62)))
        assert pair.truth is not None
        moves, strides = list_moves(pair.truth.shape[0])
        misfit = np.linalg.inv(_find_pose(pair.truth.numpy()))
        values = measure_gains(misfit, moves, strides).astype(np.float32)
        return {"images": torch.cat([pair.fixed, pair.moving]), "values": torch.from_numpy(values)}


def draw_rigid_deformations(
    shape: Sequence[int], longest: float, rng: np.random.Generator
) -> RelatedDeformations:
    """Draw the pose of the moving patch; the fixed one looks straight.

    Args:
        shape: of the patch.
        longest: not used: a pose has bounds of its own.
        rng: source of randomness.
    """
    ndim, half = len(shape), max(shape) / 2
    size = float(np.exp(rng.uniform(np.log(LEAST), np.log(MOST))))
    share = rng.uniform(0.0, 1.0)
    angle = min(np.sqrt(share) * size / LEVER, STEEPEST) * rng.choice([-1.0, 1.0])
    matrix = turn_in_plane(2, (0, 1), angle)
    if ndim == 3:
        axis = rng.normal(size=3)
        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix()
    direction = rng.normal(size=ndim)
    matrix[:ndim, ndim] = np.sqrt(1 - share) * size * half * direction / np.linalg.norm(direction)
    forward, back = (_displace(shape, each) for each in (matrix, np.linalg.inv(matrix)))
    return RelatedDeformations(torch.zeros_like(forward), forward, back)


def _displace(shape: Sequence[int], matrix: NDArray[np.floating]) -> Tensor:
    """Return the displacement ``(1, d, *shape)`` of a rigid map about a patch's middle, samples."""
    ndim = len(shape)
    column = (-1, *[1] * ndim)
    places = np.indices(shape, np.float64) - ((np.array(shape) - 1) / 2).reshape(column)
    moved = np.tensordot(matrix[:ndim, :ndim], places, axes=1) + matrix[:ndim, ndim].reshape(column)
    return torch.from_numpy((moved - places).astype(np.float32))[None]


def _find_pose(truth: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the rigid map whose displacement is known, in units of half the patch's side."""
    ndim, shape = truth.shape[0], truth.shape[1:]
    middle, half = (np.array(shape) - 1) / 2, max(shape) / 2
    thin = (slice(None), *[slice(None, None, 5)] * ndim)
    places = (np.indices(shape)[thin].reshape(ndim, -1).T - middle) / half
    moved = places + truth[thin].reshape(ndim, -1).T / half
    homogeneous = np.concatenate([places, np.ones((len(places), 1))], axis=1)
    matrix = np.eye(ndim + 1)
    matrix[:ndim] = np.linalg.lstsq(homogeneous, moved, rcond=None)[0].T
    return matrix


def _move_rigidly(name: str, source: Draw) -> Draw:
    if isinstance(source, BandPairs):
        return replace(source, deform=draw_rigid_deformations)
    if isinstance(source, PaintedPairs | ScanPairs):
        return replace(source, deform=draw_rigid_deformations, least_spacing=SEEN_WHOLE)
    raise InputError(f"train: shares: {name}: its pairs differ by more than a pose; set the share to 0")


def _compute_loss(network: AskNetwork, batch: TensorBatch) -> tuple[Tensor, dict[str, Tensor]]:
    loss = torch.nn.functional.smooth_l1_loss(network(batch["images"]), batch["values"])
    return loss, {"values": loss.detach()}


def _measure(network: AskNetwork, batch: TensorBatch) -> Sums:
    """Return how well the move of the highest predicted gain is chosen.

    Returns:
        ``gain``, by how much it lessens the misfit, in units of half the side; ``best``, the same of the best
        move; ``nearer``, how often it comes nearer.
    """
    strides = torch.from_numpy(list_moves(batch["images"].ndim - 2)[1].astype(np.float32))
    predicted = network(batch["images"]).float().cpu() * strides
    true = batch["values"].cpu() * strides
    gained = true.gather(1, predicted.argmax(dim=1, keepdim=True))
    count = len(batch)
    return {
        "gain": (float(gained.sum()), count),
        "best": (float(true.max(dim=1).values.sum()), count),
        "nearer": (float((gained > 0).sum()), count),
    }


def _show(network: AskNetwork, batch: TensorBatch) -> list[NDArray[np.float32]]:
    return [batch["images"][0, k].cpu().numpy() for k in range(2)]
