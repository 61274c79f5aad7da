"""Take one sample out of its batch (rule refine, where batches are refined)."""

from regflow.core.job import run_job

with run_job(snakemake.log[0], snakemake.threads):
    from regflow.stages.volumes.refine import take_from_batch

    take_from_batch(snakemake.input[0], snakemake.wildcards.sample, snakemake.output[0])
