"""Steps that bring a graph's maps into agreement with its links, by least squares with given weights."""

import numpy as np
from numpy.typing import NDArray

from regflow.methods.groupwise.arrays import GraphArrays
from regflow.methods.groupwise.models import list_generators, project_maps
from regflow.methods.groupwise.normal_equations import TOLERANCE, NormalEquations

Array = NDArray[np.float64]

HALVINGS = 6
"""How often a step that makes things worse is halved before it is left out."""


class GaussNewton:
    """Least squares over the maps of all nodes but those that are held.

    A node's map moves by small steps in its own world, and links are compared in the second image's world:
    so what the common world is makes no difference, and no solution shrinks to please noisy links.

    Attributes:
        arrays: the graph.
        held: ``(N,)`` which nodes stay where they are.
    """

    def __init__(self, arrays: GraphArrays, held: NDArray[np.bool_]) -> None:
        self.arrays, self.held = arrays, held
        self._generators = list_generators(arrays.model, arrays.ndim)
        self._free = np.flatnonzero(~held)
        numbers = np.full(arrays.count, -1, np.intp)
        numbers[self._free] = np.arange(len(self._free))
        a, b, p = (numbers[nodes] for nodes in (arrays.first, arrays.second, arrays.prior_nodes))
        self._equations = NormalEquations(
            np.concatenate([a, b, a, b, p]),
            np.concatenate([a, b, b, a, p]),
            len(self._free),
            len(self._generators),
        )

    def move(self, poses: Array, weights: Array, tolerance: float = TOLERANCE) -> tuple[Array, float]:
        """Take one step.

        Args:
            poses: ``(N, d + 1, d + 1)`` maps from the nodes to the common world.
            weights: ``(E,)`` of the squares of the links' residuals.
            tolerance: of the step's equations.

        Returns:
            The poses after it, and the largest change of a number of them.
        """
        if len(self._free) == 0:
            return poses, 0.0
        step = self._find_step(poses, weights, tolerance)
        before = self.measure_cost(poses, weights)
        for _ in range(HALVINGS):
            moved = self._apply_step(poses, step)
            if self.measure_cost(moved, weights) <= before * (1 + 1e-12) + 1e-300:
                return moved, float(np.abs(moved - poses).max())
            step = step / 2
        return poses, 0.0

    def measure_cost(self, poses: Array, weights: Array) -> float:
        """Return the weighted sum of squares of all residuals, the expected positions' among them."""
        own = float((weights * self.arrays.measure_residuals(poses) ** 2).sum())
        return own + float((self._compute_prior_errors(poses) ** 2).sum())

    def _find_step(self, poses: Array, weights: Array, tolerance: float) -> Array:
        arrays, generators = self.arrays, self._generators
        ndim, count = arrays.ndim, len(self._generators)
        # The errors' derivatives by the steps of the first node and of the second, (E, d m, p).
        related = np.linalg.inv(poses)[arrays.second] @ poses[arrays.first]
        ahead = np.einsum("eij,pjk,ekm->eimp", related[:, :ndim], generators, arrays.vectors, optimize=True)
        behind = -np.einsum("pij,ejk,ekm->eimp", generators[:, :ndim], related, arrays.vectors, optimize=True)
        sides = [
            np.einsum("eij,ejmp->eimp", arrays.whitening, side).reshape(len(related), -1, count)
            for side in (ahead, behind)
        ]
        errors = arrays.compute_errors(poses).reshape(len(related), -1)
        weighted = [side * weights[:, None, None] for side in sides]
        blocks = [
            np.matmul(one.transpose(0, 2, 1), other)
            for one, other in ((0, 0), (1, 1), (0, 1), (1, 0))
            for one, other in [(weighted[one], sides[other])]
        ]
        right = np.zeros((arrays.count, count))
        for nodes, side in zip((arrays.first, arrays.second), weighted, strict=True):
            np.add.at(right, nodes, -np.einsum("erp,er->ep", side, errors))
        slopes = self._compute_prior_slopes(poses)
        blocks.append(np.matmul(slopes.transpose(0, 2, 1), slopes))
        pulled = np.einsum("kdp,kd->kp", slopes, self._compute_prior_errors(poses))
        np.add.at(right, arrays.prior_nodes, -pulled)
        return self._equations.solve(np.concatenate(blocks), right[self._free], tolerance)

    def _apply_step(self, poses: Array, step: Array) -> Array:
        moved = poses.copy()
        change = np.eye(self.arrays.ndim + 1) + np.einsum("np,pij->nij", step, self._generators)
        moved[self._free] = project_maps(self.arrays.model, poses[self._free] @ change)
        return moved

    def _compute_prior_errors(self, poses: Array) -> Array:
        arrays = self.arrays
        placed = np.einsum("kij,kj->ki", poses[arrays.prior_nodes], arrays.prior_points)
        return (placed[:, : arrays.ndim] - arrays.prior_positions) / self._find_prior_spread()

    def _compute_prior_slopes(self, poses: Array) -> Array:
        arrays = self.arrays
        moved = np.einsum(
            "kij,pjl,kl->kip", poses[arrays.prior_nodes], self._generators, arrays.prior_points, optimize=True
        )
        return moved[:, : arrays.ndim] / self._find_prior_spread()[:, :, None]

    def _find_prior_spread(self) -> Array:
        return self.arrays.prior_sigmas[:, None] * np.sqrt(self.arrays.ndim)
