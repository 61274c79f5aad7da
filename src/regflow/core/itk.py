"""Transforms as SimpleITK has them, and back."""

from typing import TYPE_CHECKING, Any

import numpy as np

from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.core.transform import Affine, Composite, DisplacementField, Transform, flatten_transform

if TYPE_CHECKING:
    import SimpleITK as sitk


def from_sitk(content: "sitk.Transform", grid: Grid | None = None, name: str = "transform") -> Transform:
    """Convert a SimpleITK transform; see :func:`read_transform` for ``grid`` and errors."""
    import SimpleITK as sitk

    content = content.Downcast()
    if isinstance(content, sitk.CompositeTransform):
        count = content.GetNumberOfTransforms()
        if not count:
            return Affine.identity(content.GetDimension())
        parts = [from_sitk(content.GetNthTransform(i), grid, name) for i in reversed(range(count))]
        return Composite(tuple(parts))
    if isinstance(content, sitk.DisplacementFieldTransform):
        return _field_from_sitk(content.GetDisplacementField())
    if content.IsLinear():
        return _affine_from_sitk(content)
    if grid is None:
        raise InputError(f"{name}: a {content.GetName()} must be sampled; give the fixed image it belongs to")
    sampled = sitk.TransformToDisplacementField(
        content,
        sitk.sitkVectorFloat64,
        grid.size,
        grid.origin.tolist(),
        grid.spacing.tolist(),
        grid.direction.ravel().tolist(),
    )
    return _field_from_sitk(sampled)


def to_sitk(transform: Transform) -> "sitk.Transform":
    """Convert to SimpleITK: an affine, a displacement field (float64) or a composite of them.

    Raises:
        InputError: ITK has no such transform.
    """
    import SimpleITK as sitk

    parts = split_for_itk(transform)
    if not isinstance(transform, Composite):
        return _part_to_sitk(parts[0])
    composite = sitk.CompositeTransform(transform.ndim)
    for part in reversed(parts):
        composite.AddTransform(_part_to_sitk(part))
    return composite


def split_for_itk(transform: Transform) -> list[Affine | DisplacementField]:
    """Return the parts of a transform in order of application, all of which ITK has.

    Raises:
        InputError: ITK has no such transform, as for a homography.
    """
    parts: list[Affine | DisplacementField] = []
    for part in flatten_transform([transform]):
        if not isinstance(part, Affine | DisplacementField):
            raise InputError(
                f"ITK has no transform like a {type(part).__name__}; sample it as a displacement field, or "
                "write a transform of scenes as transform.json"
            )
        parts.append(part)
    return parts


def _part_to_sitk(transform: Affine | DisplacementField) -> "sitk.Transform":
    import SimpleITK as sitk

    if isinstance(transform, Affine):
        affine = sitk.AffineTransform(transform.ndim)
        affine.SetMatrix(transform.linear.ravel().tolist())
        affine.SetTranslation(transform.translation.tolist())
        return affine
    stacked = np.ascontiguousarray(np.moveaxis(transform.vectors, 0, -1), dtype=np.float64)
    field = sitk.GetImageFromArray(stacked, isVector=True)
    field.SetOrigin(transform.grid.origin.tolist())
    field.SetSpacing(transform.grid.spacing.tolist())
    field.SetDirection(transform.grid.direction.ravel().tolist())
    return sitk.DisplacementFieldTransform(field)


def _affine_from_sitk(content: Any) -> Affine:
    ndim = content.GetDimension()
    origin = np.array(content.TransformPoint([0.0] * ndim))
    axes = [np.array(content.TransformPoint(row.tolist())) - origin for row in np.eye(ndim)]
    if hasattr(content, "GetMatrix"):
        linear = np.reshape(content.GetMatrix(), (ndim, ndim))
    else:
        linear = np.stack(axes, axis=1)
    return Affine.from_parts(linear, origin)


def _field_from_sitk(image: "sitk.Image") -> DisplacementField:
    import SimpleITK as sitk

    vectors = np.moveaxis(sitk.GetArrayViewFromImage(image), -1, 0).astype(np.float32)
    grid = Grid.from_geometry(
        vectors.shape[1:], image.GetSpacing(), image.GetOrigin(), np.array(image.GetDirection())
    )
    return DisplacementField(vectors, grid)
