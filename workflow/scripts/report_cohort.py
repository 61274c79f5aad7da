"""Write the cohort's page (rule report_cohort)."""

from regflow.core.job import run_job

with run_job(snakemake.log[0], snakemake.threads):
    from regflow.stages.pages import report_cohort

    report_cohort(
        snakemake.output[0],
        kind=snakemake.params.kind,
        tables=snakemake.params.tables,
        assessed=snakemake.params.assessed,
        pages=dict(zip(snakemake.params.samples, snakemake.params.pages, strict=True)),
        images=dict(zip(snakemake.params.samples, snakemake.params.images, strict=True)),
        provenance=snakemake.input.provenance,
        configuration=snakemake.input.configuration,
    )
