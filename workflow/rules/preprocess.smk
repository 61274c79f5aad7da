rule preprocess_fixed:
    """Make the working copy of a fixed image, once for all its samples."""
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
        f"../../envs/{needs['preprocess'].env}.yaml"
    threads: needs["preprocess"].threads
    resources:
        mem_mb=stage_memory("preprocess"),
        runtime=stage_runtime("preprocess"),
    params:
        settings=settings["preprocess"],
        kind=kind,
        digest=compute_source_digest(f"stages.{kind}.preprocess", kind),
    message:
        "{wildcards.fixed}: prepare the fixed image"
    script:
        "../scripts/preprocess.py"


rule preprocess_moving:
    """Make the working copy of a moving image: what steers the registration, not what it yields."""
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
        f"../../envs/{needs['preprocess'].env}.yaml"
    threads: needs["preprocess"].threads
    resources:
        mem_mb=stage_memory("preprocess"),
        runtime=stage_runtime("preprocess"),
    params:
        settings=settings["preprocess"],
        kind=kind,
        digest=compute_source_digest(f"stages.{kind}.preprocess", kind),
    message:
        "{wildcards.sample}: prepare the moving image"
    script:
        "../scripts/preprocess.py"
