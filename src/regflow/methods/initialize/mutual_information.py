"""Rigid and affine alignment by Mattes mutual information (SimpleITK), from many starting poses.

The search is coarse to fine. At the coarsest spacing every combination of a few rotations, with
the centers of mass laid on each other, is scored; the most promising are optimized; the best one
is polished rigidly and then affinely at the final spacing. Mutual information makes no assumption
about contrast, and the many starts solve tilts of 40 degrees and patients who lie the other way.
"""

import itertools
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.errors import RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.io.transforms import from_sitk, to_sitk
from regflow.core.resample import coarsen, to_sitk_image
from regflow.core.threads import itk_threads
from regflow.core.transform import Affine, Transform, compose
from regflow.methods.initialize.moments import mass

log = logging.getLogger(__name__)

FIRST_STEP_MM = 4.0
"""First step of the coarse search: half its usual spacing."""
LAST_STEP = 0.005
"""Step at which an optimization ends, in units of the spacing."""
FIRST_POLISH_STEP = 0.5
"""First step of the final optimizations, in units of the spacing."""
RELAXATION = 0.6
SAME_POSE_DEGREES = 12.0
"""Optimized starts that end closer than this found the same pose."""


@dataclass(frozen=True)
class Level:
    """Both images at one spacing, ready for SimpleITK."""

    fixed: Any
    moving: Any
    mask: Any
    spacing_mm: float


def mutual_information(
    fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any]
) -> Transform:
    """Find the rigid, then affine transform of greatest mutual information.

    Args:
        fixed: working fixed image; its mask, grown by one sample, says where to look.
        moving: working moving image.
        initial: transform the search starts from and is composed with.
        options: see the table in :mod:`regflow.methods.initialize`.

    Returns:
        An affine when ``initial`` is one, else a composite.

    Raises:
        RegistrationError: an image is constant or its mask empty, or the images never overlap.
    """
    _require_contrast(fixed, "fixed")
    _require_contrast(moving, "moving")
    coarse_mm, fine_mm = options["spacings_mm"]
    prior = to_sitk(initial)
    sparse = [_sparse(image, coarse_mm) for image in (fixed, moving)]
    center = mass(sparse[0])[0]
    with itk_threads(1):  # a metric's sums depend, in the last bits, on the number of threads
        coarse = _level(fixed, moving, coarse_mm)
        target = initial.inverse().apply(mass(sparse[1])[0][None])[0]
        poses = _starting_poses(center, target, options)
        best = _search(coarse, poses, center, prior, options)
        fine = _level(fixed, moving, fine_mm)
        step = FIRST_POLISH_STEP * fine_mm
        found = _optimize(fine, _rigid(best, center), prior, step, options)[0]
        if options["transform"] == "affine":
            found = _optimize(fine, _affine(found, center), prior, step, options)[0]
    return compose(found, initial)


def _require_contrast(image: Image, role: str) -> None:
    values = image.channel if image.mask is None else image.channel[image.mask]
    if values.size == 0:
        raise RegistrationError(f"mutual-information: the {role} image's mask is empty")
    if not float(values.max()) > float(values.min()):
        raise RegistrationError(f"mutual-information: the {role} image is constant inside its mask")


def _level(fixed: Image, moving: Image, spacing_mm: float) -> Level:
    """Shrink both images; the fixed mask grows by one sample, because an organ's border says much."""
    from scipy.ndimage import binary_dilation

    small, other = coarsen(fixed, spacing_mm), coarsen(moving, spacing_mm)
    mask = None if small.mask is None else to_sitk_image(binary_dilation(small.mask), small.grid)
    pictures = (to_sitk_image(part.channel, part.grid) for part in (small, other))
    return Level(*pictures, mask, spacing_mm)


def _sparse(image: Image, spacing_mm: float) -> Image:
    """Return every so many samples of an image: a center of mass needs no more."""
    steps = np.maximum(1, np.floor(spacing_mm / image.grid.spacing / 2)).astype(int)
    every = tuple(slice(None, None, int(step)) for step in steps[::-1])
    affine = np.array(image.grid.affine)
    affine[:-1, :-1] *= steps
    data = image.channel[every]
    return Image(data[None], Grid(data.shape, affine), None if image.mask is None else image.mask[every])


def _starting_poses(
    center: NDArray[np.float64], target: NDArray[np.float64], options: Mapping[str, Any]
) -> list[Affine]:
    """Return rigid starts, the plain one first: every turn, with ``center`` laid on ``target``."""
    plain = Affine.identity(center.size)
    turns = _turns(center.size, options["angles_degrees"], options["flips"])
    return [plain, *(Affine.from_parts(turn, target - center, center) for turn in turns)]


