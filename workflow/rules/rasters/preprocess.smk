rule preprocess_fixed:
    """Make the working scene of a fixed scene, once for all its samples."""
    input:
        manifest="<results>/ingest/fixed/{fixed}.json",
        files=fixed_files,
    output:
        directory("<results>/preprocess/fixed/{fixed}"),
    log:
        "<logs>/preprocess/fixed/{fixed}.log",
    benchmark:
        "<benchmarks>/preprocess/fixed/{fixed}.tsv"
    conda:
        "../../../envs/rasters.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        settings=settings["preprocess"],
        digest=source_digest("stages.rasters.preprocess", "rasters"),
    message:
        "{wildcards.fixed}: prepare the fixed scene"
    script:
        "../../scripts/rasters/preprocess.py"


rule preprocess_moving:
    """Make the working scene of a moving scene: what steers the registration, not what it yields."""
    input:
        manifest="<results>/ingest/moving/{sample}.json",
        files=moving_files,
        reference=fixed_prepared,
    output:
        directory("<results>/preprocess/moving/{sample}"),
    log:
        "<logs>/preprocess/moving/{sample}.log",
    benchmark:
        "<benchmarks>/preprocess/moving/{sample}.tsv"
    conda:
        "../../../envs/rasters.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        settings=settings["preprocess"],
        digest=source_digest("stages.rasters.preprocess", "rasters"),
    message:
        "{wildcards.sample}: prepare the moving scene"
    script:
        "../../scripts/rasters/preprocess.py"
