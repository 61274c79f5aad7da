rule detect:
    """Find what changed between a registered scene and the reference, or the date before it."""
    input:
        fixed_manifest=fixed_manifest,
        moving_manifest="<results>/ingest/moving/{sample}.json",
        warped="<results>/apply/{sample}",
        assessed="<results>/assess/{sample}",
        earlier=earlier_date,
    output:
        directory("<results>/detect/{sample}"),
    log:
        "<logs>/detect/{sample}.log",
    benchmark:
        "<benchmarks>/detect/{sample}.tsv"
    conda:
        f"../../envs/{needs['detect'].env}.yaml"
    threads: needs["detect"].threads
    resources:
        mem_mb=stage_memory("detect"),
        runtime=stage_runtime("detect"),
    params:
        settings=settings["detect"],
        dask=settings["dask"],
        kind=kind,
        digest=compute_source_digest(f"stages.{kind}.detect", kind),
    message:
        "{wildcards.sample}: changes"
    script:
        "../scripts/detect.py"
