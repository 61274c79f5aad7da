"""Write one sample's page (rule report)."""

from regflow.core.job import run_job

with run_job(snakemake.log[0], snakemake.threads):
    from regflow.stages.shell import run_stage

    run_stage(
        "report",
        snakemake.params.kind,
        snakemake.output.page,
        source=snakemake.params.digest,
        record=snakemake.output.record,
        sample=snakemake.wildcards.sample,
        manifests=(snakemake.input.fixed_manifest, snakemake.input.moving_manifest),
        prepared=(snakemake.input.fixed, snakemake.input.moving),
        initial=snakemake.input.initial,
        refined=snakemake.input.refined,
        applied=snakemake.input.applied,
        assessed=snakemake.input.assessed,
        detected=next(iter(snakemake.input.detected), None),
        settings=snakemake.params.settings,
        picture=snakemake.output.picture,
    )
