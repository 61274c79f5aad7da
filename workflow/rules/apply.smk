rule apply:
    """Warp the original image, and all that follows it, each with one interpolation."""
    input:
        refined="<results>/refine/{sample}",
        fixed_manifest=fixed_manifest,
        moving_manifest="<results>/ingest/moving/{sample}.json",
        fixed=fixed_prepared,
        moving="<results>/preprocess/moving/{sample}",
        files=original_files,
    output:
        directory("<results>/apply/{sample}"),
    log:
        "<logs>/apply/{sample}.log",
    benchmark:
        "<benchmarks>/apply/{sample}.tsv"
    conda:
        f"../../envs/{needs['apply'].env}.yaml"
    threads: needs["apply"].threads
    resources:
        mem_mb=stage_memory("apply"),
        runtime=stage_runtime("apply"),
    params:
        settings=settings["apply"],
        dask=settings.get("dask"),
        kind=kind,
        digest=compute_source_digest(f"stages.{kind}.apply", kind),
    message:
        "{wildcards.sample}: warp"
    script:
        "../scripts/apply.py"


rule publish:
    """Give the products of a BIDS data set their names of BIDS-Derivatives."""
    input:
        when_done("apply"),
    output:
        directory("<results>/derivatives"),
    log:
        "<logs>/publish.log",
    benchmark:
        "<benchmarks>/publish.tsv"
    conda:
        "../../envs/volumes.yaml"
    threads: 1
    resources:
        mem_mb=scale_with_attempt(2000),
        runtime=scale_with_attempt(30),
    params:
        samples=list(samples.values()),
        applied=each_sample(layout.APPLIED),
        refined=each_sample(layout.REFINED),
        config=settings,
        digest=compute_source_digest("cohort.volumes.derivatives", "volumes"),
    message:
        "name the products as BIDS derivatives"
    script:
        "../scripts/publish.py"
