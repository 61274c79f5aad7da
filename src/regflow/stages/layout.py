"""Where things lie in a study's folder of results.

Paths are relative to that folder. In braces stands what differs from one image to the next, as Snakemake
writes its wildcards; :meth:`str.format` puts names in. A directory holds its stage's ``stage.json``.
"""

from pathlib import PurePosixPath

CONFIGURATION = "config.yaml"
"""The complete configuration that the run was made by."""
PROVENANCE = "provenance.json"
"""Versions, hardware and the command."""
SHEET = "samples.tsv"
"""The sample sheet, its paths as the run took them."""
CRATE = "ro-crate-metadata.json"
"""The run as a Workflow Run RO-Crate."""
WORKFLOW = "workflow"
"""Folder with the rules that ran, and the lock of the environment."""

FIXED_MANIFEST = "ingest/fixed/{fixed}.json"
MOVING_MANIFEST = "ingest/moving/{sample}.json"
"""What was found about an image's files."""
FIXED_WORKING = "preprocess/fixed/{fixed}"
MOVING_WORKING = "preprocess/moving/{sample}"
"""Directory of an image's working copy."""
INITIAL = "initialize/{sample}"
"""Directory of the linear transform."""
REFINED = "refine/{sample}"
"""Directory of the final transform."""
APPLIED = "apply/{sample}"
"""Directory of the products."""
ASSESSED = "assess/{sample}"
"""Directory of the figures."""
DETECTED = "detect/{sample}"
"""Directory of the change maps."""

COHORT_TABLE = "assess/cohort{ending}"
STRUCTURES_TABLE = "assess/cohort_labels{ending}"
"""The cohort's tables, one row for each sample and one for each structure of a sample."""
TABLE_ENDINGS = (".tsv", ".parquet")
"""What ``{ending}`` stands for in the path of a table; both are written."""

SAMPLE_PAGE = "report/{sample}.html"
SAMPLE_RECORD = "report/records/{sample}.json"
"""What a sample's page was made from."""
SAMPLE_PICTURE = "report/images/{sample}.png"
COHORT_PAGE = "report/index.html"
"""The page to begin with."""

MULTIQC = "multiqc"
"""Folder of what MultiQC reads of the cohort."""
DERIVATIVES = "derivatives"
"""Root of the products under their names of BIDS-Derivatives."""
TRAINING = "train"
NETWORK = "train/{name}.safetensors"
NETWORK_CARD = "train/{name}.md"
"""What ``regflow train`` writes of a network, and its folder."""

BATCHES = "jobs/batches.json"
"""How the cohort is shared out to jobs."""
PARTIAL_REPORT = "jobs/partial-report"
"""There while the cohort's page is that of a run in which jobs crashed."""
RUN = "jobs/run.json"
"""Who runs the study, while it runs."""
BATCH = "jobs/{job}/{batch}.json"
"""What a job has come to: the samples of its batch."""

LOGS = "logs"
"""Folder of the jobs' logs."""

MOSAIC = "mosaic"
"""Folder of the picture that tiles were stitched into."""
SERIES = "series"
"""Folder of the series of the cohort, each in a folder of its name."""
STACK = "stack"
"""Folder of the volume that sections were assembled into."""
TEMPLATE = "template"
TEMPLATE_IMAGE = "template/template.nii.gz"
TEMPLATE_MASK = "template/template_mask.nii.gz"
TEMPLATE_OF_A_SUBJECT = "template/subjects/{subject}/template.nii.gz"
"""Folder of a template of the cohort itself, and the template; of a subject's images, the subject's own."""
TEMPLATE_STEPS = "jobs/template-steps"
"""Folder of the rounds of a template, and of its images as they are registered."""

WHOLE_COHORT = (
    CONFIGURATION,
    PROVENANCE,
    SHEET,
    COHORT_PAGE,
    WORKFLOW,
    MULTIQC,
    DERIVATIVES,
    TEMPLATE,
    SERIES,
)
"""What a run leaves once, besides its tables."""
COMPARED = "compare/{sample}/index.html"
"""The page on which methods are compared on a sample; its trials lie beside it."""
PASSING = (LOGS, TRAINING, "benchmarks", "compare", "jobs")
"""Folders of what is no result: how jobs went, and what was trained beside."""

OF_A_SAMPLE = {
    "ingest": MOVING_MANIFEST,
    "preprocess": MOVING_WORKING,
    "initialize": INITIAL,
    "refine": REFINED,
    "apply": APPLIED,
    "assess": ASSESSED,
    "detect": DETECTED,
    "report": SAMPLE_PAGE,
}
"""What each stage leaves of a sample, by stage, in order."""


FOLDERS_OF_STAGES = frozenset(
    PurePosixPath(place).parent.as_posix()
    for place in (FIXED_WORKING, MOVING_WORKING, INITIAL, REFINED, APPLIED, ASSESSED, DETECTED)
)
"""Folders whose folders each are what a stage has left of an image."""

FOLDERS_OF_RECORDS = tuple(
    PurePosixPath(place).parent.as_posix() for place in (FIXED_MANIFEST, MOVING_MANIFEST, SAMPLE_RECORD)
)
"""Folders of files that tell of images and pages."""


def find_log(product: str) -> str:
    """Return where the job that makes a product logs.

    Args:
        product: one of this module's paths, its braces not yet filled: a name may hold dots.
    """
    return f"{LOGS}/{PurePosixPath(product).with_suffix('.log')}"
