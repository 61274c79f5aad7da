"""Write the cohort's page (rule report_cohort)."""

from regflow.core.job import run_job

with run_job(snakemake.log[0], snakemake.threads):
    from regflow.pipeline.stored_results import fetch_results
    from regflow.stages.pages import report_cohort

    results, samples = snakemake.params.results, snakemake.params.samples
    assessed, images = snakemake.params.assessed, snakemake.params.images
    page = f"{results}/{snakemake.params.page}"
    with fetch_results(results, [*assessed, *images], {page: snakemake.output[0]}) as locate:
        report_cohort(
            locate(page),
            kind=snakemake.params.kind,
            tables=snakemake.params.tables,
            assessed=[locate(path) for path in assessed],
            pages=dict(zip(samples, map(locate, snakemake.params.pages), strict=True)),
            images=dict(zip(samples, map(locate, images), strict=True)),
            provenance=snakemake.input.provenance,
            configuration=snakemake.input.configuration,
        )
