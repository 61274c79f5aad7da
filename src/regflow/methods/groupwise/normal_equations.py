"""Sparse symmetric equations of small blocks, one unknown vector for each node of a graph."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

DAMPING = 1e-11
"""Added to the diagonal, as a part of it: what a graph leaves open, as where all of it lies, stays put."""
FACTORABLE = 2e10
"""Multiplications up to which a factorization within the band costs less than iterating."""
TOLERANCE = 1e-9
MOST_STEPS = 4000
"""When conjugate gradients end: the residual as a part of the right-hand side, and how many steps."""
ROUGH = 1e-3
"""The same residual where a step is followed by others anyhow."""


class NormalEquations:
    """Equations ``H x = b`` whose pattern of blocks is worked out once and filled many times.

    Chains and grids have a narrow band and are factorized. Graphs that are linked far and wide would fill
    up; conjugate gradients need few steps on just these.

    Attributes:
        rows: ``(B,)`` node of each contribution's row of blocks; -1 where the node is held.
        columns: ``(B,)`` likewise.
        count: number of unknown nodes.
        size: unknowns of each.
    """

    def __init__(self, rows: Indices, columns: Indices, count: int, size: int) -> None:
        self.count, self.size = count, size
        self._used = np.flatnonzero((rows >= 0) & (columns >= 0))
        keys = rows[self._used] * count + columns[self._used]
        # Sums run in one order, whatever the order of the links was.
        self._order = np.argsort(keys, kind="stable")
        unique, self._starts = np.unique(keys[self._order], return_index=True)
        self._indices = (unique % count).astype(np.int32)
        self._pointers = np.searchsorted(unique // count, np.arange(count + 1)).astype(np.int32)
        self._factorable = self._count_multiplications() <= FACTORABLE

    def solve(self, blocks: Array, right: Array, tolerance: float = TOLERANCE) -> Array:
        """Solve for all nodes.

        Args:
            blocks: ``(B, p, p)`` contributions to the matrix.
            right: ``(count, p)``, or ``(count, p, k)`` for several right-hand sides.
            tolerance: residual as a part of the right-hand side at which iterating ends.

        Returns:
            The unknowns, of the shape of ``right``.
        """
        from scipy.sparse import bsr_array

        if self.count == 0:
            return np.zeros_like(right)
        data = np.add.reduceat(blocks[self._used][self._order], self._starts, axis=0)
        shape = (self.count * self.size, self.count * self.size)
        matrix = bsr_array((data, self._indices, self._pointers), shape=shape)
        diagonal = matrix.diagonal()
        damping = DAMPING * np.where(diagonal > 0, diagonal, float(diagonal.max(initial=1.0)) or 1.0)
        flat = right.reshape(shape[0], -1)
        if self._factorable:
            return self._factorize(matrix, damping, flat).reshape(right.shape)
        return _iterate(matrix, damping, flat, tolerance).reshape(right.shape)

    def _factorize(self, matrix: Any, damping: Array, right: Array) -> Array:
        from scipy.sparse import csc_array, diags_array
        from scipy.sparse.linalg import splu

        factors = splu(
            csc_array(matrix + diags_array(damping)),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
        return np.asarray(factors.solve(right))

    def _count_multiplications(self) -> float:
        """Estimate what a factorization costs from the width of the band of the best simple order."""
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import reverse_cuthill_mckee

        if self.count == 0:
            return 0.0
        pattern = csr_array(
            (np.ones(len(self._indices)), self._indices, self._pointers), shape=(self.count, self.count)
        )
        place = np.empty(self.count, np.intp)
        place[reverse_cuthill_mckee(pattern, symmetric_mode=True)] = np.arange(self.count)
        rows = np.repeat(np.arange(self.count), np.diff(self._pointers))
        # A few far links widen the band for nothing; most rows tell what the factors hold.
        width = float(np.quantile(np.abs(place[rows] - place[self._indices]), 0.98))
        return self.count * (width + 1) ** 2 * self.size**3


def _iterate(matrix: Any, damping: Array, right: Array, tolerance: float) -> Array:
    """Solve by conjugate gradients, preconditioned by the diagonal blocks, each right-hand side by itself."""
    inverses = np.asarray(np.linalg.inv(_read_diagonal_blocks(matrix, damping)), np.float64)
    columns = [_descend(matrix, damping, inverses, column, tolerance) for column in right.T]
    return np.stack(columns, axis=1)


def _descend(matrix: Any, damping: Array, inverses: Array, right: Array, tolerance: float) -> Array:
    solved = np.zeros_like(right)
    residual = right.copy()
    direction = np.zeros_like(right)
    before, goal = 1.0, tolerance**2 * _dot(right, right)
    for step in range(MOST_STEPS):
        if _dot(residual, residual) <= goal:
            break
        scaled = np.einsum("nij,nj->ni", inverses, residual.reshape(len(inverses), -1)).ravel()
        now = _dot(residual, scaled)
        direction = scaled + (now / before if step else 0.0) * direction
        image = matrix @ direction + damping * direction
        length = now / _dot(direction, image)
        solved += length * direction
        residual -= length * image
        before = now
    return solved


def _read_diagonal_blocks(matrix: Any, damping: Array) -> Array:
    """Return ``(N, p, p)`` blocks of a block matrix's diagonal."""
    data, indices, pointers = matrix.data, matrix.indices, matrix.indptr
    rows = np.repeat(np.arange(len(pointers) - 1), np.diff(pointers))
    size = data.shape[1]
    blocks = np.zeros((len(pointers) - 1, size, size))
    blocks[rows[rows == indices]] = data[rows == indices]
    blocks[:, np.arange(size), np.arange(size)] += damping.reshape(-1, size)
    return blocks


def _dot(one: Array, other: Array) -> float:
    # Not by BLAS, whose last bits change with the number of threads.
    return float((one * other).sum())
