"""Describe the run as an RO-Crate (rule crate)."""

from regflow.core.job import run_job

with run_job(snakemake.log[0], snakemake.threads):
    from regflow.pipeline.cohort_jobs import describe_run

    describe_run(
        snakemake.params.results,
        snakemake.output.crate,
        snakemake.output.workflow,
        settings=snakemake.params.settings,
        samples=snakemake.params.samples,
        fixed=snakemake.params.fixed,
    )
