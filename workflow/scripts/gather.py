"""Gather the cohort's figures (rule gather)."""

from regflow.core.job import run_job

with run_job(snakemake.log[0], snakemake.threads):
    from regflow.stages.gather import gather

    gather(
        snakemake.params.tables,
        snakemake.params.assessed,
        snakemake.params.subjects,
        snakemake.params.kind,
        snakemake.output.multiqc,
    )
