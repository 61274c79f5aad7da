"""Write down what the run is made from (rule provenance)."""

from regflow.core.job import run_job

with run_job(snakemake.log[0], snakemake.threads):
    from regflow.provenance.provenance import collect_provenance

    collect_provenance(
        snakemake.output.record,
        settings=snakemake.params.settings,
        sources=snakemake.params.sources,
    )
