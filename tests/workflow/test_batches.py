"""Samples refined several at a time: a job for each batch, and the same results."""

import torch
from study import FAST, planned

from regflow.cohort.samples import split_batches
from regflow.core.files import read_json
from regflow.methods.refine.weights import NetworkDescription, build_network, save_weights

SAMPLES = ("mni6", "icbm2009a")
TINY = NetworkDescription(
    ndim=3,
    channels=(4, 4, 4, 4),
    unet_out_channels=4,
    final_channels=(4,),
    spacing=8.0,
    intensity={"method": "percentile"},
    half_resolution=False,
    fold=2,
    search=1,
)


def test_batches_keep_the_order_of_the_sheet():
    assert split_batches("abcde", 2) == {"0001": ["a", "b"], "0002": ["c", "d"], "0003": ["e"]}
    assert split_batches([], 4) == {}


def test_a_batch_is_one_job_and_gives_the_same_bytes(make_study, tmp_path):
    torch.manual_seed(0)
    save_weights(tmp_path / "tiny.safetensors", build_network(TINY), TINY)
    refined = {
        "methods": ["voxelmorph", "greedy"],
        "options": {"voxelmorph": {"weights": str(tmp_path / "tiny.safetensors"), "refinement": "greedy"}},
    }
    alone = make_study(**{**FAST, "refine": refined})
    together = make_study(**{**FAST, "refine": {**refined, "batch": 2}})
    jobs = planned(together.snakemake("--dry-run").stdout)
    assert jobs["refine_batch"] == 1
    assert jobs["refine"] == len(SAMPLES)
    for study in (alone, together):
        ended = study.snakemake("results/refine/mni6", "results/refine/icbm2009a")
        assert ended.returncode == 0, ended.stderr
    for sample in SAMPLES:
        outcome = read_json(together.results("refine", sample, "stage.json"))
        assert outcome["details"]["method"] == "voxelmorph"
    found = together.checksums("refine/*/*.h5")
    assert len(found) == 2 * len(SAMPLES)
    assert found == alone.checksums("refine/*/*.h5")
    assert not together.results("refine-batch", "0001").exists()
    # Another network under the same name: what it steered is made again, and nothing before.
    save_weights(tmp_path / "tiny.safetensors", build_network(TINY), TINY)
    goals = [f"results/refine/{sample}" for sample in SAMPLES]
    again = planned(alone.snakemake("--dry-run", *goals).stdout)
    assert {rule: count for rule, count in again.items() if rule != "total"} == {"refine": len(SAMPLES)}


def test_a_sample_that_failed_before_leaves_the_others_of_its_batch_alone(make_study):
    study = make_study(**{**FAST, "refine": {"methods": ["greedy"], "batch": 2}})
    study.config["initialize"] = {"methods": ["moments"]}
    study.rows[0]["moving"] = "missing.nii.gz"
    ended = study.write().snakemake("results/refine/mni6", "results/refine/icbm2009a")
    assert ended.returncode == 0, ended.stderr
    states = [read_json(study.results("refine", sample, "stage.json"))["state"] for sample in SAMPLES]
    assert states == ["skipped", "done"]
