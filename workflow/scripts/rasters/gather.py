"""Gather the cohort's figures (rule gather)."""

from regflow.core.logs import stage_log

with stage_log(snakemake.log[0]):
    from regflow.stages.gather import gather

    gather(
        {"samples": snakemake.output.samples[0]},
        snakemake.input,
        snakemake.params.subjects,
        kind="rasters",
    )
