"""Samples that a network is asked about together: the same results, and each fails by itself."""

import pytest
import torch
from study import FAST, planned

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
TOGETHER = {"jobs": {"samples": 2}}


@pytest.mark.slow
def test_asked_together_a_network_gives_the_same_bytes(make_study, tmp_path):
    torch.manual_seed(0)
    save_weights(tmp_path / "tiny.safetensors", build_network(TINY), TINY)
    refined = {
        "methods": ["voxelmorph", "greedy"],
        "options": {"voxelmorph": {"weights": str(tmp_path / "tiny.safetensors"), "refinement": "greedy"}},
    }
    alone = make_study(**{**FAST, "refine": refined})
    together = make_study(**{**FAST, **TOGETHER, "refine": {**refined, "batch": 2}})
    goals = [f"results/refine/{sample}" for sample in SAMPLES]
    for study, targets in ((alone, goals), (together, ["results/jobs/register/0001.json"])):
        ended = study.snakemake(*targets)
        assert ended.returncode == 0, ended.stderr
    for sample in SAMPLES:
        outcome = read_json(together.results("refine", sample, "stage.json"))
        assert outcome["details"]["method"] == "voxelmorph"
    found = together.checksums("refine/*/*.h5")
    assert len(found) == 2 * len(SAMPLES)
    assert found == alone.checksums("refine/*/*.h5")
    # Another network under the same name: what it steered is made again, and nothing before.
    save_weights(tmp_path / "tiny.safetensors", build_network(TINY), TINY)
    assert planned(alone.snakemake("--dry-run", *goals).stdout) == {"refine": len(SAMPLES)}
    assert planned(together.snakemake("--dry-run").stdout)["register"] == 1


@pytest.mark.slow
def test_a_sample_that_failed_before_leaves_the_others_of_its_batch_alone(make_study):
    study = make_study(**{**FAST, **TOGETHER, "refine": {"methods": ["greedy"], "batch": 2}})
    study.rows[0]["moving"] = "missing.nii.gz"
    ended = study.write().snakemake("results/jobs/register/0001.json")
    assert ended.returncode == 0, ended.stderr
    states = [read_json(study.results("refine", sample, "stage.json"))["state"] for sample in SAMPLES]
    assert states == ["skipped", "done"]
