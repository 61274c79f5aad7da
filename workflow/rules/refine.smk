rule refine:
    """Find the deformation that is left after the affine transform, and its inverse.

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
        "../../envs/registration.yaml"
    threads: 4
    resources:
        mem_mb=growing(8000),
        runtime=growing(60),
        gpu=0,
    params:
        settings=settings["refine"],
        seed=settings["seed"],
        digest=source_digest("stages.volumes.refine", "volumes"),
        networks=networks_used(settings["refine"], 3),
    message:
        "{wildcards.sample}: deformable"
    script:
        "../scripts/refine.py"
