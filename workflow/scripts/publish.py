"""Name the products as BIDS derivatives (rule publish)."""

from regflow.core.logs import stage_log

with stage_log(snakemake.log[0]):
    from regflow.derivatives import publish_cohort

    publish_cohort(
        snakemake.output[0],
        samples=snakemake.params.samples,
        applied=snakemake.input.applied,
        refined=snakemake.input.refined,
        config=snakemake.params.config,
    )
