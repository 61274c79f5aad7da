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
        f"../../envs/{needs['assess'].env}.yaml"
    threads: needs["assess"].threads
    resources:
        mem_mb=stage_memory("assess"),
        runtime=stage_runtime("assess"),
    params:
        settings=settings["assess"],
        seed=settings["seed"],
        dask=settings.get("dask"),
        kind=kind,
        digest=compute_source_digest(f"stages.{kind}.assess", kind),
    message:
        "{wildcards.sample}: measure"
    script:
        "../scripts/assess.py"


rule gather:
    """Bring the figures of all samples into the cohort's tables, failed samples included."""
    input:
        when_done("assess"),
    output:
        **{
            name: multiext(table, ".tsv", ".parquet")
            for name, table in tables.items()
            if name != "samples"
        },
        samples=report(
            multiext(tables["samples"], ".tsv", ".parquet"),
            caption="../report/table.rst",
            category="Cohort",
            labels={"what": "table"},
        ),
        multiqc=directory(f"<results>/{layout.MULTIQC}"),
    log:
        "<logs>/gather.log",
    benchmark:
        "<benchmarks>/gather.tsv"
    conda:
        "../../envs/reporting.yaml"
    threads: 1
    resources:
        mem_mb=scale_with_attempt(4000),
        runtime=scale_with_attempt(30),
    params:
        assessed=each_sample(layout.ASSESSED),
        subjects=subjects,
        tables=list(tables),
        results=results_folder,
        kind=kind,
        digest=compute_source_digest("stages.gather", kind),
    message:
        "gather the figures of all samples"
    script:
        "../scripts/gather.py"


# A table of the cohort is not a sample that bears its name.
ruleorder: gather > assess
