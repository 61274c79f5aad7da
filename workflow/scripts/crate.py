"""Describe the run as an RO-Crate (rule crate)."""

from regflow.core.job import run_job

with run_job(snakemake.log[0], snakemake.threads):
    from regflow.provenance.crate import write_crate

    write_crate(
        snakemake.output.crate,
        settings=snakemake.params.settings,
        samples=snakemake.params.samples,
        fixed=snakemake.params.fixed,
    )
