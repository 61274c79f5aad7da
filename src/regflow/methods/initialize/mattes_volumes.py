"""Linear climbing of SimpleITK's Mattes mutual information, from a pose already near.

Source: Mattes et al., IEEE Trans. Medical Imaging 22(1):120-128, 2003, as in ITK.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from regflow.core.boxes import find_bounding_box
from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.itk import from_sitk, to_sitk
from regflow.core.itk_threads import limit_itk_threads
from regflow.core.resample import coarsen_image, to_sitk_image
from regflow.core.transform import Affine

if TYPE_CHECKING:
    import SimpleITK as sitk

log = logging.getLogger(__name__)

FIRST_STEP, LAST_STEP = 0.5, 0.005
"""Steps of the optimizer at its start and end, in units of the spacing."""
RELAXATION = 0.6
ITERATIONS = 100


def maximize_mattes(
    fixed: Image, moving: Image, start: Affine, spacings: Sequence[float], *, bins: int, transform: str
) -> Affine:
    """Climb at each spacing in turn; one thread, because sums depend on their number.

    Args:
        fixed: working fixed image; its mask, grown by a sample, is where the metric is taken.
        moving: working moving image.
        start: fixed to moving world points, near the maximum.
        spacings: in mm, coarsest first.
        bins: of the joint histogram.
        transform: ``rigid``, or ``similarity`` or ``affine`` after it.

    Raises:
        RegistrationError: the images hardly overlap; ITK's reason is quoted.
    """
    found, center = start, fixed.grid.center
    with limit_itk_threads(1):
        for spacing in spacings:
            parts = coarsen_image(fixed, spacing), coarsen_image(moving, spacing)
            for kind in dict.fromkeys(("rigid", transform)):
                unit = _extent(parts[0]) if kind == "similarity" else 1.0
                found = _climb(parts, found, _identity_about(center / unit, kind), bins, unit)
    return found


def _climb(
    parts: tuple[Image, Image], start: Affine, correction: "sitk.Transform", bins: int, unit: float
) -> Affine:
    """Return the start after the best correction, which begins as the identity.

    The optimizer's steps have one length whatever mixture of parameters they change. Lengths are given
    in a ``unit``, so that for a similarity a step of its scale reaches no farther than one of its shift.
    """
    import SimpleITK as sitk
    from scipy.ndimage import binary_dilation

    fixed, moving = (replace(part, grid=_enlarged(part.grid, 1 / unit)) for part in parts)
    spacing = float(fixed.grid.spacing.max())
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(bins)
    method.SetMetricSamplingStrategy(method.NONE)
    if fixed.mask is not None:
        method.SetMetricFixedMask(to_sitk_image(binary_dilation(fixed.mask), fixed.grid))
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        FIRST_STEP * spacing, LAST_STEP * spacing, ITERATIONS, relaxationFactor=RELAXATION
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetMovingInitialTransform(to_sitk(Affine.from_parts(start.linear, start.translation / unit)))
    method.SetInitialTransform(correction, inPlace=True)
    try:
        method.Execute(*(to_sitk_image(np.asarray(part.channel), part.grid) for part in (fixed, moving)))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise RegistrationError(f"mutual-information: SimpleITK could not climb ({reason})") from error
    log.info("SimpleITK, %.1f mm: mutual information %.4f", spacing * unit, -method.GetMetricValue())
    step = from_sitk(correction)
    assert isinstance(step, Affine)
    return Affine(start.matrix @ Affine.from_parts(step.linear, step.translation * unit).matrix)


def _enlarged(grid: Grid, factor: float) -> Grid:
    """Return a grid with all lengths multiplied."""
    if factor == 1:
        return grid
    affine = grid.affine.copy()
    affine[:-1] *= factor
    return Grid(grid.shape, affine)


def _extent(image: Image) -> float:
    """Return half the longest side of an image's mask: how far its samples are from the middle."""
    mask = np.ones(image.grid.shape, dtype=bool) if image.mask is None else image.mask
    sides = [part.stop - part.start for part in find_bounding_box(mask)]
    return float((np.array(sides[::-1]) * image.grid.spacing).max()) / 2


def _identity_about(center: np.ndarray, kind: str) -> "sitk.Transform":
    """Return a transform of a kind that moves nothing yet and turns about ``center``."""
    import SimpleITK as sitk

    kinds: dict[str, tuple[Callable[[], Any], ...]] = {
        "rigid": (sitk.Euler2DTransform, sitk.VersorRigid3DTransform),
        "similarity": (sitk.Similarity2DTransform, sitk.Similarity3DTransform),
        "affine": (lambda: sitk.AffineTransform(2), lambda: sitk.AffineTransform(3)),
    }
    transform: sitk.Transform = kinds[kind][len(center) - 2]()
    transform.SetCenter(center.tolist())  # type: ignore[attr-defined]
    return transform
