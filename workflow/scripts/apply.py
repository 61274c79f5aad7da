"""Warp what belongs to one sample (rule apply)."""

from regflow.core.job import job

with job(snakemake.log[0], snakemake.threads):
    from regflow.stages.volumes.apply import apply

    apply(
        snakemake.output[0],
        sample=snakemake.wildcards.sample,
        manifests=(snakemake.input.fixed_manifest, snakemake.input.moving_manifest),
        refined=snakemake.input.refined,
        settings=snakemake.params.settings,
        threads=snakemake.threads,
    )
