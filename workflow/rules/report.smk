rule report:
    """Write a sample's page: pictures, figures of each stage, verdict; also when it failed."""
    input:
        fixed_manifest=fixed_manifest,
        moving_manifest="<results>/ingest/moving/{sample}.json",
        fixed=fixed_prepared,
        moving="<results>/preprocess/moving/{sample}",
        initial="<results>/initialize/{sample}",
        refined="<results>/refine/{sample}",
        applied="<results>/apply/{sample}",
        assessed="<results>/assess/{sample}",
        detected=change_map,
    output:
        page=report(
            "<results>/report/{sample}.html",
            caption="../report/sample.rst",
            category="Samples",
            labels={"sample": "{sample}", "what": "page"},
        ),
        picture=report(
            "<results>/report/images/{sample}.png",
            caption="../report/picture.rst",
            category="Samples",
            labels={"sample": "{sample}", "what": "picture"},
        ),
        record=f"<results>/{layout.SAMPLE_RECORD}",
    log:
        "<logs>/report/{sample}.log",
    benchmark:
        "<benchmarks>/report/{sample}.tsv"
    conda:
        f"../../envs/{needs['report'].env}.yaml"
    threads: needs["report"].threads
    resources:
        mem_mb=stage_memory("report"),
        runtime=stage_runtime("report"),
    params:
        settings=settings["report"],
        kind=kind,
        digest=compute_source_digest(f"stages.{kind}.report", kind),
    message:
        "{wildcards.sample}: page"
    script:
        "../scripts/report.py"


rule provenance:
    """Write down what the run is made from: versions, hardware, command, configuration, sample sheet."""
    input:
        sheet_file,
    output:
        record=f"<results>/{layout.PROVENANCE}",
        copies=copies_of_inputs,
    log:
        "<logs>/provenance.log",
    benchmark:
        "<benchmarks>/provenance.tsv"
    conda:
        "../../envs/reporting.yaml"
    threads: 1
    resources:
        mem_mb=scale_with_attempt(2000),
        runtime=scale_with_attempt(30),
    params:
        settings=settings,
        sources=job_sources(WORKFLOWS[kind].stages),
        environment=environment,
    message:
        "write down what the run is made from"
    script:
        "../scripts/provenance.py"


rule report_cohort:
    """Write the cohort's page: verdicts, distributions with outliers, failures and their reasons."""
    input:
        tables=rules.gather.output,
        reported=when_done("report"),
        provenance=rules.provenance.output.record,
        configuration=f"<results>/{layout.CONFIGURATION}",
    output:
        report(
            "<results>/report/index.html",
            caption="../report/cohort.rst",
            category="Cohort",
            labels={"what": "page"},
        ),
    log:
        "<logs>/report_cohort.log",
    benchmark:
        "<benchmarks>/report_cohort.tsv"
    conda:
        f"../../envs/{needs['report'].env}.yaml"
    threads: needs["report"].threads
    resources:
        mem_mb=scale_with_attempt(needs["report"].mem_mb),
        runtime=scale_with_attempt(needs["report"].runtime),
    params:
        samples=list(samples),
        assessed=each_sample(layout.ASSESSED),
        pages=each_sample(layout.SAMPLE_PAGE),
        images=each_sample(layout.SAMPLE_PICTURE),
        tables=find_tables,
        results=results_folder,
        kind=kind,
        digest=compute_source_digest("stages.pages", kind),
    message:
        "write the cohort's page"
    script:
        "../scripts/report_cohort.py"


rule crate:
    """Describe the run as a Workflow Run RO-Crate: inputs, settings and results with their checksums."""
    input:
        page=rules.report_cohort.output,
        everything=everything,
    output:
        crate=f"<results>/{layout.CRATE}",
        workflow=directory(f"<results>/{layout.WORKFLOW}"),
    log:
        "<logs>/crate.log",
    benchmark:
        "<benchmarks>/crate.tsv"
    conda:
        "../../envs/reporting.yaml"
    threads: 1
    resources:
        mem_mb=scale_with_attempt(4000),
        runtime=scale_with_attempt(60),
    params:
        results=results_folder,
        settings=settings,
        samples=list(samples),
        fixed=list(fixed),
        digest=compute_source_digest("provenance.crate", kind),
    message:
        "describe the run as an RO-Crate"
    script:
        "../scripts/crate.py"


# The cohort's page is not the page of a sample that bears its name.
ruleorder: report_cohort > report
