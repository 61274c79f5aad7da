rule stack:
    """Assemble the sections that the section `stack` names into one volume; not part of `all`."""
    input:
        lambda wildcards: list_stack_inputs(settings["stack"]),
    output:
        directory(f"<results>/{layout.STACK}"),
    log:
        "<logs>/stack.log",
    benchmark:
        "<benchmarks>/stack.tsv"
    conda:
        f"../../envs/{ONE_ENV}.yaml"
    threads: 4
    resources:
        mem_mb=scale_with_attempt(6000),
        runtime=scale_with_attempt(120),
    params:
        settings=settings["stack"],
        digest=compute_source_digest("pipeline.stack", kind),
    message:
        "assemble the sections"
    script:
        "../scripts/stack.py"
