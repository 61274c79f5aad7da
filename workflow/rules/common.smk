"""What all rules share: the validated configuration, the samples, and input functions."""

from snakemake.exceptions import WorkflowError

from regflow.config.loading import load_config
from regflow.config.workflow import WORKFLOWS
from regflow.core.errors import InputError
from regflow.provenance.digests import compute_source_digest
from regflow.provenance.jobs import export_environment, export_gpu_counts
from regflow.methods.refine.weights_files import find_used_networks
from regflow.cohort.metadata import metadata_by_sample, metadata_columns
from regflow.cohort.samples import existing_local_files, list_fixed_images, split_batches
from regflow.cohort.reading import find_earlier_dates, read_cohort
from regflow.training.settings import make_training_settings

try:
    settings = load_config(config)
    samples = {sample.sample: sample for sample in read_cohort(settings)}
except InputError as error:
    raise WorkflowError(str(error)) from None

kind = settings["kind"]
needs = WORKFLOWS[kind].needs
dimensions = WORKFLOWS[kind].dimensions
tables = {
    name: f"{settings['output']}/assess/{stem}"
    for name, stem in WORKFLOWS[kind].tables.items()
}

fixed = list_fixed_images(samples.values())
subjects = metadata_by_sample(samples.values(), metadata_columns(kind))
refine_rules = (
    f"rules/refine{'_batch' if settings['refine'].get('batch', 1) > 1 else ''}.smk"
)
batches = split_batches(samples, settings["refine"].get("batch", 1))
before = find_earlier_dates(settings, samples.values())

export_environment()
export_gpu_counts(settings)


wildcard_constraints:
    sample=r"(?!(index\.html|cohort(_labels)?\.(tsv|parquet))$)[^/]+",
    fixed="[^/]+",


def scale_with_attempt(amount):
    """Return a resource: ``amount`` at the first try, and as much more at every retry."""
    return lambda wildcards, attempt: amount * attempt


def fixed_files(wildcards):
    """Return the original files of a fixed image."""
    return existing_local_files(fixed[wildcards.fixed].files())


def moving_files(wildcards):
    """Return the original files of a sample."""
    return existing_local_files(samples[wildcards.sample].files())


def fixed_image(wildcards):
    """Return a sample's fixed image, whose field of view the sample has to meet."""
    image = samples[wildcards.sample].fixed.image
    return existing_local_files({"image": image})


def original_files(wildcards):
    """Return the original files of a sample and of its fixed image."""
    sample = samples[wildcards.sample]
    return existing_local_files(sample.files()) + existing_local_files(
        sample.fixed.files()
    )


def fixed_manifest(wildcards):
    """Return what ingest found about a sample's fixed image."""
    return f"<results>/ingest/fixed/{samples[wildcards.sample].fixed.name}.json"


def fixed_prepared(wildcards):
    """Return the working copy of a sample's fixed image."""
    return f"<results>/preprocess/fixed/{samples[wildcards.sample].fixed.name}"


def batch_of(pattern):
    """Return an input function: what a pattern stands for, for each sample of a batch."""
    return lambda wildcards: expand(pattern, sample=batches[wildcards.batch])


def batch_fixed(wildcards):
    """Return the working copies of the fixed images of a batch, one per sample."""
    return [
        f"<results>/preprocess/fixed/{samples[name].fixed.name}"
        for name in batches[wildcards.batch]
    ]


def batch_of_sample(wildcards):
    """Return the batch that a sample is refined in."""
    return [
        f"<results>/refine-batch/{batch}"
        for batch, names in batches.items()
        if wildcards.sample in names
    ]


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


def manifests(wildcards):
    """Return what ingest found about every image."""
    return [
        *(f"<results>/ingest/fixed/{name}.json" for name in fixed),
        *(f"<results>/ingest/moving/{name}.json" for name in samples),
    ]


def beside_the_report(wildcards):
    """Return what else is made: the derivatives of a BIDS data set, the change maps of scenes."""
    derivatives = ["<results>/derivatives"] if settings.get("bids") else []
    return [*derivatives, *expand("<results>/detect/{sample}", sample=before)]
