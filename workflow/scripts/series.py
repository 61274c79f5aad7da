"""Align a series of the cohort (rule series)."""

from regflow.core.job import run_job

with run_job(snakemake.log[0], snakemake.threads):
    from regflow.pipeline.series_jobs import align_cohort_series

    align_cohort_series(
        snakemake.output[0],
        name=snakemake.wildcards.series,
        samples=snakemake.params.images,
        kind=snakemake.params.kind,
        settings=snakemake.params.settings,
        threads=snakemake.threads,
    )
