"""Refine several samples (rule refine_batch)."""

from regflow.core.job import run_job

with run_job(snakemake.log[0], snakemake.threads):
    from regflow.stages.volumes.refine import refine_batch

    refine_batch(
        snakemake.output[0],
        samples=snakemake.params.samples,
        fixed=snakemake.input.fixed,
        moving=snakemake.input.moving,
        initial=snakemake.input.initial,
        settings=snakemake.params.settings,
        seed=snakemake.params.seed,
        threads=snakemake.threads,
    )
