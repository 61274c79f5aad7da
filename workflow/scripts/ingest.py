"""Look at one image's files (rules ingest_fixed and ingest_moving)."""

from regflow.core.job import job

with job(snakemake.log[0], snakemake.threads):
    from regflow.stages.volumes.ingest import ingest

    ingest(snakemake.output[0], subject=snakemake.params.subject)
