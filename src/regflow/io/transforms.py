"""Transforms as standard ITK files: ``.h5`` written, everything SimpleITK knows read.

A composite ``.h5`` holds its parts in ITK's queue order, the last one applied first, which is how
ANTs, Slicer and SimpleITK read it.
"""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import InputError
from regflow.core.files import write_whole
from regflow.core.grid import Grid
from regflow.core.itk import from_sitk, split_for_itk
from regflow.core.transform import Affine, Composite, DisplacementField, Transform
from regflow.io.itk_files import ITK_ERRORS
from regflow.io.transform_counts import refuse_incomplete

FIELD_STEPS_PER_SAMPLE = 1024
"""Displacements are rounded to at least this many steps per sample: far below any method's error
(a micrometer at 1 mm), and it lets the file compress to a third."""


def write_transform(path: str | Path, transform: Transform) -> None:
    """Write a transform as an ITK ``.h5``, whole or not at all.

    Displacements are stored as float32, rounded as :data:`FIELD_STEPS_PER_SAMPLE` says, so equal
    transforms give equal bytes.

    Raises:
        InputError: ITK has no such transform, as for a homography; nothing is written.
    """
    import h5py

    # HDF5 crashes the process when the disk is full, so it gets to write to memory only.
    image = BytesIO()
    with h5py.File(image, "w") as store:
        for name, text in (("ITKVersion", "5.4"), ("HDFVersion", "1.14"), ("OSName", ""), ("OSVersion", "")):
            _write_text(store, name, text)
        _write_parts(store.create_group("TransformGroup"), transform)
    with write_whole(path) as part:
        part.write_bytes(image.getbuffer())


def read_transform(path: str | Path, grid: Grid | None = None) -> Transform:
    """Read any transform file that SimpleITK reads (``.h5``, ``.tfm``, ``.mat``, ``.txt``, ``.xfm``).

    Args:
        path: the file.
        grid: where to sample a transform that is neither linear nor a displacement field
            (a B-spline); without it such a file is refused.

    Raises:
        InputError: the file cannot be read, or it needs a grid and none is given.
    """
    import SimpleITK as sitk

    if not Path(path).is_file():
        raise InputError(f"{path}: this transform file does not exist")
    refuse_incomplete(Path(path))
    try:
        content = sitk.ReadTransform(str(path))
    except ITK_ERRORS as error:
        raise InputError(
            f"{path}: not a transform that SimpleITK reads; write it as ITK .h5 or .tfm"
        ) from error
    return from_sitk(content, grid, str(path))


def _write_parts(group: Any, transform: Transform) -> None:
    parts = split_for_itk(transform)
    if not isinstance(transform, Composite):
        _write_part(group.create_group("0"), parts[0])
        return
    ndim = transform.ndim
    _write_text(group.create_group("0"), "TransformType", f"CompositeTransform_double_{ndim}_{ndim}")
    for number, item in enumerate(reversed(parts), start=1):
        _write_part(group.create_group(str(number)), item)


def _write_part(group: Any, part: Affine | DisplacementField) -> None:
    if isinstance(part, Affine):
        _write_text(group, "TransformType", f"AffineTransform_double_{part.ndim}_{part.ndim}")
        parameters: NDArray[Any] = np.concatenate([part.linear.ravel(), part.translation])
        _write_numbers(group, np.zeros(part.ndim), parameters)
    else:
        _write_text(group, "TransformType", f"DisplacementFieldTransform_double_{part.ndim}_{part.ndim}")
        geometry = part.grid
        fixed: Sequence[Any] = (geometry.size, geometry.origin, geometry.spacing, geometry.direction.ravel())
        quantum = 2.0 ** np.floor(np.log2(geometry.spacing.min() / FIELD_STEPS_PER_SAMPLE))
        stacked = np.moveaxis(part.vectors, 0, -1) / np.float32(quantum)
        rounded = np.rint(stacked, out=stacked) * np.float32(quantum)
        # Adding zero turns -0.0 into 0.0: one number, one pattern of bytes.
        _write_numbers(group, np.concatenate(fixed), (rounded + np.float32(0)).ravel())


def _write_numbers(group: Any, fixed: NDArray[Any], parameters: NDArray[Any]) -> None:
    group.create_dataset("TransformFixedParameters", data=np.asarray(fixed, dtype=np.float64))
    if parameters.size < 1024:
        group.create_dataset("TransformParameters", data=parameters)
        return
    chunk = min(parameters.size, 1 << 18)
    group.create_dataset(
        "TransformParameters",
        data=parameters,
        chunks=(chunk,),
        compression="gzip",
        compression_opts=1,
        shuffle=True,
    )


def _write_text(group: Any, name: str, text: str) -> None:
    import h5py

    group.create_dataset(name, data=[text], dtype=h5py.string_dtype("ascii"))
