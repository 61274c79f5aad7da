rule initialize:
    """Bring the moving scene onto the fixed one by a linear map, translation to homography."""
    input:
        fixed=fixed_prepared,
        moving="<results>/preprocess/moving/{sample}",
    output:
        directory("<results>/initialize/{sample}"),
    log:
        "<logs>/initialize/{sample}.log",
    benchmark:
        "<benchmarks>/initialize/{sample}.tsv"
    conda:
        "../../../envs/registration.yaml"
    threads: 2
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        settings=settings["initialize"],
        seed=settings["seed"],
        digest=source_digest("stages.rasters.initialize", "rasters"),
    message:
        "{wildcards.sample}: linear map"
    script:
        "../../scripts/rasters/initialize.py"
