"""What all rules share: the validated configuration, the samples, and input functions."""

import os
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

from snakemake_interface_executor_plugins.settings import ExecMode

from regflow.cohort.batches import (
    SHARED,
    find_machine,
    assign_samples,
    split_batches,
)
from regflow.config.loading import load_config
from regflow.config.workflow import ONE_ENV, WORKFLOWS, JobNeeds, plan_jobs, scale_needs
from regflow.core.errors import InputError
from regflow.provenance.digests import compute_source_digest
from regflow.pipeline.stored_results import export_storage, read_batches, write_batches
from regflow.pipeline.series_jobs import list_cohort_series
from regflow.pipeline.template_jobs import plan_cohort_template
from regflow.provenance.jobs import export_environment, export_gpu_counts
from regflow.provenance.provenance import compute_environment_digest
from regflow.methods.used_networks import find_used_networks
from regflow.cohort.metadata import metadata_by_sample, metadata_columns
from regflow.cohort.samples import (
    estimate_samples,
    existing_local_files,
    list_fixed_images,
)
from regflow.cohort.reading import find_earlier_dates, read_cohort
from regflow.cohort.sections import list_stack_inputs
from regflow.cohort.tiles import list_tile_inputs
from regflow.pipeline.run_lock import MARK
from regflow.stages import layout
from regflow.training.settings import make_training_settings

try:
    settings = load_config(config)
    samples = {sample.sample: sample for sample in read_cohort(settings)}
    template = (
        plan_cohort_template(settings, samples.values())
        if settings["kind"] == "volumes"
        else None
    )
    series = list_cohort_series(settings, samples.values())
    export_storage(
        workflow.storage_settings,
        getattr(workflow.storage_registry.default_storage_provider, "settings", None),
        settings["output"],
    )
except InputError as error:
    raise WorkflowError(str(error)) from None

# Whether the results lie on a server.
stored = workflow.storage_settings.default_storage_provider is not None
if stored and template is not None:
    raise WorkflowError(
        "a template of the cohort is made on this machine's disk, but the results lie on a server; build it "
        "first by 'regflow template', and name it among the atlases"
    )
if stored and series:
    raise WorkflowError(
        "a series is aligned on this machine's disk, but the results lie on a server; align it by "
        "'regflow series', and leave the column series out of the sheet"
    )
kind = settings["kind"]
needs = WORKFLOWS[kind].needs
dimensions = WORKFLOWS[kind].dimensions
tables = {
    name: f"{settings['output']}/assess/{stem}"
    for name, stem in WORKFLOWS[kind].tables.items()
}

fixed = list_fixed_images(samples.values())
subjects = metadata_by_sample(samples.values(), metadata_columns(kind))
before = find_earlier_dates(settings, samples.values())


estimate_once = cache(estimate_samples)


def pair_samples(name):
    """Return about how many samples a sample's images have together, or a fixed image."""
    if name not in samples:
        return estimate_once(fixed[name].image)
    sample = samples[name]
    return estimate_once(sample.moving) + estimate_once(sample.fixed.image)


# A job finds how the cohort is shared out as the run has begun.
batches = read_batches(settings["output"])
if workflow.exec_mode == ExecMode.DEFAULT or batches is None:
    machine = find_machine(
        workflow.resource_settings.cores, workflow.resource_settings.nodes
    )
    plans = plan_jobs(settings, gpu=machine.gpu)
    batches = assign_samples(
        {name: sample.fixed.name for name, sample in samples.items()},
        settings["jobs"]["samples"],
        batches,
        machine,
        jobs=len(plans),
        threads=max(plan.needs.threads for plan in plans),
        memory_mb=max(
            scale_needs(kind, plan.needs, max(map(pair_samples, samples))).mem_mb
            for plan in plans
        ),
        size_of=pair_samples,
    )
plans = plan_jobs(settings, gpu=batches.gpu)
shared = split_batches(
    [name for name, owner in batches.fixed.items() if owner == SHARED], 20
)
reference_batch = {name: batch for batch, names in shared.items() for name in names}
batch_of = {name: batch for batch, names in batches.members.items() for name in names}


onstart:
    write_batches(settings["output"], batches)


onerror:
    # `regflow run` does so when it has written the page of what came through.
    if MARK not in os.environ and not stored:
        from regflow.pipeline.partial_report import write_partial_crate

        try:
            write_partial_crate(settings, list(samples.values()))
        except OSError as error:
            raise WorkflowError(
                f"what the run left cannot be described: {error}"
            ) from None


export_environment()
export_gpu_counts(settings)


