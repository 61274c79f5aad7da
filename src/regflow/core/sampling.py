"""Sampling working volumes through a transform, where speed counts: several times SimpleITK's.

Products are sampled by :mod:`resample`; this agrees with it to the precision of float32.
"""

import numpy as np
from numpy.typing import NDArray

from regflow.core.grid import Grid
from regflow.core.resample import resample_array
from regflow.core.transform import Affine, DisplacementField, Transform, flatten_transform

Chain = tuple[Affine, DisplacementField | None, Affine]


def sample_channel(
    data: NDArray[np.float32],
    source: Grid,
    target: Grid,
    transform: Transform,
    interpolation: str = "linear",
    outside: float = 0.0,
) -> NDArray[np.float32]:
    """Resample one channel, linearly or by a cubic B-spline.

    Volumes through affines and at most one displacement field are sampled here, all else by
    :func:`resample_array`. Not from several threads at a time: numba's own are at work.

    Args:
        data: float32 ``source.shape``.
        source: the grid of ``data``, moving.
        target: the grid of the result, fixed.
        transform: from target world points to source world points.
        interpolation: ``linear`` or ``cubic``, which may overshoot.
        outside: value where the source has no sample.

    Returns:
        ``target.shape`` float32.
    """
    chain = _chain(transform) if target.ndim == 3 else None
    if chain is None:
        return np.asarray(
            resample_array(data, source, target, transform, interpolation, outside), dtype=np.float32
        )
    from regflow.core import sampling_kernels as kernels

    before, field, after = chain
    values = np.array(data, dtype=np.float32, order="C")
    if interpolation == "cubic":
        kernels.compute_spline_coefficients(values)
    onto = np.linalg.inv(source.affine) @ after.matrix
    to_source = onto @ before.matrix @ target.affine
    to_field = (
        np.eye(4) if field is None else np.linalg.inv(field.grid.affine) @ before.matrix @ target.affine
    )
    vectors = np.empty((3, 0, 0, 0), np.float32) if field is None else np.ascontiguousarray(field.vectors)
    out = np.empty(target.shape, np.float32)
    kernels.sample_at(
        values,
        _by_array(to_field),
        vectors,
        _by_array(to_source),
        np.ascontiguousarray(onto[2::-1, :3]),
        interpolation == "cubic",
        np.float32(outside),
        out,
    )
    return out


def _by_array(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows and columns of a map between indices in array order, ``(3, 4)``."""
    return np.ascontiguousarray(matrix[2::-1, [2, 1, 0, 3]])


def _chain(transform: Transform) -> Chain | None:
    """Return a transform as an affine, a field and an affine, or None when it is nothing of the kind."""
    found: list[Affine | DisplacementField] = []
    for part in flatten_transform([transform]):
        if not isinstance(part, (Affine, DisplacementField)):
            return None
        found.append(part)
    places = [place for place, part in enumerate(found) if isinstance(part, DisplacementField)]
    if len(places) > 1:
        return None
    place = places[0] if places else len(found)
    field = found[place] if places else None
    assert field is None or isinstance(field, DisplacementField)
    return _product(found[:place]), field, _product(found[place + 1 :])


def _product(parts: list[Affine | DisplacementField]) -> Affine:
    matrix = np.eye(4)
    for part in parts:
        assert isinstance(part, Affine)
        matrix = part.matrix @ matrix
    return Affine(matrix)
