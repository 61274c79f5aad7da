"""What the rules of a template of the cohort share: its images in batches, and input functions.

The steps of its rounds lie where Snakemake does not see them: a job leaves a file that tells it is done.
"""

template_batches = split_batches([image.name for image in template.samples], 10)
template_settings = job_settings(["preprocess", "initialize", "refine", "template"])
template_digest = compute_source_digest("pipeline.template_jobs", kind)


def template_samples_of(names):
    """Return about how many samples the largest of some images of the template has, twice."""
    known = {image.name: image for image in template.samples}
    return 2 * max(estimate_once(known[name].image) for name in names)


def template_memory(wildcards, attempt):
    """Return the memory of a job of the template by the size of the largest image; more at every retry."""
    largest = template_samples_of([image.name for image in template.samples])
    return attempt * scale_needs(kind, needs["refine"], largest).mem_mb


def template_runtime(wildcards, attempt):
    """Return the minutes of a job of the template by the size of the largest image; more at every retry."""
    largest = template_samples_of([image.name for image in template.samples])
    return (
        attempt
        * scale_needs(kind, JobNeeds("", 1, 0, batch_minutes(10)), largest).runtime
    )


def template_images(wildcards):
    """Return the original files of a batch of the template's images, and the templates of subjects."""
    return watch_files(template.list_files(template_batches[wildcards.batch])) + [
        job_file("template-subject", name.removesuffix("_mirrored"))
        for name in template_batches[wildcards.batch]
        if name.removesuffix("_mirrored") in template.subjects
    ]


def template_before(wildcards):
    """Return what tells that what a round registers to is there."""
    number = int(wildcards.round) - 1
    return (
        job_file(f"template-round-{number}", "mean")
        if number
        else job_file("template", "start")
    )


def template_fits(wildcards):
    """Return what tells that all images of a round are registered."""
    job = f"template-round-{wildcards.round}"
    return [job_file(job, batch) for batch in template_batches]


wildcard_constraints:
    round="[0-9]+",
    subject="[^/]+",
