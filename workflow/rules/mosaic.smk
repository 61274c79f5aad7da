rule mosaic:
    """Stitch the tiles that the section `mosaic` names into one picture; not part of `all`."""
    input:
        lambda wildcards: list_tile_inputs(settings["mosaic"]),
    output:
        directory(f"<results>/{layout.MOSAIC}"),
    log:
        "<logs>/mosaic.log",
    benchmark:
        "<benchmarks>/mosaic.tsv"
    conda:
        f"../../envs/{ONE_ENV}.yaml"
    threads: 4
    resources:
        mem_mb=scale_with_attempt(4000),
        runtime=scale_with_attempt(120),
    params:
        settings=settings["mosaic"],
        digest=compute_source_digest("pipeline.mosaic", kind),
    message:
        "stitch the tiles"
    script:
        "../scripts/mosaic.py"
