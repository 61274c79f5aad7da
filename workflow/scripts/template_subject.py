"""Build the template of one subject's images (rule template_subject)."""

from regflow.core.job import run_job

with run_job(snakemake.log[0], snakemake.threads):
    from regflow.pipeline.template_jobs import build_subject_template

    build_subject_template(
        snakemake.output.done,
        subject=snakemake.wildcards.subject,
        template=snakemake.params.template,
        settings=snakemake.params.settings,
        threads=snakemake.threads,
    )
