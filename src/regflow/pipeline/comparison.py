"""Which method works on a pair: each by itself and the default ladder, on the pair and on known truth."""

import hashlib
import json
import logging
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regflow.config.loading import load_defaults
from regflow.config.presets import load_preset, merge_settings
from regflow.core.errors import InputError
from regflow.core.files import compute_sha256, read_json, write_json
from regflow.core.memory import measure_free_bytes
from regflow.core.progress import StageEvent, StageListener, ignore_events
from regflow.io.raster_names import find_local_file
from regflow.methods.table import Method, find_method, list_methods_of_kind
from regflow.pipeline.pair_options import Part
from regflow.pipeline.trial import OUTCOME, RESULT, SPECIFICATION
from regflow.provenance.digests import compute_source_digest

log = logging.getLogger(__name__)

OWN, DEFAULT = "own pair", "default"
TRIALS, PAIRS = "trials", "pairs"
"""Folders of a comparison: of the trials, and of the pairs of known truth."""
STAGES = ("initialize", "refine")
FIRST_PEAK_BYTES = 2e9
"""What a trial is thought to take of memory before one has run."""


@dataclass(frozen=True)
class ComparedPair:
    """A pair that methods are tried on.

    Attributes:
        name: ``own pair``, or what moved its images.
        kind: ``own``, ``moved`` or ``warped``.
        fixed: the fixed image's file.
        moving: the moving image's file.
        given: what else is said of the pair, by name.
        truth: file of points and their partners; None where nobody knows it.
    """

    name: str
    kind: str
    fixed: str
    moving: str
    given: Mapping[str, Any] = field(default_factory=dict)
    truth: str | None = None


@dataclass(frozen=True)
class Trial:
    """One ladder on one pair.

    Attributes:
        stage: ``initialize`` or ``refine``: whose method is tried.
        method: its name, or ``default``: the whole ladder.
        pair: what it is tried on.
        config: sections of the configuration.
    """

    stage: str
    method: str
    pair: ComparedPair
    config: Part

    @property
    def folder(self) -> Path:
        """Where it lies in the folder of a comparison."""
        return Path(TRIALS, self.pair.name.replace(" ", "-"), f"{self.stage}-{self.method}")


@dataclass(frozen=True)
class ComparisonSettings:
    """What all trials of a comparison share.

    Attributes:
        kind: ``volumes`` or ``rasters``.
        folder: of the comparison.
        preset: on which the trials' settings lie.
        config: sections of the configuration that override the preset's.
        time_limit: seconds after which a trial is stopped.
        threads: most of all trials together.
    """

    kind: str
    folder: Path
    preset: str
    config: Part
    time_limit: float
    threads: int


def choose_methods(kind: str, named: Sequence[str] = ()) -> dict[str, dict[str, Method]]:
    """Return the methods to compare, by stage.

    Args:
        kind: ``volumes`` or ``rasters``.
        named: of either stage; all of the kind when there are none.

    Raises:
        InputError: a method is unknown.
    """
    from regflow.methods.initialize import METHODS as LINEAR
    from regflow.methods.refine import METHODS as DEFORMABLE

    tables = {
        "initialize": list_methods_of_kind(LINEAR, kind),
        "refine": list_methods_of_kind(DEFORMABLE, kind),
    }
    for name in named:
        find_method({**tables["initialize"], **tables["refine"]}, name, "methods")
    return {
        stage: {name: row for name, row in table.items() if not named or name in named}
        for stage, table in tables.items()
    }


def plan_trials(
    methods: Mapping[str, Mapping[str, Method]], pairs: Sequence[ComparedPair], config: Part
) -> Iterator[Trial]:
    """Yield the trials of a comparison, the default ladder on each pair first.

    Linear methods are tried on the pair itself and where an image was turned and shifted, deformable ones
    on the pair itself, from where the default ladder's linear methods bring it, and where an image was
    warped, from its header.
    """
    from regflow.methods.refine import NO_DEFORMATION

    linear = {"refine": {"methods": [NO_DEFORMATION]}}
    at_header = {"initialize": {"methods": ["header"]}}
    for pair in pairs:
        if pair.kind != "moved":
            yield Trial("refine", DEFAULT, pair, config)
        if pair.kind == "moved":
            yield Trial("initialize", DEFAULT, pair, merge_settings(config, linear))
        for name in methods["initialize"] if pair.kind != "warped" else ():
            own = {"initialize": {"methods": [name]}}
            yield Trial("initialize", name, pair, merge_settings(config, merge_settings(linear, own)))
        for name in methods["refine"] if pair.kind != "moved" else ():
            start = at_header if pair.kind == "warped" else {}
            own = {"refine": {"methods": [name]}}
            yield Trial("refine", name, pair, merge_settings(config, merge_settings(start, own)))


