"""Look at one image's files (rules ingest_fixed and ingest_moving)."""

from regflow.core.job import run_job

with run_job(snakemake.log[0], snakemake.threads):
    from regflow.stages.shell import run_stage

    run_stage(
        "ingest",
        snakemake.params.kind,
        snakemake.output[0],
        source=snakemake.params.digest,
        subject=snakemake.params.subject,
    )
