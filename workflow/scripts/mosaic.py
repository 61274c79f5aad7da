"""Stitch tiles into one picture (rule mosaic)."""

from regflow.core.job import run_job

with run_job(snakemake.log[0], snakemake.threads):
    from regflow.pipeline.mosaic import run_mosaic

    run_mosaic(snakemake.output[0], settings=snakemake.params.settings, threads=snakemake.threads)
