rule template_subject:
    """Build the template of one subject's images, which is an image of the cohort's template."""
    input:
        lambda wildcards: watch_files(template.list_subject_files(wildcards.subject)),
    output:
        done=job_file("template-subject", "{subject}"),
    log:
        "<logs>/template/subject/{subject}.log",
    benchmark:
        "<benchmarks>/template/subject/{subject}.tsv"
    conda:
        f"../../envs/{ONE_ENV}.yaml"
    threads: job_threads(needs["refine"].threads)
    resources:
        mem_mb=template_memory,
        runtime=template_runtime,
    params:
        template=template,
        settings=template_settings,
        digest=template_digest,
    message:
        "{wildcards.subject}: template of the subject's images"
    script:
        "../scripts/template_subject.py"


rule template_images:
    """Make the working images of a batch of the template's images."""
    input:
        template_images,
    output:
        job_file("template-images"),
    log:
        "<logs>/template/images/{batch}.log",
    benchmark:
        "<benchmarks>/template/images/{batch}.tsv"
    conda:
        f"../../envs/{ONE_ENV}.yaml"
    threads: job_threads(needs["preprocess"].threads)
    resources:
        mem_mb=template_memory,
        runtime=template_runtime,
    params:
        part="images",
        images=lambda wildcards: template_batches[wildcards.batch],
        template=template,
        settings=template_settings,
        digest=template_digest,
    message:
        "template, batch {wildcards.batch}: prepare the images"
    script:
        "../scripts/template.py"


rule template_start:
    """Choose or prepare what the first round of the template registers to."""
    input:
        expand(job_file("template-images"), batch=template_batches),
        watch_files({"start": settings["template"]["start"] or ""}),
    output:
        job_file("template", "start"),
    log:
        "<logs>/template/start.log",
    benchmark:
        "<benchmarks>/template/start.tsv"
    conda:
        f"../../envs/{ONE_ENV}.yaml"
    threads: job_threads(needs["preprocess"].threads)
    resources:
        mem_mb=template_memory,
        runtime=template_runtime,
    params:
        part="start",
        template=template,
        settings=template_settings,
        digest=template_digest,
    message:
        "template: choose the start"
    script:
        "../scripts/template.py"


rule template_round:
    """Register a batch of the template's images to the template of the round before."""
    input:
        images=job_file("template-images"),
        template=template_before,
    output:
        job_file("template-round-{round}"),
    log:
        "<logs>/template/round-{round}/{batch}.log",
    benchmark:
        "<benchmarks>/template/round-{round}/{batch}.tsv"
    wildcard_constraints:
        batch="[0-9]+",
    conda:
        f"../../envs/{ONE_ENV}.yaml"
    threads: job_threads(needs["refine"].threads)
    resources:
        mem_mb=template_memory,
        runtime=template_runtime,
        gpu=0,
    params:
        part="fits",
        images=lambda wildcards: template_batches[wildcards.batch],
        template=template,
        settings=template_settings,
        digest=template_digest,
    message:
        "template, round {wildcards.round}, batch {wildcards.batch}: register"
    script:
        "../scripts/template.py"


rule template_mean:
    """Average a round: the transforms, whose drift is taken out, and the images under them."""
    input:
        template_fits,
    output:
        job_file("template-round-{round}", "mean"),
    log:
        "<logs>/template/round-{round}/mean.log",
    benchmark:
        "<benchmarks>/template/round-{round}/mean.tsv"
    conda:
        f"../../envs/{ONE_ENV}.yaml"
    threads: job_threads(needs["refine"].threads)
    resources:
        mem_mb=template_memory,
        runtime=template_runtime,
    params:
        part="mean",
        template=template,
        settings=template_settings,
        digest=template_digest,
    message:
        "template, round {wildcards.round}: average"
    script:
        "../scripts/template.py"


rule template:
    """Write the template of the cohort, its mask and its page; the cohort then goes onto it."""
    input:
        job_file(f"template-round-{template.rounds}", "mean"),
    output:
        job_file("template", "products"),
        template_files,
    log:
        "<logs>/template/products.log",
    benchmark:
        "<benchmarks>/template/products.tsv"
    conda:
        f"../../envs/{ONE_ENV}.yaml"
    threads: 1
    resources:
        mem_mb=template_memory,
        runtime=template_runtime,
    params:
        part="products",
        template=template,
        settings=template_settings,
        digest=template_digest,
    message:
        "template: write it"
    script:
        "../scripts/template.py"
