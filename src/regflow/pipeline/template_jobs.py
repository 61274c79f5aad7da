"""A template of a cohort as jobs of the workflow: which images it has, and what each job does of it.

A job leaves a file that tells it is done; the steps themselves lie where Snakemake does not see them
(:mod:`regflow.pipeline.step_folders`), so that a job that was killed goes on where it was.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from regflow.cohort.volumes.samples import VolumeSample
from regflow.core.files import write_json
from regflow.pipeline.step_folders import STEPS
from regflow.pipeline.template import (
    build_template_folder,
    describe_subject,
    make_subject_settings,
    write_sessions,
    write_template,
)
from regflow.pipeline.template_rounds import (
    average_images,
    plan_rounds,
    prepare_images,
    prepare_start,
    register_images,
)
from regflow.pipeline.template_samples import TemplateSample, add_mirrored, split_subjects
from regflow.pipeline.template_steps import TemplateJob
from regflow.stages import layout


@dataclass(frozen=True)
class CohortTemplate:
    """What a template of a cohort is made of.

    Attributes:
        samples: its images: those of the cohort, and of subjects with several their own templates.
        subjects: the images of these subjects, by subject.
        rounds: their number.
    """

    samples: Sequence[TemplateSample]
    subjects: Mapping[str, Sequence[TemplateSample]]
    rounds: int

    def list_files(self, names: Iterable[str]) -> dict[str, str]:
        """Return the files of images by what they are."""
        known = {sample.name: sample for sample in self.samples}
        return {f"{name}.{part}": path for name in names for part, path in known[name].list_files().items()}

    def list_subject_files(self, subject: str) -> dict[str, str]:
        """Return the files of a subject's images by what they are."""
        return {
            f"{sample.name}.{part}": path
            for sample in self.subjects[subject]
            for part, path in sample.list_files().items()
        }


def plan_cohort_template(
    settings: Mapping[str, Any], samples: Iterable[VolumeSample]
) -> CohortTemplate | None:
    """Return what the template is made of; None where no sample goes to a template of the cohort.

    Args:
        settings: the complete configuration.
        samples: the cohort.

    Raises:
        InputError: the rounds begin with a deformable one, or none is left.
    """
    place = f"{settings['output']}/{layout.TEMPLATE_IMAGE}"
    chosen = [sample for sample in samples if getattr(sample.fixed, "image", None) == place]
    if not chosen:
        return None
    common = set.intersection(*(set(sample.companions) for sample in chosen))
    images = [
        TemplateSample(
            sample.sample,
            sample.moving,
            sample.moving_mask,
            {name: sample.companions[name] for name in sorted(common)},
            sample.weight,
            sample.subject,
            sample.modality,
        )
        for sample in chosen
    ]
    subjects = split_subjects(images)
    if len(subjects) == 1 and all(image.subject in subjects for image in images):
        subjects = {}
    alone = [replace(image, subject=None) for image in images if image.subject not in subjects]
    home = Path(settings["output"]) / layout.TEMPLATE / "subjects"
    own = [describe_subject(name, home / name, members) for name, members in subjects.items()]
    every = add_mirrored([*alone, *own], settings["template"])
    return CohortTemplate(every, subjects, len(plan_rounds(settings)))


def build_subject_template(
    done: str | Path, *, subject: str, template: CohortTemplate, settings: Mapping[str, Any], threads: int
) -> None:
    """Build the template of one subject's images, and leave a file that tells so.

    Args:
        done: the file.
        subject: whose images.
        template: of the cohort.
        settings: the complete configuration.
        threads: most threads to use.
    """
    results = Path(settings["output"])
    record = build_template_folder(
        results / layout.TEMPLATE / "subjects" / subject,
        template.subjects[subject],
        make_subject_settings(settings),
        threads=threads,
        steps=results / layout.TEMPLATE_STEPS / "subjects" / subject / STEPS,
    )
    write_json(done, {"key": record["key"]})


def run_template_job(
    done: str | Path,
    *,
    part: str,
    template: CohortTemplate,
    settings: Mapping[str, Any],
    names: Sequence[str] = (),
    number: int = 0,
    threads: int = 1,
) -> None:
    """Do one job of a cohort's template, and leave a file that tells so.

    Args:
        done: the file.
        part: of :data:`PARTS`.
        template: what the template is made of.
        settings: the complete configuration.
        names: of the images that the job takes, where it takes some.
        number: of the round, from 1, where it is of one.
        threads: most threads to use.

    Raises:
        InputError: fewer than two images can be read.
        RegistrationError: fewer than two images are left after a round.
    """
    results = Path(settings["output"])
    job = TemplateJob(
        results / layout.TEMPLATE,
        template.samples,
        settings,
        threads,
        steps=results / layout.TEMPLATE_STEPS / "cohort",
    )
    PARTS[part](job, names, number)
    if part == "products":
        write_sessions(job.folder, template.subjects)
    write_json(done, {"part": part, "images": list(names), "round": number})


def _prepare(job: TemplateJob, names: Sequence[str], _: int) -> None:
    prepare_images(job, [sample for sample in job.samples if sample.name in names])


def _start(job: TemplateJob, _names: Sequence[str], _: int) -> None:
    prepare_start(job)


def _register(job: TemplateJob, names: Sequence[str], number: int) -> None:
    known = set(job.list_prepared())
    register_images(job, plan_rounds(job.settings)[number - 1], [name for name in names if name in known])


def _average(job: TemplateJob, _: Sequence[str], number: int) -> None:
    average_images(job, plan_rounds(job.settings)[number - 1])


def _write(job: TemplateJob, _names: Sequence[str], _: int) -> None:
    write_template(job)


PARTS: Mapping[str, Callable[[TemplateJob, Sequence[str], int], None]] = {
    "images": _prepare,
    "start": _start,
    "fits": _register,
    "mean": _average,
    "products": _write,
}
"""What a job does, by name."""
