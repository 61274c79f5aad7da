"""What several files of kernels share: loops over one row of samples, and how they are compiled.

Rows are contiguous, and each loop is a function of its own, so that the compiler turns it into vector
instructions.
"""

from typing import Any

from regflow.core.kernels import njit

MATH = {"contract", "nsz", "arcp"}
"""Sums keep their order: the compiler would put it otherwise in a process that compiles a kernel than in the
code that it keeps for the next, and the bytes of the first run would be of its own."""
ROW: dict[str, Any] = {"cache": True, "error_model": "numpy", "fastmath": MATH}
PARALLEL: dict[str, Any] = {**ROW, "parallel": True}


@njit(**ROW)
def add_row(source: Any, out: Any) -> None:
    """Add a row to another."""
    for x in range(out.size):
        out[x] += source[x]


@njit(**ROW)
def multiply_row(factors: Any, out: Any) -> None:
    """Multiply a row by another."""
    for x in range(out.size):
        out[x] *= factors[x]


@njit(**ROW)
def find_box(spans: Any) -> Any:
    """Return the rows ``first, end`` and samples ``first, end`` that a plane's spans ``(Y, 2)`` lie in.

    Without any, ``first`` is not before ``end``.
    """
    top, bottom, left, right = spans.shape[0], 0, spans[:, 1].max(), 0
    for y in range(spans.shape[0]):
        if spans[y, 0] < spans[y, 1]:
            top, bottom = min(top, y), y + 1
            left, right = min(left, spans[y, 0]), max(right, spans[y, 1])
    return top, bottom, left, right
