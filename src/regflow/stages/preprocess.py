"""Working images: what steers a registration, never what it produces.

The steps run in one order: orientation, resampling to the working grid, mask, denoising, bias
field, intensity. Each can be switched off, and each is recorded with its seconds.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from regflow.core.gate import Verdict
from regflow.core.image import Image
from regflow.core.resample import respace
from regflow.core.threads import itk_threads
from regflow.methods.preprocess import TABLES, complete, load
from regflow.methods.preprocess.bias import unsuitable
from regflow.methods.preprocess.masks import choose
from regflow.methods.preprocess.orientation import orient, working_spacing
from regflow.stages.ingest import read_manifest
from regflow.stages.originals import read_original
from regflow.stages.outcome import Outcome, conclude, done, timed
from regflow.stages.working import read_working, write_working


def prepare(
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
    settings = complete(settings)
    steps: list[dict[str, Any]] = []
    image = image.with_data(np.asarray(image.data, dtype=np.float32))
    if settings["orient"] and image.grid.crs is None:
        with timed(steps, "orient"):
            image = orient(image)
    reference_grid = None if reference is None else reference.grid
    spacing = working_spacing(image.grid, settings["spacing_mm"], reference_grid)
    if spacing is not None:
        with timed(steps, "resample", spacing_mm=spacing.tolist()):
            image = respace(image, spacing)
    for kind in TABLES:
        image = _step(kind, image, reference, settings[kind], threads, steps)
    return image, steps


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

    Writes ``image.nii`` (float32), ``mask.nii`` (uint8) and ``labels.nii``, the latter two where
    there are any, into ``output``.

    Args:
        output: the directory to make.
        sample: the sample's id, or the fixed image's name.
        manifest: of this image, written by ingest.
        settings: the ``preprocess`` section of the configuration.
        reference: this stage's directory of the fixed image, for a moving image.
        threads: most threads to use.
    """

    def work(folder: Path) -> Outcome:
        original = read_original(read_manifest(manifest))
        fixed = None if reference is None else read_working(reference)
        with itk_threads(threads):
            prepared, steps = prepare(original, settings, reference=fixed, threads=threads)
        write_working(folder, prepared)
        return done(Verdict("pass", "the working image was made"), steps)

    return conclude("preprocess", sample, output, [] if reference is None else [reference], work)


def _step(
    kind: str,
    image: Image,
    reference: Image | None,
    settings: Mapping[str, Any],
    threads: int,
    steps: list[dict[str, Any]],
) -> Image:
    """Run one kind of step by the method its settings name, and record it."""
    method, details = settings["method"], {}
    if method == "auto":
        method, details["reason"] = choose(image, reference)
    run = load(kind, method)
    if run is None:
        return image
    with timed(steps, kind, method=method, **details) as record:
        skipped = unsuitable(image) if kind == "bias" else None
        if skipped is not None:
            record["skipped"] = skipped
            return image
        image = run(image, reference, {**settings["options"].get(method, {}), "threads": threads})
        if kind == "mask" and image.mask is not None:
            record["share"] = float(image.mask.mean())
    return image
