rule refine_batch:
    """Find the deformations of several samples in one job: a network loads once for all of them.

    No GPU is asked for here: a profile gives one where the methods can use it, as workflow/profiles/slurm
    does (set-resources).
    """
    input:
        fixed=batch_fixed,
        moving=batch_of("<results>/preprocess/moving/{sample}"),
        initial=batch_of("<results>/initialize/{sample}"),
    output:
        temp(directory("<results>/refine-batch/{batch}")),
    log:
        "<logs>/refine-batch/{batch}.log",
    benchmark:
        "<benchmarks>/refine-batch/{batch}.tsv"
    conda:
        f"../../envs/{needs['refine'].env}.yaml"
    threads: needs["refine"].threads
    resources:
        mem_mb=scale_with_attempt(
            needs["refine"].mem_mb + 500 * settings["refine"]["batch"]
        ),
        runtime=scale_with_attempt(
            needs["refine"].runtime * settings["refine"]["batch"]
        ),
        gpu=0,
    params:
        samples=lambda wildcards: batches[wildcards.batch],
        settings=settings["refine"],
        seed=settings["seed"],
        digest=compute_source_digest("stages.volumes.refine", kind),
        networks=find_used_networks(settings["refine"], dimensions),
    message:
        "batch {wildcards.batch}: deformable"
    script:
        "../scripts/refine_batch.py"


localrules:
    refine,


rule refine:
    """Give a sample's part of its batch its own place."""
    input:
        batch_of_sample,
    output:
        directory("<results>/refine/{sample}"),
    log:
        "<logs>/refine/{sample}.log",
    benchmark:
        "<benchmarks>/refine/{sample}.tsv"
    conda:
        f"../../envs/{needs['refine'].env}.yaml"
    threads: 1
    resources:
        mem_mb=scale_with_attempt(500),
        runtime=scale_with_attempt(5),
    params:
        digest=compute_source_digest("stages.volumes.refine", kind),
    message:
        "{wildcards.sample}: out of its batch"
    script:
        "../scripts/take_from_batch.py"
