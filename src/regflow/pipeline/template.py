"""A template of images: all rounds, the products in a folder, and the result in memory."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from regflow.core.errors import InputError
from regflow.core.files import link_or_copy, read_json, write_json, write_whole, write_whole_directory
from regflow.core.image import Image
from regflow.core.progress import StageListener, ignore_events
from regflow.core.transform import Transform, compose_transforms
from regflow.io.text_files import write_tsv
from regflow.pipeline.exchange import ResultFolder, load_product
from regflow.pipeline.step_folders import STEPS, read_key
from regflow.pipeline.template_rounds import count_steps, plan_rounds, run_rounds
from regflow.pipeline.template_samples import (
    TemplateSample,
    add_mirrored,
    check_template_samples,
    split_subjects,
)
from regflow.pipeline.template_steps import TemplateJob, make_key
from regflow.stages.volumes.template_images import read_channel
from regflow.stages.volumes.template_mean import TRANSFORMS, read_mean

log = logging.getLogger(__name__)

IMAGE, MASK, RECORD, TABLE, ROUNDS_TABLE, PAGE = (
    *("template.nii.gz", "template_mask.nii.gz", "template.json", "samples.tsv", "rounds.tsv", "report.html"),
)
SUBJECTS, INVERSES = "subjects", "inverses"


@dataclass(frozen=True, eq=False, repr=False)
class TemplateResult:
    """A template, and what it was made from.

    Where no folder was named, the files live in a temporary one that goes with this object: keep the object,
    or :meth:`save`, as long as a path that it gave is in use.

    Attributes:
        history: a record for each round, in order: ``kind``, and figures as ``drift_mm``, ``spread_mm``,
            ``gradient_energy`` and ``change_rms``.
        samples: a record for each image, by name: ``used``, ``verdict``, ``weight`` and ``ncc``.
        given: an image as it was given: the template comes back in its type.
    """

    history: Sequence[Mapping[str, Any]]
    samples: Mapping[str, Mapping[str, Any]]
    given: Any
    _folder: ResultFolder

    def __repr__(self) -> str:
        used = sum(bool(record["used"]) for record in self.samples.values())
        return f"<TemplateResult of {used} images in {len(self.history)} rounds>"

    @property
    def folder(self) -> Path:
        """Where the files lie: all that ``regflow template`` writes."""
        return self._folder.path

    @cached_property
    def image(self) -> Any:
        """The template, in the type of the images that were given; for paths the file's path."""
        return load_product(self.folder / IMAGE, self.given, as_stored=True)

    @cached_property
    def transforms(self) -> dict[str, Transform]:
        """From the template's to each used image's world points, by the image's name."""
        from regflow.io.transforms import read_transform

        found = sorted((self.folder / TRANSFORMS).glob("*.h5"))
        return {path.stem: read_transform(path) for path in found}

    def save(self, folder: str | Path) -> Path:
        """Copy the products into a folder, whole or not at all.

        Args:
            folder: the folder to make.

        Returns:
            The folder.

        Raises:
            InputError: it is there and holds what is no template.
        """
        import shutil

        target = require_template_folder(Path(folder))
        if target.resolve() != self.folder.resolve():
            with write_whole_directory(target) as part:
                shutil.copytree(
                    self.folder, part, dirs_exist_ok=True, ignore=shutil.ignore_patterns(STEPS, SUBJECTS)
                )
        return target


