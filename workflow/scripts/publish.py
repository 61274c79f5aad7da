"""Name the products as BIDS derivatives (rule publish)."""

from regflow.core.job import run_job

with run_job(snakemake.log[0], snakemake.threads):
    from regflow.cohort.volumes.derivatives import publish_cohort
    from regflow.pipeline.stored_results import fetch_results

    applied, refined = snakemake.params.applied, snakemake.params.refined
    with fetch_results(snakemake.params.config["output"], [*applied, *refined]) as locate:
        publish_cohort(
            snakemake.output[0],
            samples=snakemake.params.samples,
            applied=map(locate, applied),
            refined=map(locate, refined),
            config=snakemake.params.config,
        )