def count_trials(kind: str, named: str | None, moved: int, warped: int) -> int:
    """Return how many trials a comparison has, the first one with the default ladder counted twice.

    Args:
        kind: ``volumes`` or ``rasters``.
        named: methods with commas between them; all when None.
        moved: motions that turn and shift.
        warped: motions that warp.
    """
    methods = choose_methods(kind, [name.strip() for name in named.split(",")] if named else ())
    linear, deformable = (len(methods[stage]) for stage in STAGES)
    return 2 + linear + deformable + moved * (1 + linear) + warped * (1 + deformable)


def run_trials(
    trials: Sequence[Trial], how: ComparisonSettings, progress: StageListener = ignore_events
) -> list[dict[str, Any]]:
    """Run trials side by side, within cores and memory; those that are done already are not run again.

    Returns:
        What came of each: see :func:`regflow.pipeline.trial.run_trial`; a trial that was stopped or whose
        program failed has a sentence, too.
    """
    at_once = _count_at_once(trials, how)
    with ThreadPoolExecutor(at_once) as pool:
        asked = [pool.submit(_run, trial, how, max(1, how.threads // at_once), progress) for trial in trials]
        return [each.result() for each in asked]


def _count_at_once(trials: Sequence[Trial], how: ComparisonSettings) -> int:
    """Return how many trials run side by side, by what those have taken that are done."""
    peaks = [
        1e6 * read_json(path)["peak_mb"]
        for path in (how.folder / trial.folder / OUTCOME for trial in trials)
        if path.is_file() and "peak_mb" in read_json(path)
    ]
    free = measure_free_bytes()
    room = how.threads if free is None else int(free // (1.2 * max(peaks, default=FIRST_PEAK_BYTES)))
    return max(1, min(how.threads, room, len(trials)))


def _run(trial: Trial, how: ComparisonSettings, threads: int, progress: StageListener) -> dict[str, Any]:
    """Run a trial unless its outcome is there; its key says whether it is the same trial."""
    title = f"{trial.method} ({trial.pair.name})"
    progress(StageEvent(title, "begun"))
    folder, key = how.folder / trial.folder, _key(trial, how)
    outcome = folder / OUTCOME
    known = read_json(outcome) if outcome.is_file() else {}
    if known.get("key") != key:
        outcome.unlink(missing_ok=True)
        asked = {
            **{"kind": how.kind, "preset": how.preset, "threads": threads},
            **{name: getattr(trial.pair, name) for name in ("fixed", "moving", "given", "truth")},
            "config": trial.config,
        }
        write_json(folder / SPECIFICATION, asked)
        known = {**_run_process(folder, how.time_limit), "key": key}
        write_json(outcome, known)
    progress(StageEvent(title, "ended", known.get("seconds", {}).get("total")))
    return known


def _run_process(folder: Path, time_limit: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "regflow.pipeline.trial", str(folder)]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=time_limit, check=False)
    except subprocess.TimeoutExpired:
        return {"state": "failed", "status": "error", "reason": f"took longer than {time_limit:g} s"}
    if ended.returncode == 0:
        found: dict[str, Any] = read_json(folder / OUTCOME)
        return found
    (folder / "stderr.txt").write_text(ended.stderr, encoding="utf-8")
    last = (ended.stderr.strip() or f"it ended with {ended.returncode}").splitlines()[-1]
    return {"state": "failed", "status": "error", "reason": f"the program failed: {last}"}


def _key(trial: Trial, how: ComparisonSettings) -> str:
    """Return what changes when a trial would come out otherwise."""
    files = [trial.pair.fixed, trial.pair.moving, trial.pair.truth, *trial.pair.given.values()]
    content = {
        "files": [_checksum(name) for name in files if isinstance(name, str)],
        "given": trial.pair.given,
        "config": merge_settings(load_preset(how.preset, how.kind), trial.config),
        "limit": how.time_limit,
        "sources": [compute_source_digest(f"stages.{how.kind}.{stage}", how.kind) for stage in STAGES],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _checksum(name: str) -> str:
    local = find_local_file(name)
    return name if local is None or not Path(local).exists() else compute_sha256(local)


def find_result(how: ComparisonSettings, trial: Trial) -> Path:
    """Return the folder with the products of a trial."""
    return how.folder / trial.folder / RESULT


def refuse_foreign_folder(folder: Path) -> None:
    """Refuse a folder that holds what no comparison has written.

    Raises:
        InputError: naming what is there.
    """
    if folder.is_file():
        raise InputError(f"{folder}: this is a file; name a folder for the comparison")
    ours = {TRIALS, PAIRS, "images", "comparison.json", "comparison.tsv", "recommended.yaml", "index.html"}
    foreign = (
        sorted(item.name for item in folder.iterdir() if item.name not in ours) if folder.is_dir() else []
    )
    if foreign:
        raise InputError(f"{folder}: this folder holds other files ('{foreign[0]}'); name a new folder")


def list_default_ladders(how: ComparisonSettings) -> dict[str, list[str]]:
    """Return the methods of the default ladder, by stage."""
    chosen = merge_settings(load_preset(how.preset, how.kind), how.config)
    defaults = load_defaults(how.kind)
    return {
        stage: list(chosen.get(stage, {}).get("methods") or defaults[stage]["methods"]) for stage in STAGES
    }
