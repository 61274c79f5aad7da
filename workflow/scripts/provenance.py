"""Write down what the run is made from (rule provenance)."""

from regflow.core.logs import stage_log

with stage_log(snakemake.log[0]):
    from regflow.provenance import provenance

    provenance(
        snakemake.output.record,
        snakemake.output.configuration,
        settings=snakemake.params.settings,
        manifests=snakemake.input,
        sources=snakemake.params.sources,
    )
