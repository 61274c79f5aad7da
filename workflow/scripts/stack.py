"""Assemble sections into one volume (rule stack)."""

from regflow.core.job import run_job

with run_job(snakemake.log[0], snakemake.threads):
    from regflow.pipeline.stack import run_stack

    run_stack(snakemake.output[0], settings=snakemake.params.settings, threads=snakemake.threads)
