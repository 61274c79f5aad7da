"""Take a batch of samples through a run of stages (the rules of jobs.smk)."""

from pathlib import Path

from regflow.core.job import job

with job(snakemake.log[0], snakemake.threads):
    from regflow.pipeline.batch import BatchJob, run_batch

    run_batch(
        snakemake.output[0],
        BatchJob(
            results=Path(snakemake.params.settings["output"]),
            kind=snakemake.params.kind,
            stages=snakemake.params.stages,
            settings=snakemake.params.settings,
            sources=snakemake.params.sources,
            networks=snakemake.params.networks,
            earlier=snakemake.params.earlier,
            threads=snakemake.threads,
        ),
        snakemake.params.subjects,
        snakemake.params.fixed,
    )
