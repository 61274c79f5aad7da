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
        "../../../envs/rasters.yaml"
    threads: 2
    resources:
        mem_mb=growing(3000),
        runtime=growing(60),
    params:
        settings=settings["detect"],
        dask=settings["dask"],
        digest=source_digest("stages.rasters.detect", "rasters"),
    message:
        "{wildcards.sample}: changes"
    script:
        "../../scripts/rasters/detect.py"
