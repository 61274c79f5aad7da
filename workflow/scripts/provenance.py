"""Write down what the run is made from (rule provenance)."""

from regflow.core.job import job

with job(snakemake.log[0], snakemake.threads):
    from regflow.provenance.provenance import provenance

    provenance(
        snakemake.output.record,
        snakemake.output.configuration,
        settings=snakemake.params.settings,
        manifests=snakemake.params.manifests,
        sources=snakemake.params.sources,
    )
