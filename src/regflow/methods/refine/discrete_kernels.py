"""The loop of :mod:`discrete_search` over every displacement, compiled by numba.

It is parallel over planes that are computed from their inputs alone, so no bit depends on the number of
threads.
"""

from typing import Any

import numpy as np

from regflow.core.kernels import njit, prange
from regflow.methods.refine import row_kernels as on_row


@njit(**on_row.ROW)
def _keep_cheapest(
    costs: Any,
    coupling: Any,
    offset: Any,
    deep: Any,
    across: Any,
    along: Any,
    number: Any,
    least: Any,
    out: Any,
) -> None:
    """Note which samples of a row have their least cost, coupling included, at an offset."""
    for x in range(out.size):
        a, b, c = offset[0] - deep[x], offset[1] - across[x], offset[2] - along[x]
        total = costs[x] + coupling * (a * a + b * b + c * c)
        cheaper = total < least[x]
        least[x] = total if cheaper else least[x]
        out[x] = number if cheaper else out[x]


@njit(**on_row.PARALLEL)
def find_coupled_minimum(costs: Any, offsets: Any, coupling: Any, field: Any, out: Any) -> None:
    """Find, for each sample by itself, the offset of least cost that is not far from a field.

    Args:
        costs: float32 ``(O, Z, Y, X)``.
        offsets: float32 ``(O, 3)``, samples.
        coupling: float32, the cost of a squared sample of distance from the field.
        field: float32 ``(3, Z, Y, X)``, samples.
        out: int32 ``(Z, Y, X)``: the number of the offset.
    """
    count, depth, height, width = costs.shape
    for plane in prange(depth):
        z = np.int64(plane)
        least = np.full((height, width), np.inf, np.float32)
        for o in range(count):
            for y in range(height):
                _keep_cheapest(
                    costs[o, z, y],
                    coupling,
                    offsets[o],
                    field[0, z, y],
                    field[1, z, y],
                    field[2, z, y],
                    np.int32(o),
                    least[y],
                    out[z, y],
                )
