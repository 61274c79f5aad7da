"""Trainings small enough for a test, also as a program: ``training_runs.py FOLDER SETTINGS-AS-JSON``."""

import json
import sys
from pathlib import Path
from typing import Any

from regflow.training import label_maps, sources
from regflow.training.loop import TrainingResult, run_training
from regflow.training.options import complete_training_options
from regflow.training.tasks import TASKS

SMALL_SHAPES = {"side": {2: 128, 3: 64}, "maps": {2: 6, 3: 3}}


def tiny(**given: Any) -> dict[str, Any]:
    """Settings of six steps of a tiny network for flat images, painted from random shapes."""
    small = {
        **{"ndim": 2, "shares": {"shapes": 1.0}, "channels": [4, 4, 4, 4], "side": 32},
        **{"spacing": 1.0, "passes": [1.0], "steps": 6, "batch": 2, "warmup": 2, "validate_every": 3},
        **{"validation_pairs": 3, "precision": "float32", "device": "cpu", "workers": 0},
    }
    return complete_training_options("volumes", **{**small, **given})


def draw_few_shapes() -> None:
    """Make random shapes few and small: seconds become tenths."""
    label_maps.SHAPE_SIDE, sources.SHAPE_MAPS = SMALL_SHAPES["side"], SMALL_SHAPES["maps"]


def run(settings: dict[str, Any], folder: Path, **how: Any) -> TrainingResult | None:
    """Train on the CPU, on one thread and in one process unless told otherwise."""
    task = TASKS[settings["task"]]
    return run_training(
        task.load(),
        task.complete(settings),
        folder,
        **{"seed": 3, "device": "cpu", "threads": 1, "workers": 0, **how},
    )


if __name__ == "__main__":
    draw_few_shapes()
    run(json.loads(sys.argv[2]), Path(sys.argv[1]))
