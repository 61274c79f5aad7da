"""Find the changes of one sample (rule detect)."""

from regflow.core.job import run_job

with run_job(snakemake.log[0], snakemake.threads):
    from regflow.stages.shell import run_stage

    run_stage(
        "detect",
        snakemake.params.kind,
        snakemake.output[0],
        source=snakemake.params.digest,
        sample=snakemake.wildcards.sample,
        manifest=snakemake.input.moving_manifest,
        fixed=snakemake.input.fixed_manifest,
        warped=snakemake.input.warped,
        assessed=snakemake.input.assessed,
        earlier=tuple(snakemake.input.earlier) or None,
        settings=snakemake.params.settings,
        dask=snakemake.params.dask,
        threads=snakemake.threads,
    )
