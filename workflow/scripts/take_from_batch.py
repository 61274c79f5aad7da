"""Take one sample out of its batch (rule refine, where batches are refined)."""

from regflow.core.logs import stage_log

with stage_log(snakemake.log[0]):
    from regflow.stages.refine import take_from_batch

    take_from_batch(snakemake.input[0], snakemake.wildcards.sample, snakemake.output[0])
