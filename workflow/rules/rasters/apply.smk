rule apply:
    """Warp the original scene, its mask, companions and classes, each with one interpolation."""
    input:
        fixed=fixed_prepared,
        moving="<results>/preprocess/moving/{sample}",
        refined="<results>/refine/{sample}",
        fixed_manifest=fixed_manifest,
        moving_manifest="<results>/ingest/moving/{sample}.json",
        files=original_files,
    output:
        directory("<results>/apply/{sample}"),
    log:
        "<logs>/apply/{sample}.log",
    benchmark:
        "<benchmarks>/apply/{sample}.tsv"
    conda:
        "../../../envs/rasters.yaml"
    threads: 2
    resources:
        mem_mb=growing(3000),
        runtime=growing(60),
    params:
        settings=settings["apply"],
        dask=settings["dask"],
        digest=source_digest("stages.rasters.apply", "rasters"),
    message:
        "{wildcards.sample}: warp"
    script:
        "../../scripts/rasters/apply.py"
