rule initialize:
    """Bring the moving image near the fixed one, by a rigid and then an affine transform."""
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
        "../../envs/registration.yaml"
    threads: 2
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        settings=settings["initialize"],
        seed=settings["seed"],
        digest=source_digest("stages.volumes.initialize", "volumes"),
    message:
        "{wildcards.sample}: rigid and affine"
    script:
        "../scripts/initialize.py"
