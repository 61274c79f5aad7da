# The batches take longest and come first; what describes the run uses a core that they leave idle.
rule references:
    """Prepare fixed images that several batches share."""
    input:
        lambda wildcards: [
            path
            for name in shared[wildcards.batch]
            for path in watch_files(fixed[name].list_files())
        ],
    output:
        job_file("references"),
    log:
        "<logs>/jobs/references/{batch}.log",
    benchmark:
        "<benchmarks>/jobs/references/{batch}.tsv"
    priority: 2
    conda:
        f"../../envs/{needs['preprocess'].env}.yaml"
    threads: job_threads(needs["preprocess"].threads)
    resources:
        mem_mb=lambda wildcards, attempt: attempt
        * scale_needs(
            kind, needs["preprocess"], max(map(pair_samples, shared[wildcards.batch]))
        ).mem_mb,
        runtime=lambda wildcards, attempt: attempt
        * batch_minutes(len(shared[wildcards.batch])),
    params:
        subjects=[],
        fixed=lambda wildcards: [fixed[name] for name in shared[wildcards.batch]],
        stages=[],
        settings=job_settings(["ingest", "preprocess"]),
        sources=job_sources(["ingest", "preprocess"]),
        networks={},
        earlier={},
        kind=kind,
    message:
        "references, batch {wildcards.batch}: check and prepare"
    script:
        "../scripts/batch.py"


for plan, previous in zip(plans, [None, *plans]):

    rule:
        """Take a batch of samples through a run of stages; a GPU is asked for by a profile."""
        name:
            plan.name
        input:
            files=batch_files if previous is None else [],
            references=batch_references,
            previous=batch_before(previous),
        output:
            job_file(plan.name),
        log:
            f"<logs>/jobs/{plan.name}/{{batch}}.log",
        benchmark:
            f"<benchmarks>/jobs/{plan.name}/{{batch}}.tsv"
        priority: 1
        conda:
            f"../../envs/{plan.needs.env}.yaml"
        threads: job_threads(plan.needs.threads)
        resources:
            mem_mb=batch_memory(plan.needs),
            runtime=batch_runtime,
            gpu=0,
        params:
            subjects=batch_samples,
            fixed=batch_fixed if previous is None else [],
            stages=plan.stages,
            settings=job_settings(plan.stages),
            sources=job_sources(plan.stages),
            networks={
                stage: find_used_networks(settings, [stage], dimensions)
                for stage in plan.stages
            },
            earlier=batch_earlier(plan),
            kind=kind,
        message:
            f"{plan.name}, batch {{wildcards.batch}}: {plan.stages[0]} to {plan.stages[-1]}"
        script:
            "../scripts/batch.py"
