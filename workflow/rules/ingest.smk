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
        "../../envs/volumes.yaml"
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing(10),
    params:
        subject=lambda wildcards: fixed[wildcards.fixed],
        digest=source_digest("stages.volumes.ingest", "volumes"),
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
        "../../envs/volumes.yaml"
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing(10),
    params:
        subject=lambda wildcards: samples[wildcards.sample],
        digest=source_digest("stages.volumes.ingest", "volumes"),
    message:
        "{wildcards.sample}: check the files"
    script:
        "../scripts/ingest.py"