# For --software-deployment-method apptainer.
if settings["jobs"]["container"]:

    container: settings["jobs"]["container"]


# They take seconds, and wait for all others: on a cluster they run where snakemake does.
localrules:
    gather,
    publish,
    provenance,
    report_cohort,


wildcard_constraints:
    sample=r"(?!(index\.html|cohort(_labels)?\.(tsv|parquet))$)[^/]+",
    fixed="[^/]+",


def scale_with_attempt(amount):
    """Return a resource: ``amount`` at the first try, and as much more at every retry."""
    return lambda wildcards, attempt: amount * attempt


template_files = (
    [
        f"{settings['output']}/{layout.TEMPLATE_IMAGE}",
        f"{settings['output']}/{layout.TEMPLATE_MASK}",
    ]
    if template is not None
    else []
)


def watch_files(files):
    """Return the files of this machine to watch, also where the results lie on a server.

    Those of a template of the cohort are made first.
    """
    made = [path for path in files.values() if path in template_files]
    given = {part: path for part, path in files.items() if path not in made}
    return [*made, *(local(path) for path in existing_local_files(given))]


def fixed_files(wildcards):
    """Return the original files of a fixed image."""
    return watch_files(fixed[wildcards.fixed].list_files())


def moving_files(wildcards):
    """Return the original files of a sample."""
    return watch_files(samples[wildcards.sample].list_files())


def fixed_image(wildcards):
    """Return a sample's fixed image, whose field of view the sample has to meet."""
    image = samples[wildcards.sample].fixed.image
    return watch_files({"image": image})


def original_files(wildcards):
    """Return the original files of a sample and of its fixed image."""
    sample = samples[wildcards.sample]
    return watch_files(sample.list_files()) + watch_files(sample.fixed.list_files())


def fixed_manifest(wildcards):
    """Return what ingest found about a sample's fixed image."""
    return f"<results>/ingest/fixed/{samples[wildcards.sample].fixed.name}.json"


def fixed_prepared(wildcards):
    """Return the working copy of a sample's fixed image."""
    return f"<results>/preprocess/fixed/{samples[wildcards.sample].fixed.name}"


def job_threads(most):
    """Return the threads of a job that can use some at most."""
    return most if batches.threads is None else min(most, batches.threads)


def job_settings(stages):
    """Return what of the configuration a job of some stages takes."""
    wanted = {"output", "seed", "dask", "keep", *stages}
    return {name: part for name, part in settings.items() if name in wanted}


def job_sources(stages):
    """Return what each of a job's stages is computed by."""
    return {
        stage: compute_source_digest(f"stages.{kind}.{stage}", kind) for stage in stages
    }


def stage_memory(stage):
    """Return the memory of a stage's job by the size of its images; more at every retry."""
    return (
        lambda wildcards, attempt: attempt
        * scale_needs(kind, needs[stage], pair_samples(wildcards[0])).mem_mb
    )


def stage_runtime(stage):
    """Return the minutes of a stage's job by the size of its images; more at every retry."""
    return (
        lambda wildcards, attempt: attempt
        * scale_needs(kind, needs[stage], pair_samples(wildcards[0])).runtime
    )


def largest_pair(batch):
    """Return about how many samples the largest images of a batch have."""
    return max(map(pair_samples, batches.members[batch]))


def batch_memory(needed):
    """Return the memory of a batch's job by the size of its largest images; more at every retry."""
    return (
        lambda wildcards, attempt: attempt
        * scale_needs(kind, needed, largest_pair(wildcards.batch)).mem_mb
    )


def batch_minutes(images):
    """Return the minutes a batch may take at its first try; one that is stopped goes on where it was."""
    return 30 + 10 * images


def batch_runtime(wildcards, attempt):
    """Return the minutes that a job of a batch may take, by the number and size of its images."""
    minutes = batch_minutes(len(batches.members[wildcards.batch]))
    usual = JobNeeds("", 1, 0, minutes)
    return attempt * scale_needs(kind, usual, largest_pair(wildcards.batch)).runtime


def batch_samples(wildcards):
    """Return the samples of a batch."""
    return [samples[name] for name in batches.members[wildcards.batch]]


def batch_fixed(wildcards):
    """Return the fixed images that a batch prepares."""
    owned = batches.fixed.items()
    return [fixed[name] for name, owner in owned if owner == wildcards.batch]


def batch_files(wildcards):
    """Return the original files of a batch."""
    images = [*batch_samples(wildcards), *batch_fixed(wildcards)]
    return [path for image in images for path in watch_files(image.list_files())]


