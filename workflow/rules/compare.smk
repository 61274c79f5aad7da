rule compare_sample:
    """Try every method on a sample, each by itself, and recommend a ladder.

    What each of them makes lies beside the page, where Snakemake does not see it: a job that was killed goes
    on from there when it is run again.
    """
    output:
        f"<results>/{layout.COMPARED}",
    log:
        "<logs>/compare/{sample}.log",
    benchmark:
        "<benchmarks>/compare/{sample}.tsv"
    conda:
        f"../../envs/{ONE_ENV}.yaml"
    threads: 4
    resources:
        mem_mb=scale_with_attempt(16000),
        runtime=scale_with_attempt(480),
        gpu=0,
    params:
        sample=lambda wildcards: samples[wildcards.sample],
        settings=settings,
        digest=compute_source_digest("pipeline.compare", kind),
    message:
        "compare methods on {wildcards.sample}"
    script:
        "../scripts/compare.py"
