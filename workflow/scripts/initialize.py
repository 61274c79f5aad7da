"""Initialize one sample (rule initialize)."""

from regflow.core.job import run_job

with run_job(snakemake.log[0], snakemake.threads):
    from regflow.stages.shell import run_stage

    run_stage(
        "initialize",
        snakemake.params.kind,
        snakemake.output[0],
        source=snakemake.params.digest,
        networks=snakemake.params.networks,
        sample=snakemake.wildcards.sample,
        prepared=(snakemake.input.fixed, snakemake.input.moving),
        settings=snakemake.params.settings,
        seed=snakemake.params.seed,
        threads=snakemake.threads,
    )
