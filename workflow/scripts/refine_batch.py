"""Refine several samples (rule refine_batch)."""

from regflow.core.logs import stage_log

with stage_log(snakemake.log[0]):
    from regflow.stages.refine import Job, refine_batch

    refine_batch(
        snakemake.output[0],
        jobs=[
            Job(*parts)
            for parts in zip(
                snakemake.params.samples,
                snakemake.input.fixed,
                snakemake.input.moving,
                snakemake.input.initial,
                strict=True,
            )
        ],
        settings=snakemake.params.settings,
        seed=snakemake.params.seed,
        threads=snakemake.threads,
    )
