"""Write down what the run is made from (rule provenance)."""

from regflow.core.job import run_job

with run_job(snakemake.log[0], snakemake.threads):
    from regflow.pipeline.cohort_jobs import record_provenance

    record_provenance(
        snakemake.params.settings["output"],
        snakemake.output.record,
        snakemake.output.configuration,
        settings=snakemake.params.settings,
        manifests=snakemake.params.manifests,
        sources=snakemake.params.sources,
    )