def job_file(job, batch="{batch}"):
    """Return what tells that a job of a batch is done."""
    return f"<results>/{layout.BATCH.format(job=job, batch=batch)}"


def batch_references(wildcards):
    """Return the jobs that prepare the fixed images that a batch shares with others."""
    names = {samples[name].fixed.name for name in batches.members[wildcards.batch]}
    owners = {batches.fixed[name] for name in names} - {SHARED, wildcards.batch}
    groups = {reference_batch[name] for name in names & reference_batch.keys()}
    return [
        *(job_file("references", batch) for batch in sorted(groups)),
        *(job_file(plans[0].name, batch) for batch in sorted(owners)),
    ]


def batch_before(plan):
    """Return an input function: what the plan before has come to, for a batch and the dates before it."""

    def find(wildcards):
        if plan is None:
            return []
        names = batches.members[wildcards.batch]
        dates = [before[name] for name in names if before.get(name)]
        found = {wildcards.batch, *(batch_of[name] for name in dates)}
        return [job_file(plan.name, batch) for batch in sorted(found)]

    return find


def batch_earlier(plan):
    """Return an input function: the sample before each one whose changes a plan looks for."""

    def find(wildcards):
        names = batches.members[wildcards.batch] if "detect" in plan.stages else []
        return {name: before[name] for name in names if name in before}

    return find


def each_sample(place):
    """Return where something lies of each sample."""
    return [f"{settings['output']}/{place.format(sample=name)}" for name in samples]


def results_folder(wildcards):
    """Return the folder of results, as the configuration names it."""
    return settings["output"]


def find_tables(wildcards, input):
    """Return where the cohort's tables lie for a job that reads them."""
    return {
        name: next(path for path in input.tables if Path(path).stem == stem)
        for name, stem in WORKFLOWS[kind].tables.items()
    }


def when_done(stage):
    """Return an input function: what tells that a stage is done for the whole cohort."""

    def find(wildcards):
        if settings["jobs"]["each_stage"]:
            chosen = before if stage == "detect" else samples
            return expand(f"<results>/{layout.OF_A_SAMPLE[stage]}", sample=chosen)
        plan = next(plan for plan in plans if stage in plan.stages)
        done = expand(job_file(plan.name), batch=batches.members)
        return [*done, *expand(job_file("references"), batch=shared)]

    return find


def earlier_date(wildcards):
    """Return manifest and products of the date before a sample; nothing where that is the reference."""
    name = before[wildcards.sample]
    return (
        [f"<results>/ingest/moving/{name}.json", f"<results>/apply/{name}"]
        if name
        else []
    )


def change_map(wildcards):
    """Return what detect found of a sample; nothing where no changes are wanted."""
    return [f"<results>/detect/{name}" for name in before if name == wildcards.sample]


def what_is_trained(wildcards):
    """Return the settings of a training, the cohort's pairs included if it has a share."""
    try:
        return make_training_settings(settings)
    except InputError as error:
        raise WorkflowError(str(error)) from None


# Only the run as a whole is asked what it was made from.
environment = (
    compute_environment_digest() if workflow.exec_mode == ExecMode.DEFAULT else None
)
copies_of_inputs = [f"<results>/{layout.CONFIGURATION}"]
if settings["samples"] is not None:
    copies_of_inputs.append(f"<results>/{layout.SHEET}")


def sheet_file(wildcards):
    """Return the sample sheet; nothing where the cohort comes from a data set."""
    return watch_files({"sheet": settings["samples"] or ""})


def manifests(wildcards):
    """Return what ingest found about every image."""
    return [
        *(f"<results>/ingest/fixed/{name}.json" for name in fixed),
        *(f"<results>/ingest/moving/{name}.json" for name in samples),
    ]


def everything(wildcards):
    """Return all that a study makes.

    What leads to the report is named too: Snakemake makes nothing again that is missing between inputs and a
    target that is there, and a run that was killed may have left just that.
    """
    if settings["jobs"]["each_stage"]:
        stages = [stage for stage in needs if stage != "detect" or before]
        of_fixed = expand("<results>/preprocess/fixed/{name}", name=fixed)
        made = [*manifests(wildcards), *of_fixed]
    else:
        stages, made = [plan.stages[0] for plan in plans], []
    made += [path for stage in stages for path in when_done(stage)(wildcards)]
    made += template_files
    made += [job_file("series", name) for name in series]
    made += [f"{table}.tsv" for table in tables.values()]
    made += [f"<results>/{layout.PROVENANCE}"]
    made += ["<results>/derivatives"] if settings.get("bids") else []
    return list(dict.fromkeys(made))
