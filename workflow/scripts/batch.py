"""Take a batch of samples through a run of stages (the rules of jobs.smk)."""

from regflow.core.job import run_job

with run_job(snakemake.log[0], snakemake.threads):
    from regflow.pipeline.batch import run_batch

    run_batch(
        snakemake.output[0],
        samples=snakemake.params.subjects,
        fixed=snakemake.params.fixed,
        kind=snakemake.params.kind,
        stages=snakemake.params.stages,
        settings=snakemake.params.settings,
        sources=snakemake.params.sources,
        networks=snakemake.params.networks,
        earlier=snakemake.params.earlier,
        threads=snakemake.threads,
    )