def _turns(ndim: int, angles: Sequence[float], flips: bool) -> Iterator[NDArray[np.float64]]:
    from scipy.spatial.transform import Rotation

    steps = np.deg2rad([0.0, *angles])
    if ndim == 2:
        halves = (0.0, math.pi) if flips else (0.0,)
        for half, step in itertools.product(halves, steps):
            c, s = math.cos(half + step), math.sin(half + step)
            yield np.array([[c, -s], [s, c]])
        return
    flip_vectors = [np.zeros(3), *(math.pi * axis for axis in np.eye(3))][: 4 if flips else 1]
    for flip, step in itertools.product(flip_vectors, itertools.product(steps, repeat=3)):
        yield (Rotation.from_rotvec(step) * Rotation.from_rotvec(flip)).as_matrix()


def _search(
    level: Level, poses: Sequence[Affine], center: NDArray[np.float64], prior: Any, options: Mapping[str, Any]
) -> Affine:
    """Score all poses, optimize the most promising, and return the best."""

    def score(pose: Affine) -> float:
        return _score(level, _rigid(pose, center), prior, options)

    def tune(pose: Affine) -> tuple[Affine, float]:
        return _optimize(level, _rigid(pose, center), prior, FIRST_STEP_MM, options)

    with ThreadPoolExecutor(options["threads"]) as pool:
        scores = list(pool.map(score, poses))
        # The plain start is always optimized: a header is right more often than any guess.
        order = [0, *sorted(range(1, len(poses)), key=lambda i: (scores[i], i))]
        chosen = [poses[i] for i in order if math.isfinite(scores[i])][: options["starts"]]
        if not chosen:
            raise RegistrationError("mutual-information: the images overlap from none of the starting poses")
        tuned = list(pool.map(tune, chosen))
    tuned.sort(key=lambda item: item[1])
    best, value = tuned[0]
    other = next((v for pose, v in tuned if _angle(pose, best) > SAME_POSE_DEGREES), math.nan)
    log.info("search: mutual information %.4f; the next best other pose has %.4f", -value, -other)
    return best


def _angle(a: Affine, b: Affine) -> float:
    """Return the angle in degrees between two rotations."""
    relative = a.linear @ b.linear.T
    ndim = a.ndim
    cosine = (np.trace(relative) - (ndim - 2)) / 2
    return math.degrees(math.acos(float(np.clip(cosine, -1, 1))))


def _method(level: Level, start: Any, prior: Any, options: Mapping[str, Any]) -> Any:
    import SimpleITK as sitk

    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(options["bins"])
    method.SetMetricSamplingStrategy(method.NONE)
    if level.mask is not None:
        method.SetMetricFixedMask(level.mask)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetMovingInitialTransform(prior)
    method.SetInitialTransform(start, inPlace=True)
    return method


def _score(level: Level, start: Any, prior: Any, options: Mapping[str, Any]) -> float:
    """Return the negative mutual information of a pose, infinite where the images do not overlap."""
    method = _method(level, start, prior, options)
    return _tolerant(lambda: float(method.MetricEvaluate(level.fixed, level.moving)))


def _optimize(
    level: Level, start: Any, prior: Any, step_mm: float, options: Mapping[str, Any]
) -> tuple[Affine, float]:
    """Return the optimized transform and its negative mutual information."""
    method = _method(level, start, prior, options)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=step_mm,
        minStep=LAST_STEP * level.spacing_mm,
        numberOfIterations=options["iterations"],
        relaxationFactor=RELAXATION,
    )
    method.SetOptimizerScalesFromPhysicalShift()

    def run() -> float:
        method.Execute(level.fixed, level.moving)
        return float(method.GetMetricValue())

    value = _tolerant(run)
    found = from_sitk(start)
    if not isinstance(found, Affine):
        raise TypeError(f"a linear transform came back as {type(found).__name__}")
    return found, value


def _tolerant(run: Callable[[], float]) -> float:
    """Return what ``run`` returns, or infinity where ITK says that too few samples overlap."""
    try:
        return run()
    except RuntimeError as error:
        if "samples" not in str(error) and "overlap" not in str(error):
            raise RegistrationError(f"mutual-information: {_last_line(error)}") from error
        log.debug("a pose without overlap: %s", _last_line(error))
        return math.inf


def _last_line(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "ITK gave no reason"


def _rigid(pose: Affine, center: NDArray[np.float64]) -> Any:
    import SimpleITK as sitk

    transform = sitk.VersorRigid3DTransform() if pose.ndim == 3 else sitk.Euler2DTransform()
    return _placed(transform, pose, center)


def _affine(pose: Affine, center: NDArray[np.float64]) -> Any:
    import SimpleITK as sitk

    return _placed(sitk.AffineTransform(pose.ndim), pose, center)


def _placed(transform: Any, pose: Affine, center: NDArray[np.float64]) -> Any:
    """Give an ITK transform the pose, turning about ``center``."""
    transform.SetCenter(center.tolist())
    transform.SetMatrix(pose.linear.ravel().tolist())
    transform.SetTranslation((pose.apply(center[None])[0] - center).tolist())
    return transform
