"""Prepare one working image (rules preprocess_fixed and preprocess_moving)."""

from regflow.core.job import run_job

with run_job(snakemake.log[0], snakemake.threads):
    from regflow.stages.shell import run_stage

    run_stage(
        "preprocess",
        snakemake.params.kind,
        snakemake.output[0],
        source=snakemake.params.digest,
        sample=snakemake.wildcards[0],
        manifest=snakemake.input.manifest,
        reference=snakemake.input.get("reference"),
        settings=snakemake.params.settings,
        threads=snakemake.threads,
    )
