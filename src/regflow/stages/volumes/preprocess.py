"""Working images: what steers a registration, never what it produces.

The steps run in one order: padding, orientation, resampling to the working grid, mask, denoising, bias
field, intensity. Each can be switched off, and each is recorded with its seconds.
"""

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from regflow.core.gate import Verdict
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.itk_threads import limit_itk_threads
from regflow.core.resample import respace_image
from regflow.core.surroundings import fill_padding
from regflow.methods.context import RunContext
from regflow.methods.preprocess import MASKS, TABLES, complete_settings, load_filter
from regflow.methods.preprocess.bias import describe_unsuitability
from regflow.methods.preprocess.orientation import choose_working_spacing, orient_image
from regflow.methods.table import find_method
from regflow.stages.landmarks import write_landmark_pairs
from regflow.stages.shell import Outcome, make_outcome, record_step, run_stage_work
from regflow.stages.volumes.ingest import read_manifest
from regflow.stages.volumes.memory import check_originals, require_memory
from regflow.stages.volumes.originals import read_landmark_files, read_original
from regflow.stages.volumes.working import read_working, write_working


@dataclass
class VolumeDraft:
    """A working image on its way.

    Attributes:
        image: as far as it is.
        steps: one record per step so far, with ``name``, ``seconds`` and what was chosen.
    """

    image: Image
    steps: list[dict[str, Any]] = field(default_factory=list)


def prepare_volume(
    image: Image, settings: Mapping[str, Any], *, reference: Image | None = None, threads: int = 1
) -> tuple[Image, list[dict[str, Any]]]:
    """Make the working image of an original image.

    Args:
        image: ``(C, *shape)`` samples of any type, with the given mask and labels if there are any.
        settings: the ``preprocess`` section of the configuration; what is missing takes its default.
        reference: the prepared fixed image, for a moving image; None for the fixed image itself.
        threads: most threads to use; no result depends on it.

    Returns:
        float32 image with its mask (None when every sample may steer) and labels, and one record
        per step with ``name``, ``seconds`` and what was chosen.

    Raises:
        InputError: the image is constant inside its mask, a mask is missing or empty, or a method
            is unknown.
        RegistrationError: the coarse registration that carries the atlas mask over failed.
    """
    settings = complete_settings(settings)
    making = _begun(image, settings, None if reference is None else reference.grid)
    _take(making, TABLES, settings, reference, threads)
    return making.image, making.steps


def prepare_pair(
    fixed: Image, moving: Image, settings: Mapping[str, Any], *, threads: int = 1
) -> tuple[VolumeDraft, VolumeDraft]:
    """Make both working images of a pair as :func:`prepare_volume` does, their bias fields side by side.

    A bias field is found on one thread, whatever ``threads``; arguments and errors as there.
    """
    settings = complete_settings(settings)
    one = _begun(fixed, settings, None)
    other = _begun(moving, settings, one.image.grid)
    _take(one, ["mask"], settings, None, threads)
    settings = {**settings, "mask": _resolved(settings["mask"], other.image, one.image)}
    if MASKS[settings["mask"]["method"]].registers:
        # It registers with the finished fixed image.
        _take(one, [kind for kind in TABLES if kind != "mask"], settings, None, threads)
        _take(other, TABLES, settings, one.image, threads)
        return one, other
    _take(other, ["mask", "denoise"], settings, one.image, threads)
    _take(one, ["denoise"], settings, None, threads)
    with limit_itk_threads(1), ThreadPoolExecutor(min(2, threads)) as pool:
        for found in [pool.submit(_take, making, ["bias"], settings, None, 1) for making in (one, other)]:
            found.result()
    _take(one, ["intensity"], settings, None, threads)
    _take(other, ["intensity"], settings, one.image, threads)
    return one, other


