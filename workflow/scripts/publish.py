"""Name the products as BIDS derivatives (rule publish)."""

from regflow.core.job import run_job

with run_job(snakemake.log[0], snakemake.threads):
    from regflow.pipeline.cohort_jobs import publish_derivatives

    publish_derivatives(
        snakemake.params.config["output"],
        snakemake.output[0],
        samples=snakemake.params.samples,
        applied=snakemake.params.applied,
        refined=snakemake.params.refined,
        config=snakemake.params.config,
    )
