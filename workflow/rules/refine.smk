rule refine:
    """Find what is left after the linear map: a deformation, of scenes by tie points or a dense field.

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
        f"../../envs/{needs['refine'].env}.yaml"
    threads: needs["refine"].threads
    resources:
        mem_mb=stage_memory("refine"),
        runtime=stage_runtime("refine"),
        gpu=0,
    params:
        settings=settings["refine"],
        seed=settings["seed"],
        kind=kind,
        digest=compute_source_digest(f"stages.{kind}.refine", kind),
        dask=settings.get("dask"),
        networks=find_used_networks(settings, ["refine"], dimensions),
    message:
        "{wildcards.sample}: refine"
    script:
        "../scripts/refine.py"
