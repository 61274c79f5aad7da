"""Train a registration network (rule train)."""

from regflow.core.job import run_job

with run_job(snakemake.log[0], snakemake.threads):
    from regflow.training.product import train_network

    train_network(
        snakemake.output.weights,
        settings=snakemake.params.settings,
        seed=snakemake.params.seed,
        threads=snakemake.threads,
    )
