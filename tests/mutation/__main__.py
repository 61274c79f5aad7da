"""``python tests/mutation record|run``: see README.md beside this file."""

import argparse
import csv
import json
import os
import re
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import trial
from faults import Fault, find_faults, sample_faults
from reach import Reached, Recorder, last_name, named_in, runners

ROOT = Path(__file__).parents[2]
OUT = ROOT / "build" / "mutation"
PACKAGES = ("core", "metrics", "methods", "stages")
COLUMNS = ("fate", "path", "line", "owner", "kind", "before", "after", "test", "seconds")
CAUGHT = ("caught", "hung")
COMPILE_SECONDS = 240
"""Added to the limit of a fault in a compiled function: its kernels are compiled anew."""
PATIENCE = 8
"""How many times longer than recorded tests may take, before they count as hung, ..."""
SLOWEST_SECONDS = 45
"""Tests that take longer are not noted: they are no use for one fault of hundreds."""
GRACE_SECONDS = 60
"""... and this on top: a busy machine must not pass for a caught fault."""


def main() -> None:
    """Record what the tests reach, or plant faults."""
    parser = argparse.ArgumentParser(prog="python tests/mutation", description=__doc__)
    jobs = parser.add_subparsers(required=True)
    record = jobs.add_parser("record", help="run test files once, to note what each test reaches")
    record.add_argument("files", nargs="*", type=Path, help="default: every file in tests/unit not yet noted")
    record.set_defaults(job=record_files)
    run = jobs.add_parser("run", help="plant faults and write a table of those that survive")
    run.add_argument("--packages", nargs="+", default=list(PACKAGES), help="below src/regflow")
    run.add_argument("--exclude", nargs="*", default=[], help="paths below src/regflow that begin so")
    run.add_argument("--count", type=int, default=100)
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--budget", type=float, default=15.0, help="seconds of tests for each fault")
    run.add_argument("--again", type=Path, help="plant the survivors of an earlier table, and no others")
    run.add_argument("--table", type=Path, default=OUT / "faults.tsv")
    run.set_defaults(job=plant_faults)
    arguments = parser.parse_args()
    arguments.job(arguments)


@contextmanager
def project_copy() -> Iterator[Path]:
    """Give a copy of the project to spoil, in the system's temporary folder."""
    with tempfile.TemporaryDirectory(prefix="regflow-mutation-") as folder:
        trial.copy_project(ROOT, Path(folder))
        yield Path(folder)


def record_files(arguments: argparse.Namespace) -> None:
    """Note what the tests of each file reach, in a file of its own."""
    trial.load_libraries()
    notes = OUT / "reach"
    notes.mkdir(parents=True, exist_ok=True)
    files = [path.resolve().relative_to(ROOT) for path in arguments.files]
    every = sorted(path.relative_to(ROOT) for path in (ROOT / "tests" / "unit").glob("test_*.py"))
    with project_copy() as project:
        for path in files or [path for path in every if not (notes / f"{path.stem}.json").is_file()]:
            started = time.monotonic()
            status = trial.in_child(
                lambda path=path: _record(path, project, notes / f"{path.stem}.json"),
                project, OUT / f"record-{os.getpid()}.log", limit_seconds=1800,
            )  # fmt: skip
            print(f"{path}: status {status}, {time.monotonic() - started:.0f} s", flush=True)


def _record(path: Path, project: Path, note: Path) -> int:
    import pytest

    recorder = Recorder(project / "src" / "regflow")
    quiet = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-m",
        "not slow and not slurm",
        f"--timeout={SLOWEST_SECONDS}",
    ]
    status = int(pytest.main([*quiet, str(path)], plugins=[recorder]))
    content = {
        "tests": {name: asdict(reached) for name, reached in recorder.tests.items()},
        "fixtures": {name: seconds for name, (_, seconds) in recorder.fixtures.items()},
    }
    note.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return status


@dataclass
class Notes:
    """What was recorded: each test, seconds of each shared fixture, and the tests that reach a place."""

    tests: dict[str, Reached]
    fixtures: dict[str, float]
    reached: dict[str, set[str]]

    @classmethod
    def read(cls) -> "Notes":
        """Read the notes of all test files."""
        tests: dict[str, Reached] = {}
        fixtures: dict[str, float] = {}
        for path in sorted((OUT / "reach").glob("*.json")):
            content = json.loads(path.read_text(encoding="utf-8"))
            tests |= {name: Reached(**each) for name, each in content["tests"].items()}
            fixtures |= content["fixtures"]
        reached: dict[str, set[str]] = defaultdict(set)
        for name, each in tests.items():
            for place in each.places:
                reached[place].add(name)
        return cls(tests, fixtures, dict(reached))

    def choose(self, names: set[str], module: str, budget_seconds: float) -> tuple[list[str], float]:
        """Return the most telling tests that fit a budget, and their seconds.

        Tests of the module's own file come first, then those that reach little else; a test that does not
        fit is passed over for shorter ones, and one is always run.
        """
        stem = Path(module).stem.strip("_")
        order = sorted(names, key=lambda name: (stem not in name.partition("::")[0], self._breadth(name)))
        chosen: list[str] = []
        seconds, ready = 0.0, set[str]()
        for name in order:
            new = set(self.tests[name].fixtures) - ready
            cost = self.tests[name].seconds + sum(self.fixtures.get(each, 0.0) for each in new)
            if not chosen or seconds + cost <= budget_seconds:
                chosen.append(name)
                seconds += cost
                ready |= new
        return chosen, seconds

    def _breadth(self, name: str) -> float:
        return len(self.tests[name].places) * (1 + self.tests[name].seconds)


