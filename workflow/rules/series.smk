rule series:
    """Align the images of a series to one another; links that are measured are not measured again."""
    input:
        lambda wildcards: [
            path
            for image in series[wildcards.series]
            for path in watch_files(image.list_files())
        ],
    output:
        job_file("series", "{series}"),
    log:
        "<logs>/series/{series}.log",
    benchmark:
        "<benchmarks>/series/{series}.tsv"
    wildcard_constraints:
        series="[^/]+",
    conda:
        f"../../envs/{needs['refine'].env}.yaml"
    threads: job_threads(needs["refine"].threads)
    resources:
        mem_mb=lambda wildcards, attempt: attempt
        * scale_needs(
            kind,
            needs["refine"],
            2 * max(estimate_once(image.image) for image in series[wildcards.series]),
        ).mem_mb,
        runtime=lambda wildcards, attempt: attempt
        * batch_minutes(4 * len(series[wildcards.series])),
    params:
        images=lambda wildcards: series[wildcards.series],
        settings=job_settings(
            ["preprocess", "initialize", "refine", "apply", "detect", "series"]
        ),
        kind=kind,
        digest=compute_source_digest("pipeline.series_jobs", kind),
    message:
        "{wildcards.series}: align the series"
    script:
        "../scripts/series.py"
