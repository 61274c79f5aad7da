"""Write down what the run is made from (rule provenance)."""

from regflow.core.job import run_job

with run_job(snakemake.log[0], snakemake.threads):
    from regflow.pipeline.stored_results import fetch_results
    from regflow.provenance.provenance import collect_provenance

    with fetch_results(snakemake.params.settings["output"], snakemake.params.manifests) as locate:
        collect_provenance(
            snakemake.output.record,
            snakemake.output.configuration,
            settings=snakemake.params.settings,
            manifests=[locate(path) for path in snakemake.params.manifests],
            sources=snakemake.params.sources,
        )