def preprocess(
    output: str | Path,
    *,
    sample: str,
    manifest: str | Path,
    settings: Mapping[str, Any],
    reference: str | Path | None = None,
    threads: int = 1,
) -> Outcome:
    """Make the working image of one original file.

    Writes ``image.nii`` (float32), ``mask.nii`` (uint8), ``labels.nii`` and, of a moving image,
    ``landmarks.json`` (both images' landmarks), the latter three where there are any, into ``output``.

    Args:
        output: the directory to make.
        sample: the sample's id, or the fixed image's name.
        manifest: of this image, written by ingest.
        settings: the ``preprocess`` section of the configuration.
        reference: this stage's directory of the fixed image, for a moving image.
        threads: most threads to use.
    """

    def work(folder: Path) -> Outcome:
        described = read_manifest(manifest)
        fixed = None if reference is None else read_working(reference)
        original = [(described["paths"]["image"], Grid.from_dict(described["grid"]))]
        spacing = complete_settings(settings)["spacing_mm"]
        with require_memory():
            check_originals(original, spacing, "preprocess", None if fixed is None else fixed.grid)
        image = read_original(described)
        with limit_itk_threads(threads):
            prepared, steps = prepare_volume(image, settings, reference=fixed, threads=threads)
        write_working(folder, prepared)
        write_landmark_pairs(folder, read_landmark_files(described["paths"]))
        return make_outcome(Verdict("pass", "the working image was made"), steps)

    return run_stage_work("preprocess", sample, output, [] if reference is None else [reference], work)


def _begun(image: Image, settings: Mapping[str, Any], reference: Grid | None) -> VolumeDraft:
    """Return an image with one background, turned and resampled as the settings say."""
    making = VolumeDraft(image.with_data(np.asarray(image.data, dtype=np.float32)))
    _fill_padding(making)
    if settings["orient"] and image.grid.crs is None:
        with record_step(making.steps, "orient"):
            making.image = orient_image(making.image)
    spacing = choose_working_spacing(making.image.grid, settings["spacing_mm"], reference)
    if spacing is not None:
        with record_step(making.steps, "resample", spacing_mm=spacing.tolist()):
            making.image = respace_image(making.image, spacing)
    return making


def _fill_padding(making: VolumeDraft) -> None:
    """Give padding the level of what surrounds the object, and record its values where there was any."""
    started = time.perf_counter()
    channels, replaced = zip(*(fill_padding(channel) for channel in making.image.data), strict=True)
    if any(replaced):
        making.image = making.image.with_data(np.stack(channels))
        values = sorted({value for each in replaced for value in each})
        seconds = time.perf_counter() - started
        making.steps.append({"name": "padding", "values": values, "seconds": seconds})


def _take(
    making: VolumeDraft,
    kinds: Iterable[str],
    settings: Mapping[str, Any],
    reference: Image | None,
    threads: int,
) -> None:
    """Take steps by the methods that the settings name, and record them."""
    for kind in kinds:
        image, chosen = making.image, settings[kind]
        if kind == "mask":
            chosen = _resolved(chosen, image, reference)
        run = load_filter(kind, chosen["method"])
        if run is None:
            continue
        details = {key: chosen[key] for key in ("method", "reason") if key in chosen}
        with record_step(making.steps, kind, **details) as record:
            skipped = describe_unsuitability(image) if kind == "bias" else None
            if skipped is not None:
                record["skipped"] = skipped
                continue
            options = chosen["options"].get(chosen["method"], {})
            making.image = run(image, reference, options, RunContext(threads=threads))
            if kind == "mask" and making.image.mask is not None:
                record["share"] = float(making.image.mask.mean())


def _resolved(chosen: Mapping[str, Any], image: Image, reference: Image | None) -> Mapping[str, Any]:
    """Return a mask's settings with the method that a row chooses, where it does, and the reason."""
    choose = find_method(MASKS, chosen["method"], "preprocess: mask").load_choose()
    if choose is None:
        return chosen
    method, reason = choose(image, reference)
    return {**chosen, "method": method, "reason": reason}
