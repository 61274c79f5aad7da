rule assess:
    """Measure how good a sample's registration is, and come to its verdict."""
    input:
        fixed_manifest=fixed_manifest,
        moving_manifest="<results>/ingest/moving/{sample}.json",
        fixed=fixed_prepared,
        moving="<results>/preprocess/moving/{sample}",
        initial="<results>/initialize/{sample}",
        refined="<results>/refine/{sample}",
        applied="<results>/apply/{sample}",
    output:
        directory("<results>/assess/{sample}"),
    log:
        "<logs>/assess/{sample}.log",
    benchmark:
        "<benchmarks>/assess/{sample}.tsv"
    conda:
        "../../envs/reporting.yaml"
    threads: 2
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        settings=settings["assess"],
        digest=source_digest("stages.volumes.assess", "volumes"),
    message:
        "{wildcards.sample}: measure"
    script:
        "../scripts/assess.py"


rule gather:
    """Bring the figures of all samples into the cohort's tables, failed samples included."""
    input:
        expand("<results>/assess/{sample}", sample=samples),
    output:
        samples=report(
            multiext("<results>/assess/cohort", ".tsv", ".parquet"),
            caption="../report/table.rst",
            category="Cohort",
            labels={"what": "table"},
        ),
        labels=multiext("<results>/assess/cohort_labels", ".tsv", ".parquet"),
    log:
        "<logs>/gather.log",
    benchmark:
        "<benchmarks>/gather.tsv"
    conda:
        "../../envs/reporting.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        subjects=subjects,
        digest=source_digest("stages.gather", settings["kind"]),
    message:
        "gather the figures of all samples"
    script:
        "../scripts/gather.py"


# A table of the cohort is not a sample that bears its name.
ruleorder: gather > assess