def build_template_folder(
    output: str | Path,
    samples: Sequence[TemplateSample],
    settings: Mapping[str, Any],
    *,
    threads: int = 1,
    progress: StageListener = ignore_events,
    steps: Path | None = None,
) -> dict[str, Any]:
    """Build a template in a folder; what is done there already is not done again.

    Writes ``template.nii.gz``, its mask and further channels, ``transforms/NAME.h5`` (from template to image
    points), ``inverses/NAME.h5``, ``rounds.tsv``, ``samples.tsv``, ``template.json`` and ``report.html``;
    below ``steps`` lie the rounds, below ``subjects`` the templates of subjects with several images.

    Args:
        output: the folder.
        samples: the images.
        settings: the complete configuration of volumes.
        threads: most threads to use; no result depends on it.
        progress: is told of each step.
        steps: the folder of the rounds; ``steps`` in the template's when None.

    Returns:
        The content of ``template.json``.

    Raises:
        InputError: an image or a setting is wrong.
        RegistrationError: fewer than two images are left.
    """
    folder = require_template_folder(Path(output))
    of_subjects = split_subjects(samples)
    if not of_subjects:
        return _build(folder, check_template_samples(samples), settings, threads, progress, steps)
    single = [sample for sample in samples if sample.subject is None or sample.subject not in of_subjects]
    if len(of_subjects) == 1 and not single:
        alone = [replace(each, subject=None) for each in samples]
        return _build(folder, alone, settings, threads, progress, steps)
    made = list(single)
    for name, members in of_subjects.items():
        own = folder / SUBJECTS / name
        _build(own, check_template_samples(members), make_subject_settings(settings), threads, progress)
        made.append(describe_subject(name, own, members))
    record = _build(folder, check_template_samples(made), settings, threads, progress, steps)
    write_sessions(folder, of_subjects)
    return record


def count_template_steps(samples: Sequence[TemplateSample], settings: Mapping[str, Any]) -> int:
    """Return how many steps the progress of a build counts to."""
    groups = list(split_subjects(samples).values())
    grouped = sum(len(members) for members in groups)
    top = len(samples) - grouped + len(groups)
    sizes = [len(members) for members in groups] + ([top] if top > 1 else [])
    times = 2 if settings["template"]["symmetric"] else 1
    return sum(count_steps(settings, times * size) for size in sizes)


def require_template_folder(folder: Path) -> Path:
    """Return a folder that may hold a template.

    Raises:
        InputError: it is a file, or holds what no template has.
    """
    if folder.is_file():
        raise InputError(f"{folder}: this is a file; name a folder for the template")
    ours = {IMAGE, MASK, RECORD, TABLE, ROUNDS_TABLE, PAGE, STEPS, SUBJECTS, TRANSFORMS, INVERSES}
    items = sorted(item.name for item in folder.iterdir()) if folder.is_dir() else []
    foreign = [name for name in items if name not in ours and not name.startswith((".", "template_"))]
    if foreign:
        raise InputError(f"{folder}: this folder holds other files ('{foreign[0]}'); name a new folder")
    return folder


def make_subject_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a subject's own template, of that of the group's."""
    return {**settings, "template": {**settings["template"], "start": None, "symmetric": False}}


def describe_subject(name: str, folder: Path, members: Sequence[TemplateSample]) -> TemplateSample:
    """Return a subject's own template as an image of the group's."""
    return TemplateSample(
        name,
        str(folder / IMAGE),
        str(folder / MASK),
        {channel: str(folder / f"template_{channel}.nii.gz") for channel in members[0].channels},
        modality=members[0].modality,
    )


def write_sessions(folder: Path, of_subjects: Mapping[str, Sequence[TemplateSample]]) -> None:
    """Write the transforms from the group's template to every image of the subjects that have several."""
    from regflow.io.transforms import read_transform, write_transform

    for name, members in of_subjects.items():
        outer = folder / TRANSFORMS / f"{name}.h5"
        for member in members:
            inner = folder / SUBJECTS / name / TRANSFORMS / f"{member.name}.h5"
            if outer.is_file() and inner.is_file():
                forward = compose_transforms(read_transform(outer), read_transform(inner))
                write_transform(folder / TRANSFORMS / f"{member.name}.h5", forward)


