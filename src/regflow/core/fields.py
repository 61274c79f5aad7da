"""Displacement fields on a grid's own samples: convert, sample, compose, invert, differentiate.

A VOXEL FIELD is float32 ``(d, *shape)``, ``d`` 2 or 3, its components in ARRAY order ``(z, y, x)``
and in samples of its grid: sample ``i`` goes to position ``i + u(i)``. Positions beyond the border
take the border's value. Every sample is computed by itself, so nothing depends on the number of
threads.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.grid import Grid
from regflow.core.kernels import njit, prange

VoxelField = NDArray[np.float32]

INVERSE_ITERATIONS = 40
INVERSE_TOLERANCE = 0.001
"""Largest change, in samples, of an inverse's last iteration."""

_PARALLEL: dict[str, Any] = {"parallel": True, "cache": True, "error_model": "numpy"}


def to_voxels(vectors: NDArray[Any], grid: Grid) -> VoxelField:
    """Convert world displacements ``(d, *shape)``, components ``(x, y, z)``, to a voxel field."""
    return _turned(vectors, np.linalg.inv(grid.affine[:-1, :-1])[::-1])


def to_world(voxels: NDArray[Any], grid: Grid) -> NDArray[np.float32]:
    """Convert a voxel field to world displacements ``(d, *shape)``, components ``(x, y, z)``."""
    return _turned(voxels, grid.affine[:-1, :-1][:, ::-1])


def warp_channels(data: NDArray[np.float32], field: VoxelField) -> NDArray[np.float32]:
    """Sample one channel linearly at ``i + u(i)``; both ``shape`` and ``(d, *shape)``."""
    out = np.empty((1, *field.shape[1:]), np.float32)
    return np.asarray(_pulled(np.asarray(data, np.float32)[None], field, out)[0])


def compose_displacements(outer: VoxelField, inner: VoxelField) -> VoxelField:
    """Return the field that applies ``inner`` first, then ``outer``: ``inner + outer(i + inner)``."""
    return np.asarray(_pulled(outer, inner, np.empty_like(inner)) + inner)


def invert_displacement(
    field: VoxelField, iterations: int = INVERSE_ITERATIONS, tolerance: float = INVERSE_TOLERANCE
) -> VoxelField:
    """Return the field that undoes ``field``, by the fixed point ``v <- -u(i + v)``.

    Every sample iterates by itself, until it moves by less than ``tolerance`` samples or for
    ``iterations``; a step that is not shorter than the last is halved, which carries it over places
    where the displacement's slope reaches one. :func:`measure_inverse_residual` measures the result.
    Source: Chen et al., Medical Physics 35(1):81-88, 2008.
    """
    volume = view_as_volume(field)
    out = np.empty_like(volume)
    _invert(volume, iterations, np.float32(tolerance), out)
    return out[-field.shape[0] :].reshape(field.shape)


def measure_inverse_residual(forward: VoxelField, backward: VoxelField) -> NDArray[np.float32]:
    """Return, per sample, how far ``backward`` after ``forward`` ends from where it began, in samples."""
    return np.asarray(np.linalg.norm(compose_displacements(backward, forward), axis=0))


def compute_jacobian_determinant(field: VoxelField) -> NDArray[np.float32]:
    """Return the Jacobian determinant of ``i -> i + u(i)``, ``shape``.

    Central differences, one-sided at the border; 1 is no change of volume, 0 or less is folding.
    """
    volume = view_as_volume(field)
    out = np.empty(volume.shape[1:], np.float32)
    _determinant(volume, out)
    return out.reshape(field.shape[1:])


def resize_displacement(field: VoxelField, shape: tuple[int, ...]) -> VoxelField:
    """Bring a voxel field onto a grid of the same extent with ``shape`` samples.

    Borders, not centers, of the outer samples coincide (:meth:`Grid.with_spacing` up to rounding);
    displacements are converted to the new samples.
    """
    volume, target = view_as_volume(field), (1,) * (4 - field.ndim) + tuple(shape)
    ratio = (np.array(volume.shape[1:], np.float64) / target).astype(np.float32)
    out = np.empty((3, *target), np.float32)
    _resize(volume, ratio, np.float32(1) / ratio, out)
    return out[-field.shape[0] :].reshape(field.shape[0], *shape)


