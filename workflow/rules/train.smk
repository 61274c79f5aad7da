rule train:
    """Train a registration network by the section `train` of the configuration; not part of `all`.

    Its checkpoint lies beside the products, where Snakemake does not see it: a job that was killed goes
    on from there when it is run again. No GPU is asked for here; the profile of a cluster does that.
    """
    output:
        weights=f"<results>/train/{settings['train']['name']}.safetensors",
        card=f"<results>/train/{settings['train']['name']}.md",
    log:
        f"<logs>/train/{settings['train']['name']}.log",
    benchmark:
        f"<benchmarks>/train/{settings['train']['name']}.tsv"
    conda:
        "../../envs/registration.yaml"
    threads: 4
    resources:
        mem_mb=scale_with_attempt(16000),
        runtime=scale_with_attempt(1440),
        gpu=0,
    params:
        settings=what_is_trained,
        seed=settings["seed"],
        digest=compute_source_digest("training.product", settings["kind"]),
    message:
        "train a registration network"
    script:
        "../scripts/train.py"
