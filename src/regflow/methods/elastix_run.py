"""One way to run elastix, for the methods that use it."""

import importlib
import logging
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.boxes import crop_image, find_bounding_box
from regflow.core.errors import RegistrationError, SettingError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.resample import resample_image
from regflow.core.resources import find_resources
from regflow.core.transform import Transform
from regflow.io.transforms import read_transform
from regflow.methods.elastix_options import METRICS

log = logging.getLogger(__name__)

MAPS = find_resources() / "elastix"
MASK_MARGIN = 0.12
"""By how much the fixed mask grows, as a part of its longest side. An organ's border says much about
its pose: with a margin of 5 percent known rigid poses were missed by up to 48 mm."""
VIEW_MARGIN = 0.2
"""Background that elastix sees around a mask, as a part of the mask's extent along each axis."""
MOST_RESOLUTIONS = 10
LOG_NAME = "elastix.log"


def run_elastix(
    fixed: Image,
    moving: Image,
    maps: Sequence[str | Path],
    changes: Mapping[str, Any],
    log_file: Path | None,
    grid: Grid,
) -> Transform:
    """Register two images with elastix parameter maps, one after another.

    elastix runs on one thread, through ITK's pool of threads: with more its transforms change from
    run to run (ITKElastix issue 160), and the TBB threader can be many times slower.

    Args:
        fixed: fixed image; its mask says where samples are drawn.
        moving: moving image.
        maps: parameter files, or names of those in ``resources/elastix`` without suffix.
        changes: parameters to set in every map that has them; a list for several values.
        log_file: where elastix's log is kept; None throws it away.
        grid: where a transform that is not linear is sampled as a displacement field.

    Raises:
        SettingError: a parameter file is missing.
        RegistrationError: elastix failed; the last error of its log is quoted.
    """
    fixed, moving = _cropped(fixed), _cropped(moving)
    itk = _itk()
    with tempfile.TemporaryDirectory(prefix="elastix-") as folder:
        # The object is made first: ParameterObject is only there once elastix's modules are loaded.
        elastix = itk.ElastixRegistrationMethod.New(_to_itk(fixed), _to_itk(moving))
        elastix.SetParameterObject(_parameters(itk, maps, changes))
        if fixed.mask is not None:
            elastix.SetFixedMask(_to_itk(fixed.with_data(_grown(fixed.mask).astype(np.uint8))))
        elastix.SetOutputDirectory(folder)
        elastix.SetLogFileName(LOG_NAME)
        elastix.LogToFileOn()
        elastix.LogToConsoleOff()
        elastix.SetNumberOfThreads(1)
        try:
            elastix.UpdateLargestPossibleRegion()
        except RuntimeError as error:
            raise RegistrationError(f"elastix: {_last_error(Path(folder) / LOG_NAME, error)}") from error
        finally:
            _keep(Path(folder) / LOG_NAME, log_file)
        path = Path(folder) / "combined.h5"
        combined = elastix.ConvertToItkTransform(elastix.GetCombinationTransform())
        itk.transformwrite([combined], str(path))
        return read_transform(path, grid)


def choose_linear_parameters(options: Mapping[str, Any], fixed: Image, seed: int) -> dict[str, Any]:
    """Return what the options of an initializer change in the parameter files it runs.

    Args:
        options: ``metric``, ``samples``, ``iterations`` and ``maps``, which keep the metrics that they have.
        fixed: the image that samples are taken from, on a grid so dense that it holds ``samples``.
        seed: of the samples.
    """
    inside = fixed.channel.size if fixed.mask is None else int(_grown(fixed.mask).sum())
    step = max(1, int((inside / options["samples"]) ** (1 / fixed.grid.ndim)))
    metric = {} if options["maps"] else {"Metric": METRICS[options["metric"]]}
    return {
        **metric,
        "SampleGridSpacing": [step] * fixed.grid.ndim * MOST_RESOLUTIONS,
        "NumberOfSpatialSamples": options["samples"],
        "MaximumNumberOfIterations": options["iterations"],
        # elastix takes 0 as the time of day.
        "RandomSeed": seed + 1,
    }


def list_linear_maps(transform: str) -> list[str]:
    """Return the parameter files that lead to a ``rigid``, ``similarity`` or ``affine`` transform."""
    return list(dict.fromkeys(("rigid", transform)))


def resample_start(fixed: Image, moving: Image, initial: Transform) -> Image:
    """Return the moving image on the fixed grid through ``initial``: where elastix goes on from."""
    return resample_image(moving, fixed.grid, initial, "linear", float(moving.channel.min()))


def _cropped(image: Image) -> Image:
    """Cut an image to its mask and a margin: a wide empty background makes elastix lose the pose."""
    if image.mask is None or not image.mask.any():
        return image
    sides = [part.stop - part.start - 1 for part in find_bounding_box(image.mask)]
    margin = [max(1, round(VIEW_MARGIN * side)) for side in sides]
    return replace(crop_image(image, find_bounding_box(image.mask, margin)), labels=None)


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Grow a mask by its margin."""
    from scipy.ndimage import binary_dilation

    side = max(part.stop - part.start - 1 for part in find_bounding_box(mask))
    return np.asarray(binary_dilation(mask, iterations=max(1, round(MASK_MARGIN * side))))


def _itk() -> Any:
    # Both are read when itk is imported; in a process that has it already the calls below count.
    os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")
    os.environ.setdefault("ITK_GLOBAL_DEFAULT_THREADER", "Pool")
    importlib.import_module("itk")
    # While it is imported itk puts another module in its place. MONAI imports it, too, in the thread that
    # loads ahead: whoever waits for that thread may be given the module before, which lacks every class.
    whole = sys.modules["itk"]
    whole.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(1)
    return whole


def _to_itk(image: Image) -> Any:
    itk = _itk()
    data = np.ascontiguousarray(image.channel)
    result = itk.image_from_array(data if data.dtype == np.uint8 else data.astype(np.float32))
    result.SetOrigin(image.grid.origin.tolist())
    result.SetSpacing(image.grid.spacing.tolist())
    result.SetDirection(itk.matrix_from_array(np.ascontiguousarray(image.grid.direction)))
    return result


def _parameters(itk: Any, maps: Sequence[str | Path], changes: Mapping[str, Any]) -> Any:
    parameters = itk.ParameterObject.New()
    for number, name in enumerate(maps):
        path = Path(name) if Path(name).suffix else MAPS / f"{name}.txt"
        if not path.is_file():
            raise SettingError(f"initialize.options.elastix.maps: {path} is not there; name an elastix file")
        parameters.AddParameterFile(str(path))
        for key, value in changes.items():
            if parameters.HasParameter(number, key):
                values = value if isinstance(value, list) else [value]
                parameters.SetParameter(number, key, [str(each) for each in values])
    return parameters


def _last_error(path: Path, error: RuntimeError) -> str:
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    told = [line.strip() for line in lines if "error" in line.lower() or "exception" in line.lower()]
    return told[-1] if told else str(error).strip().splitlines()[-1]


def _keep(path: Path, target: Path | None) -> None:
    if target is not None and path.is_file():
        target.write_bytes(path.read_bytes())
