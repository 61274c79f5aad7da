"""Look at one scene's files (rules ingest_fixed and ingest_moving)."""

from regflow.core.logs import stage_log

with stage_log(snakemake.log[0]):
    from regflow.stages.rasters.ingest import ingest

    ingest(snakemake.output[0], subject=snakemake.params.subject)