def _build(
    folder: Path,
    samples: Sequence[TemplateSample],
    settings: Mapping[str, Any],
    threads: int,
    progress: StageListener,
    steps: Path | None = None,
) -> dict[str, Any]:
    every = add_mirrored(samples, settings["template"])
    job = TemplateJob(folder, every, settings, threads, progress, steps)
    run_rounds(job)
    return write_template(job)


def write_template(job: TemplateJob) -> dict[str, Any]:
    """Write the products of the last round, where they are not there yet; return the record."""
    record = _gather(job)
    known = job.folder / RECORD
    if not (known.is_file() and read_json(known).get("key") == record["key"]):
        known.unlink(missing_ok=True)
        last = job.find_mean_folder(len(record["rounds"]))
        _write_products(job.folder, last, record["channels"])
        _write_tables(job.folder, record)
        _write_page(job, record)
        write_json(known, record)
    return record


def _gather(job: TemplateJob) -> dict[str, Any]:
    """Return the record of a template: its rounds, and each image with what the last round says of it."""
    rounds = plan_rounds(job.settings)
    means = [read_mean(job.find_mean_folder(each.number)) for each in rounds]
    unread, samples = job.list_unread(), {}
    for sample in sorted(job.samples, key=lambda sample: sample.name):
        if sample.name in unread:
            verdict = {"status": "error", "reason": unread[sample.name], "figures": {}}
            own: dict[str, Any] = {"verdict": verdict, "used": False, "weight": sample.weight}
        else:
            own = means[-1]["samples"][sample.name]
        samples[sample.name] = {"image": sample.image, **own}
    history = [
        {"round": each.number, "kind": mean["kind"], **mean["figures"]}
        for each, mean in zip(rounds, means, strict=True)
    ]
    return {
        "key": make_key(read_key(job.find_mean_folder(len(rounds))), samples),
        "rounds": history,
        "samples": samples,
        "channels": sorted(job.samples[0].channels),
    }


def _write_products(target: Path, last: Path, channels: Sequence[str]) -> None:
    """Write the template and the transforms of a round's mean into a folder."""
    from regflow.io.transforms import read_transform, write_transform
    from regflow.io.volumes import write_volume

    for channel in (None, *channels):
        image = read_channel(last, channel)
        name = IMAGE if channel is None else f"template_{channel}.nii.gz"
        write_volume(target / name, image.channel, image.grid)
        if channel is None and image.mask is not None:
            write_volume(target / MASK, image.mask.astype(np.uint8), image.grid)
    found = sorted((last / TRANSFORMS).glob("*.h5"))
    with write_whole_directory(target / TRANSFORMS) as folder:
        for path in found:
            link_or_copy(path, folder / path.name)
    with write_whole_directory(target / INVERSES) as folder:
        for path in found:
            write_transform(folder / path.name, read_transform(path).inverse())


def _write_tables(folder: Path, record: Mapping[str, Any]) -> None:
    """Write a row for each round, and one for each image."""
    columns = list(dict.fromkeys(name for each in record["rounds"] for name in each))
    write_tsv(
        folder / ROUNDS_TABLE,
        columns,
        [[each.get(name) for name in columns] for each in record["rounds"]],
    )
    rows = [
        [
            name,
            own["image"],
            own["weight"],
            "yes" if own["used"] else "no",
            own["verdict"]["status"],
            own.get("ncc"),
            own["verdict"]["reason"],
        ]
        for name, own in record["samples"].items()
    ]
    write_tsv(folder / TABLE, ["sample", "image", "weight", "used", "verdict", "ncc", "reason"], rows)


def _write_page(job: TemplateJob, record: Mapping[str, Any]) -> None:
    from regflow.reporting.volumes.template import render_template_report

    images: dict[str, Image] = {
        f"{each['round']}: {each['kind']}": read_channel(job.find_mean_folder(each["round"]), None)
        for each in record["rounds"]
    }
    page = render_template_report(images, record["rounds"], record["samples"], job.settings["template"])
    with write_whole(job.folder / PAGE) as part:
        part.write_text(page, encoding="utf-8")