def sample_blocks(volume: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Sample a volume ``(Z, Y, X)`` at the centers of ``shape`` equal blocks of it, without filtering."""
    ratio = (np.array(volume.shape, np.float64) / shape).astype(np.float32)
    out = np.empty((1, *shape), np.float32)
    _resize(np.ascontiguousarray(volume)[None], ratio, np.ones(1, np.float32), out)
    return np.asarray(out[0])


def _turned(vectors: NDArray[Any], matrix: NDArray[Any]) -> NDArray[np.float32]:
    flat = np.asarray(vectors, np.float32).reshape(vectors.shape[0], -1)
    if np.count_nonzero(matrix) == matrix.shape[0]:
        # Axes along the world's, the usual case: scale and reorder without a matrix product.
        source = np.argmax(np.abs(matrix), axis=1)
        factors = matrix[np.arange(len(source)), source].astype(np.float32)
        turned = np.empty((len(source), flat.shape[1]), np.float32)
        for component, taken, factor in zip(turned, source, factors, strict=True):
            np.multiply(flat[taken], factor, out=component)
    else:
        turned = np.einsum("ij,jn->in", matrix.astype(np.float32), flat)
    return turned.reshape(vectors.shape)


def view_as_volume(field: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a field as ``(3, Z, Y, X)``: a 2-D one gets one slice and a zero first component."""
    if field.shape[0] == 3:
        return np.ascontiguousarray(field, np.float32)
    volume = np.zeros((3, 1, *field.shape[1:]), np.float32)
    volume[1:, 0] = field
    return volume


def _pulled(
    channels: NDArray[np.float32], field: VoxelField, out: NDArray[np.float32]
) -> NDArray[np.float32]:
    shape = (1,) * (3 - field.shape[0]) + field.shape[1:]
    source = np.ascontiguousarray(channels, np.float32)
    depth = (1,) * (3 - field.shape[0]) + source.shape[1:]
    _pull(source.reshape(-1, *depth), view_as_volume(field), out.reshape(-1, *shape))
    return out


@njit(cache=True, inline="always")
def _split(position: np.float32, length: int) -> tuple[int, int, np.float32]:
    """Lower and upper neighbor of a clamped position, and the weight of the upper."""
    position = min(max(position, np.float32(0)), np.float32(length - 1))
    low = min(int(position), max(length - 2, 0))
    return low, min(low + 1, length - 1), position - np.float32(low)


@njit(**_PARALLEL)
def _pull(channels: Any, field: Any, out: Any) -> None:
    count = channels.shape[0]
    depth, height, width = channels.shape[1:]
    for z in prange(out.shape[1]):
        for y in range(out.shape[2]):
            for x in range(out.shape[3]):
                z0, z1, c = _split(np.float32(z) + field[0, z, y, x], depth)
                y0, y1, b = _split(np.float32(y) + field[1, z, y, x], height)
                x0, x1, a = _split(np.float32(x) + field[2, z, y, x], width)
                for n in range(count):
                    out[n, z, y, x] = _blend(channels[n], z0, z1, c, y0, y1, b, x0, x1, a)


@njit(**_PARALLEL)
def _invert(field: Any, iterations: int, tolerance: Any, out: Any) -> None:
    depth, height, width = field.shape[1:]
    for z in prange(depth):
        for y in range(height):
            for x in range(width):
                v0, v1, v2 = -field[0, z, y, x], -field[1, z, y, x], -field[2, z, y, x]
                last = np.float32(np.inf)
                damping = np.float32(1)
                for _ in range(iterations):
                    z0, z1, c = _split(np.float32(z) + v0, depth)
                    y0, y1, b = _split(np.float32(y) + v1, height)
                    x0, x1, a = _split(np.float32(x) + v2, width)
                    d0 = -_blend(field[0], z0, z1, c, y0, y1, b, x0, x1, a) - v0
                    d1 = -_blend(field[1], z0, z1, c, y0, y1, b, x0, x1, a) - v1
                    d2 = -_blend(field[2], z0, z1, c, y0, y1, b, x0, x1, a) - v2
                    length = np.sqrt(d0 * d0 + d1 * d1 + d2 * d2)
                    if length >= last:
                        damping = max(damping * np.float32(0.5), np.float32(0.05))
                    last = length
                    v0, v1, v2 = v0 + damping * d0, v1 + damping * d1, v2 + damping * d2
                    if length < tolerance:
                        break
                out[0, z, y, x], out[1, z, y, x], out[2, z, y, x] = v0, v1, v2


@njit(cache=True, inline="always")
def _blend(
    v: Any, z0: int, z1: int, c: Any, y0: int, y1: int, b: Any, x0: int, x1: int, a: Any
) -> np.float32:
    """Interpolate linearly between eight samples of a volume."""
    s00 = v[z0, y0, x0] + a * (v[z0, y0, x1] - v[z0, y0, x0])
    s01 = v[z0, y1, x0] + a * (v[z0, y1, x1] - v[z0, y1, x0])
    s10 = v[z1, y0, x0] + a * (v[z1, y0, x1] - v[z1, y0, x0])
    s11 = v[z1, y1, x0] + a * (v[z1, y1, x1] - v[z1, y1, x0])
    s0 = s00 + b * (s01 - s00)
    return s0 + c * (s10 + b * (s11 - s10) - s0)


@njit(cache=True, inline="always")
def _slope(values: Any, low: int, high: int) -> np.float32:
    return (values[high] - values[low]) / np.float32(max(high - low, 1))


@njit(**_PARALLEL)
def _determinant(field: Any, out: Any) -> None:
    depth, height, width = out.shape
    one = np.float32(1)
    for z in prange(depth):
        z0, z1 = max(z - 1, 0), min(z + 1, depth - 1)
        for y in range(height):
            y0, y1 = max(y - 1, 0), min(y + 1, height - 1)
            for x in range(width):
                x0, x1 = max(x - 1, 0), min(x + 1, width - 1)
                a = one + _slope(field[0, :, y, x], z0, z1)
                b = _slope(field[0, z, :, x], y0, y1)
                c = _slope(field[0, z, y, :], x0, x1)
                d = _slope(field[1, :, y, x], z0, z1)
                e = one + _slope(field[1, z, :, x], y0, y1)
                f = _slope(field[1, z, y, :], x0, x1)
                g = _slope(field[2, :, y, x], z0, z1)
                h = _slope(field[2, z, :, x], y0, y1)
                i = one + _slope(field[2, z, y, :], x0, x1)
                out[z, y, x] = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


@njit(**_PARALLEL)
def _resize(field: Any, ratio: Any, factor: Any, out: Any) -> None:
    depth, height, width = field.shape[1:]
    half = np.float32(0.5)
    for z in prange(out.shape[1]):
        z0, z1, c = _split((np.float32(z) + half) * ratio[0] - half, depth)
        for y in range(out.shape[2]):
            y0, y1, b = _split((np.float32(y) + half) * ratio[1] - half, height)
            for x in range(out.shape[3]):
                x0, x1, a = _split((np.float32(x) + half) * ratio[2] - half, width)
                for n in range(field.shape[0]):
                    out[n, z, y, x] = factor[n] * _blend(field[n], z0, z1, c, y0, y1, b, x0, x1, a)
