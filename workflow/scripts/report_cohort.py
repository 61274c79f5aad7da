"""Write the cohort's page (rule report_cohort)."""

from regflow.core.job import run_job

with run_job(snakemake.log[0], snakemake.threads):
    from regflow.pipeline.cohort_jobs import write_cohort_page

    write_cohort_page(
        snakemake.params.results,
        snakemake.output[0],
        samples=snakemake.params.samples,
        kind=snakemake.params.kind,
        tables=snakemake.params.tables,
        assessed=snakemake.params.assessed,
        pages=snakemake.params.pages,
        images=snakemake.params.images,
        provenance=snakemake.input.provenance,
        configuration=snakemake.input.configuration,
    )