class Trials:
    """Plants one fault after another in a copy of the project and runs the tests that reach it."""

    def __init__(self, project: Path, budget_seconds: float) -> None:
        self.project = project
        self.package = project / "src" / "regflow"
        self.budget_seconds = budget_seconds
        self.notes = Notes.read()
        paths = [str(path.relative_to(self.package)) for path in sorted(self.package.rglob("*.py"))]
        self.holders = named_in(self.package, paths)
        self.sound: set[str] = set()
        self.planted = 0
        self.log = OUT / "trial.log"

    def judge(self, fault: Fault) -> tuple[str, str]:
        """Return what became of a fault (caught, hung, survived, unreached) and the test that tells."""
        names = runners(f"{fault.path}::{fault.owner}", self.notes.reached, self.holders)
        if not names:
            return "unreached", ""
        chosen, seconds = self.notes.choose(names, fault.path, self.budget_seconds)
        limit = GRACE_SECONDS + PATIENCE * seconds + (COMPILE_SECONDS if fault.compiled else 0)
        with self._planted(fault):
            status = self._run(chosen, limit)
        if status == trial.HUNG:
            return "hung", ""
        if status == 0:
            return "survived", f"{len(chosen)} of {len(names)}"
        if status != 1:
            return "caught", f"status {status}"
        failed = re.search(r"^FAILED (\S+::.*?)(?: - .*)?$|^ERROR (\S+)", self.log.read_text(), re.MULTILINE)
        name = next(filter(None, failed.groups())) if failed else ""
        return ("caught", name) if self._is_sound(name, chosen, limit) else ("unsound", name)

    def _run(self, names: list[str], limit_seconds: float) -> int:
        return trial.in_child(lambda: trial.run_tests(names), self.project, self.log, limit_seconds)

    def _is_sound(self, name: str, chosen: list[str], limit_seconds: float) -> bool:
        """Tell whether a test that failed passes without the fault, alone; asked once for each test."""
        if name not in self.sound and self._run([name] if name in chosen else chosen, limit_seconds) == 0:
            self.sound.add(name)
        return name in self.sound

    @contextmanager
    def _planted(self, fault: Fault) -> Iterator[None]:
        """Hold a fault in the copy; kernels that may hold compiled code of the file are compiled anew."""
        path = self.package / fault.path
        source, times = path.read_bytes(), path.stat()
        kept = {file: file.read_bytes() for file in self._kernels_with(fault) if fault.compiled}
        for file in kept:
            file.unlink()
        path.write_bytes(fault.applied(source))
        self.planted += 1
        os.utime(path, (times.st_atime, times.st_mtime + self.planted))  # or old byte code would serve
        try:
            yield
        finally:
            path.write_bytes(source)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
            for file in self._kernels_with(fault) if fault.compiled else ():
                file.unlink()
            for file, content in kept.items():
                file.write_bytes(content)

    def _kernels_with(self, fault: Fault) -> list[Path]:
        """Return what numba keeps of the functions that may hold a compiled fault: all that lead to it."""
        seen = frontier = {f"{fault.path}::{fault.owner}"}
        while frontier:
            users = {user for place in frontier for user in self.holders.get(last_name(place), ())}
            frontier = users - seen
            seen = seen | users
        return [file for place in sorted(seen) for file in self._compiled_files(place)]

    def _compiled_files(self, place: str) -> list[Path]:
        path, _, name = place.partition("::")
        source = self.package / path
        return list((source.parent / "__pycache__").glob(f"{source.stem}.{name}-*.nb[ci]"))


def plant_faults(arguments: argparse.Namespace) -> None:
    """Plant faults one after another and write what became of each, as it becomes known."""
    trial.load_libraries()
    OUT.mkdir(parents=True, exist_ok=True)
    arguments.table.parent.mkdir(parents=True, exist_ok=True)
    with project_copy() as project, arguments.table.open("w", encoding="utf-8") as table:
        trial.keep_kernels(project)
        trials = Trials(project, arguments.budget)
        print(*COLUMNS, sep="\t", file=table)
        counts: Counter[str] = Counter()
        for fault in chosen_faults(project / "src" / "regflow", arguments):
            started = time.monotonic()
            fate, detail = trials.judge(fault)
            counts[fate] += 1
            row = (fate, fault.path, fault.line, fault.owner, fault.kind, fault.before, fault.after, detail)
            seconds = f"{time.monotonic() - started:.1f}"
            print(
                *(" ".join(str(cell).split()) for cell in (*row, seconds)), sep="\t", file=table, flush=True
            )
            print(f"{fate}\t{seconds}\t{fault}\t{detail}", flush=True)
    caught = counts["caught"] + counts["hung"]
    print(f"{caught} of {counts.total()} caught: {dict(counts)}; {arguments.table}")


def chosen_faults(package: Path, arguments: argparse.Namespace) -> list[Fault]:
    """Draw faults, or find those again that survived by an earlier table."""
    if arguments.again is None:
        paths = [
            str(path.relative_to(package))
            for name in arguments.packages
            for path in (package / name).rglob("*.py")
        ]
        kept = [path for path in paths if not path.startswith(tuple(arguments.exclude))]
        return sample_faults(package, kept, arguments.count, arguments.seed)
    with arguments.again.open(encoding="utf-8") as file:
        rows = [
            row
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            if row["fate"] not in CAUGHT
        ]
    keys = [(row["path"], row["owner"], row["kind"], row["before"], row["after"]) for row in rows]
    faults = [fault for path in sorted({key[0] for key in keys}) for fault in find_faults(package, path)]
    return [
        fault
        for fault in faults
        if (fault.path, fault.owner, fault.kind, _flat(fault.before), _flat(fault.after)) in keys
    ]


def _flat(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    main()
