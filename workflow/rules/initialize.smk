rule initialize:
    """Bring the moving image near the fixed one by a linear map: volumes rigid to affine, scenes to homography."""
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
        f"../../envs/{needs['initialize'].env}.yaml"
    threads: needs["initialize"].threads
    resources:
        mem_mb=stage_memory("initialize"),
        runtime=stage_runtime("initialize"),
    params:
        settings=settings["initialize"],
        seed=settings["seed"],
        kind=kind,
        digest=compute_source_digest(f"stages.{kind}.initialize", kind),
        networks=find_used_networks(settings, ["initialize"], dimensions),
    message:
        "{wildcards.sample}: linear alignment"
    script:
        "../scripts/initialize.py"
