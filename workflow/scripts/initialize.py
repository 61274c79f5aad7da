"""Initialize one sample (rule initialize)."""

from regflow.core.job import job

with job(snakemake.log[0], snakemake.threads):
    from regflow.stages.volumes.initialize import initialize

    initialize(
        snakemake.output[0],
        sample=snakemake.wildcards.sample,
        prepared=(snakemake.input.fixed, snakemake.input.moving),
        settings=snakemake.params.settings,
        seed=snakemake.params.seed,
        threads=snakemake.threads,
    )
