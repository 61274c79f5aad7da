"""What the jobs of a workflow inherit from the process that starts them."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regflow.core.addresses import export_addresses, redact_command
from regflow.methods.refine import METHODS
from regflow.methods.table import wants_gpu

COMMAND = "REGFLOW_COMMAND"
"""Environment variable with the command that was typed."""
GPUS = "REGFLOW_REFINE_GPUS"
"""Environment variable with the number of GPUs that a job of the refine stage can use, 0 or 1."""
TRAINING_GPUS = "REGFLOW_TRAIN_GPUS"
"""The same of a training."""


def export_environment() -> None:
    """Set, for all processes started from here, where this package is, what was typed, and addresses.

    A job in a conda environment of its own then finds this regflow, not another version. Only a
    source tree is handed down: a folder of installed packages holds those of another environment.
    """
    source = Path(__file__).parents[2]
    if source.name == "src":
        others = filter(None, [os.environ.get("PYTHONPATH")])
        os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([str(source), *others]))
    os.environ.setdefault(COMMAND, find_typed_command())
    export_addresses()


def export_gpu_counts(settings: Mapping[str, Any]) -> None:
    """Set what a cluster's profile cannot know of a complete configuration: how many GPUs jobs can use."""
    os.environ[GPUS] = str(int(wants_gpu(METHODS, settings["kind"], settings["refine"])))
    os.environ[TRAINING_GPUS] = str(int(settings["train"]["device"] != "cpu"))


def find_typed_command() -> str:
    """Return the command that was typed, also in a job that it led to, without secrets."""
    return os.environ.get(COMMAND) or redact_command(sys.argv)
