rule refine:
    """Find what is left after the linear map: tie points and a smooth field, or a dense field.

    No GPU is asked for here: a profile gives one where the methods can use it, as workflow/profiles/slurm
    does (set-resources).
    """
    input:
        fixed=fixed_prepared,
        moving="<results>/preprocess/moving/{sample}",
        initial="<results>/initialize/{sample}",
    output:
        directory("<results>/refine/{sample}"),
    log:
        "<logs>/refine/{sample}.log",
    benchmark:
        "<benchmarks>/refine/{sample}.tsv"
    conda:
        "../../../envs/registration.yaml"
    threads: 2
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
        gpu=0,
    params:
        settings=settings["refine"],
        dask=settings["dask"],
        seed=settings["seed"],
        digest=source_digest("stages.rasters.refine", "rasters"),
        networks=networks_used(settings["refine"], 2),
    message:
        "{wildcards.sample}: tie points"
    script:
        "../../scripts/rasters/refine.py"
