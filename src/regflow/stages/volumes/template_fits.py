"""One image's registration to the template of a round, and its record."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regflow.core.errors import InputError, RegistrationError, SettingError
from regflow.core.files import read_json, write_json
from regflow.core.gate import Verdict
from regflow.core.sampling import sample_channel
from regflow.core.similarity import ncc
from regflow.core.transform import Affine, Transform, compose_transforms, flatten_transform
from regflow.io.transforms import read_transform, write_transform
from regflow.stages.volumes.initialize import align_volumes
from regflow.stages.volumes.refine import deform_volumes
from regflow.stages.volumes.working import read_working

DEFORMABLE = "deformable"
KINDS = ("rigid", "affine", DEFORMABLE)
"""Of rounds, from little freedom to much."""
OPPOSITE = -0.05
"""Correlation below which two images of one object have contrasts that contradict each other."""
TRANSFORM_FILE, RECORD_FILE = "transform.h5", "fit.json"


@dataclass(frozen=True)
class TemplateFit:
    """What a round came to for one image.

    Attributes:
        verdict: of its registration; ``fail`` leaves it out of the round's mean.
        transform: file of the map from template to image points; None where there is none.
    """

    verdict: Verdict
    transform: Path | None

    @property
    def is_usable(self) -> bool:
        """Whether the image counts in the mean."""
        return self.transform is not None and self.verdict.status != "fail"


def register_to_template(
    folder: str | Path,
    *,
    image: str | Path,
    template: str | Path,
    kind: str,
    settings: Mapping[str, Any],
    before: str | Path | None = None,
    is_start: bool = False,
    seed: int = 0,
    threads: int = 1,
) -> Verdict:
    """Register one image to a template and write its transform, from template to image points, and record.

    Args:
        folder: to write into.
        image: the image's folder.
        template: folder of what the round registers to.
        kind: of :data:`KINDS`: how much the round leaves free.
        settings: the sections ``initialize`` and ``refine`` of the configuration, as the round has them.
        before: transform of the round before, whose linear part a deformable round begins with.
        is_start: the template is this very image.
        seed: of every random choice.
        threads: most threads to use; no result depends on it.

    Returns:
        The verdict; ``fail`` with the sentence of what was wrong where no transform was found.

    Raises:
        SettingError: an unknown method or option.
    """
    folder = Path(folder)
    fixed, moving = read_working(template), read_working(image)
    try:
        if is_start:
            transform: Transform = Affine.identity(fixed.grid.ndim)
            verdict = Verdict("pass", "the first round began with this image")
        elif kind == DEFORMABLE:
            if before is None:
                raise RegistrationError("no linear map was found in the rounds before")
            start = find_linear_part(read_transform(before, fixed.grid))
            found = deform_volumes(fixed, moving, start, settings["refine"], threads=threads, seed=seed)
            transform, verdict = found.forward, found.ladder.verdict
        else:
            aligned = align_volumes(fixed, moving, settings["initialize"], threads=threads, seed=seed)
            transform, verdict = aligned.transform, aligned.verdict
        verdict = _judge_contrast(fixed, moving, transform, verdict)
    except SettingError:
        raise
    except (InputError, RegistrationError) as error:
        verdict = Verdict("fail", str(error))
    else:
        write_transform(folder / TRANSFORM_FILE, transform)
    write_json(folder / RECORD_FILE, verdict.to_dict())
    return verdict


def read_fit(folder: str | Path) -> TemplateFit:
    """Read what :func:`register_to_template` wrote."""
    folder = Path(folder)
    path = folder / TRANSFORM_FILE
    return TemplateFit(Verdict.from_dict(read_json(folder / RECORD_FILE)), path if path.is_file() else None)


def find_linear_part(transform: Transform) -> Affine:
    """Return the linear maps of a transform as one, its displacement fields left out."""
    parts = [part for part in flatten_transform([transform]) if isinstance(part, Affine)]
    linear = compose_transforms(Affine.identity(transform.ndim), *parts)
    assert isinstance(linear, Affine)
    return linear


def _judge_contrast(fixed: Any, moving: Any, transform: Transform, verdict: Verdict) -> Verdict:
    """Return the verdict, failed where dark and bright are the other way round in one of the images."""
    low = float(moving.channel.min())
    moved = sample_channel(moving.channel, moving.grid, fixed.grid, transform, outside=low)
    figures = {**verdict.figures, "ncc": ncc(fixed.channel, moved, fixed.mask)}
    if figures["ncc"] < OPPOSITE:
        opposite = (
            f"its contrast contradicts the template's (correlation {figures['ncc']:.2f}): average images of "
            "one modality, and give others as channels"
        )
        return Verdict("fail", opposite, figures)
    return Verdict(verdict.status, verdict.reason, figures)
