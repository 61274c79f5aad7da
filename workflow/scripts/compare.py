"""Try every method on a sample (rule compare_sample)."""

from regflow.core.job import run_job

with run_job(snakemake.log[0], snakemake.threads):
    from regflow.pipeline.compare import compare_sample

    compare_sample(
        snakemake.output[0],
        sample=snakemake.params.sample,
        settings=snakemake.params.settings,
        threads=snakemake.threads,
    )
