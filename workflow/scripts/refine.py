"""Refine one sample (rule refine)."""

from regflow.core.job import job

with job(snakemake.log[0], snakemake.threads):
    from regflow.stages.volumes.refine import refine

    refine(
        snakemake.output[0],
        sample=snakemake.wildcards.sample,
        prepared=(snakemake.input.fixed, snakemake.input.moving),
        initial=snakemake.input.initial,
        settings=snakemake.params.settings,
        seed=snakemake.params.seed,
        threads=snakemake.threads,
    )
