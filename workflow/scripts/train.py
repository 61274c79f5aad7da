"""Train a registration network (rule train)."""

from regflow.core.logs import stage_log

with stage_log(snakemake.log[0]):
    from regflow.training.product import train_network

    train_network(
        snakemake.output.weights,
        settings=snakemake.params.settings,
        seed=snakemake.params.seed,
        threads=snakemake.threads,
    )
