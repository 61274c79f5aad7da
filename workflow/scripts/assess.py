"""Assess one sample (rule assess)."""

from regflow.core.job import run_job

with run_job(snakemake.log[0], snakemake.threads):
    from regflow.stages.shell import run_stage

    run_stage(
        "assess",
        snakemake.params.kind,
        snakemake.output[0],
        source=snakemake.params.digest,
        sample=snakemake.wildcards.sample,
        manifests=(snakemake.input.fixed_manifest, snakemake.input.moving_manifest),
        prepared=(snakemake.input.fixed, snakemake.input.moving),
        initial=snakemake.input.initial,
        refined=snakemake.input.refined,
        applied=snakemake.input.applied,
        settings=snakemake.params.settings,
        dask=snakemake.params.dask,
        seed=snakemake.params.seed,
        threads=snakemake.threads,
    )
