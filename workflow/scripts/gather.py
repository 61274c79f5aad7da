"""Gather the cohort's figures (rule gather)."""

from regflow.core.job import run_job

with run_job(snakemake.log[0], snakemake.threads):
    from functools import partial

    from regflow.pipeline.stored_results import fetch_results, measure_sample
    from regflow.stages.gather import gather

    with fetch_results(snakemake.params.results, snakemake.params.assessed) as locate:
        gather(
            {name: snakemake.output.get(name)[0] for name in snakemake.params.tables},
            [locate(path) for path in snakemake.params.assessed],
            snakemake.params.subjects,
            snakemake.params.kind,
            partial(measure_sample, snakemake.params.results),
        )
