"""Do a job of a template of the cohort (the rules of template.smk)."""

from regflow.core.job import run_job

with run_job(snakemake.log[0], snakemake.threads):
    from regflow.pipeline.template_jobs import run_template_job

    run_template_job(
        snakemake.output[0],
        part=snakemake.params.part,
        template=snakemake.params.template,
        settings=snakemake.params.settings,
        names=snakemake.params.get("images", []),
        number=int(snakemake.wildcards.get("round", 0)),
        threads=snakemake.threads,
    )
