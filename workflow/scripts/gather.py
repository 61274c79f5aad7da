"""Gather the cohort's figures (rule gather)."""

from regflow.core.job import job

with job(snakemake.log[0], snakemake.threads):
    from regflow.stages.gather import gather

    gather(
        {"samples": snakemake.output.samples[0], "labels": snakemake.output.labels[0]},
        snakemake.input,
        snakemake.params.subjects,
    )
