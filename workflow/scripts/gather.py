"""Gather the cohort's figures (rule gather)."""

from regflow.core.job import run_job

with run_job(snakemake.log[0], snakemake.threads):
    from regflow.pipeline.cohort_jobs import gather_cohort

    gather_cohort(
        snakemake.params.results,
        {name: snakemake.output.get(name)[0] for name in snakemake.params.tables},
        snakemake.params.assessed,
        subjects=snakemake.params.subjects,
        kind=snakemake.params.kind,
        multiqc=snakemake.output.multiqc,
    )
