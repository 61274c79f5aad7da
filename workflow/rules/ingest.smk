rule ingest_fixed:
    """Hold a fixed image's files against the sheet, and write what they are."""
    input:
        fixed_files,
    output:
        "<results>/ingest/fixed/{fixed}.json",
    log:
        "<logs>/ingest/fixed/{fixed}.log",
    benchmark:
        "<benchmarks>/ingest/fixed/{fixed}.tsv"
    conda:
        f"../../envs/{needs['ingest'].env}.yaml"
    threads: needs["ingest"].threads
    resources:
        mem_mb=stage_memory("ingest"),
        runtime=stage_runtime("ingest"),
    params:
        subject=lambda wildcards: fixed[wildcards.fixed],
        kind=kind,
        digest=compute_source_digest(f"stages.{kind}.ingest", kind),
    message:
        "{wildcards.fixed}: check the fixed image's files"
    script:
        "../scripts/ingest.py"


rule ingest_moving:
    """Hold a sample's files against the sheet, and write what they are."""
    input:
        files=moving_files,
        fixed=fixed_image,
    output:
        "<results>/ingest/moving/{sample}.json",
    log:
        "<logs>/ingest/moving/{sample}.log",
    benchmark:
        "<benchmarks>/ingest/moving/{sample}.tsv"
    conda:
        f"../../envs/{needs['ingest'].env}.yaml"
    threads: needs["ingest"].threads
    resources:
        mem_mb=stage_memory("ingest"),
        runtime=stage_runtime("ingest"),
    params:
        subject=lambda wildcards: samples[wildcards.sample],
        kind=kind,
        digest=compute_source_digest(f"stages.{kind}.ingest", kind),
    message:
        "{wildcards.sample}: check the files"
    script:
        "../scripts/ingest.py"
