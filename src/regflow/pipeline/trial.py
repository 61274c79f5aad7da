"""One trial of a comparison: one ladder on one pair, in a process of its own.

``python -m regflow.pipeline.trial FILE`` runs what a JSON file says and writes what came of it; a process of
its own can be stopped when it takes too long, and what it takes of memory and processors is its own.
"""

import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from regflow.core.errors import InputError, RegistrationError
from regflow.core.files import read_json, write_json
from regflow.pipeline.pair_options import make_scene_pair, make_volume_pair

SPECIFICATION, OUTCOME, RESULT = "trial.json", "outcome.json", "result"
"""Names in the folder of a trial: what is to be done, what came of it, and the registration's products."""
PARTS = (
    *("fixed_mask", "moving_mask", "fixed_labels", "moving_labels", "fixed_landmarks", "moving_landmarks"),
    *("modality", "fixed_modality", "volume", "bands", "fixed_bands", "nodata", "fixed_nodata"),
    *("mask_values", "fixed_mask_values", "companions", "classes", "truth", "landmarks"),
)
"""What may be said of a pair besides its two images."""
MAKE_PAIR = {"volumes": make_volume_pair, "rasters": make_scene_pair}


def run_trial(folder: str | Path) -> dict[str, Any]:
    """Run the trial of a folder; return what came of it.

    The keys of ``trial.json``: ``kind``, ``fixed``, ``moving``, ``given`` (parts of the pair by name),
    ``preset``, ``config``, ``threads`` and ``truth``: a file of points of the fixed image and their partners,
    which only this function sees, after the registration.

    Returns:
        ``state`` (``done`` or ``failed``), ``status`` and ``reason``, ``cpu_seconds``, ``peak_mb``; of a
        failure ``is_input_error``; else ``figures``, ``seconds`` by stage, and ``truth``: ``mean``, ``p95``
        and ``largest`` distance, world units.
    """
    from regflow.datasets.known_pairs import measure_distances
    from regflow.pipeline.pair import register_pair

    folder = Path(folder)
    asked: Mapping[str, Any] = read_json(folder / SPECIFICATION)
    pair = MAKE_PAIR[asked["kind"]](asked["fixed"], asked["moving"], dict.fromkeys(PARTS) | asked["given"])
    started = time.process_time()
    try:
        found = register_pair(
            asked["kind"],
            pair,
            folder / RESULT,
            preset=asked["preset"],
            config=asked["config"],
            threads=asked["threads"],
        )
    except (InputError, RegistrationError, MemoryError) as error:
        reason = str(error) or "the memory does not suffice"
        failed = {"state": "failed", "status": "error", "reason": reason.splitlines()[0]}
        return {**failed, "is_input_error": isinstance(error, InputError), **_use(started)}
    truth: Mapping[str, float] = {}
    if asked["truth"]:
        with np.load(asked["truth"], allow_pickle=False) as points:
            truth = measure_distances(found.transform, points["fixed"], points["moving"])
    return {
        **{"state": "done", "status": found.verdict.status, "reason": found.verdict.reason},
        **{"figures": found.quality["figures"], "seconds": found.seconds, "truth": truth},
        **_use(started),
    }


def _use(started: float) -> dict[str, float]:
    """Return what the process has taken."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"cpu_seconds": time.process_time() - started, "peak_mb": peak * 1024 / 1e6}


def main() -> None:
    """Run the trial of the folder that the command line names."""
    folder = Path(sys.argv[1])
    write_json(folder / OUTCOME, run_trial(folder))


if __name__ == "__main__":
    main()
