"""``python tests/mutation record|run``: see README.md beside this file."""

import argparse
import csv
import json
import os
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import trial
from faults import Fault, find_faults, sample_faults
from reach import Names, Reached, Recorder, runners, with_holders

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "regflow"
OUT = ROOT / "build" / "mutation"
NOTES = OUT / "reach"
PACKAGES = ("core", "io", "metrics", "methods", "stages")
COLUMNS = ("fate", "path", "line", "column", "owner", "kind", "before", "after", "test", "seconds")
KEY = ("path", "line", "column", "kind", "after")
CAUGHT = ("caught", "hung")
COMPILE_SECONDS = 120
"""Added to the limit of a fault in a compiled function: its kernels are compiled anew."""
PATIENCE = 5
"""How many times the CPU seconds that were recorded tests may take before they count as hung, ..."""
SLOWEST_SECONDS = 45
"""Tests that take longer are not noted: they are no use for one fault of hundreds."""
GRACE_SECONDS = 20
"""... and this on top, for what they import."""


def main() -> None:
    """Record what the tests reach, or plant faults."""
    parser = argparse.ArgumentParser(prog="python tests/mutation", description=__doc__)
    jobs = parser.add_subparsers(required=True)
    record = jobs.add_parser("record", help="run test files once, to note what each test reaches")
    record.add_argument("files", nargs="*", type=Path, help="default: every file in tests/unit not yet noted")
    record.add_argument(
        "--only", help="of each file the tests that this matches, as pytest's -k; others stay noted"
    )
    record.add_argument("--workers", type=int, default=1, help="files run side by side")
    record.set_defaults(job=record_files)
    run = jobs.add_parser("run", help="plant faults and write a table of those that survive")
    run.add_argument("--packages", nargs="+", default=list(PACKAGES), help="below src/regflow")
    run.add_argument("--exclude", nargs="*", default=[], help="paths below src/regflow that begin so")
    run.add_argument("--count", type=int, default=100)
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--budget", type=float, default=5.0, help="CPU seconds of tests for each fault")
    run.add_argument("--workers", type=int, default=1, help="faults judged side by side")
    run.add_argument("--again", type=Path, help="plant the survivors of an earlier table, and no others")
    run.add_argument("--resume", action="store_true", help="leave out what the table holds already")
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
    NOTES.mkdir(parents=True, exist_ok=True)
    every = sorted((ROOT / "tests" / "unit").rglob("test_*.py"))
    missing = [path for path in every if not (NOTES / f"{path.stem}.json").is_file()]
    files = [path.resolve().relative_to(ROOT) for path in arguments.files or missing]
    trial.side_by_side(partial(record_each, only=arguments.only), files, arguments.workers)


def record_each(files: list[Path], only: str | None) -> None:
    """Run test files one after another in one copy of the project."""
    with project_copy() as project:
        for path in files:
            note, log = NOTES / f"{path.stem}.json", OUT / f"record-{path.stem}.log"
            work = partial(_record, path, project, note, only)
            status, seconds = trial.in_child(work, project, log, cpu_seconds=900)
            print(f"{path}: status {status}, {seconds:.0f} s", flush=True)


def _record(path: Path, project: Path, note: Path, only: str | None) -> int:
    import pytest

    recorder = Recorder(project / "src" / "regflow")
    chosen = ["-m", "not slow and not slurm", f"--timeout={SLOWEST_SECONDS}", *(["-k", only] if only else [])]
    status = int(pytest.main(["-q", *trial.PLUGINS_OFF, *chosen, str(path)], plugins=[recorder]))
    content = {
        "tests": {name: asdict(reached) for name, reached in recorder.tests.items()},
        "fixtures": {name: seconds for name, (_, seconds) in recorder.fixtures.items()},
    }
    if only and note.is_file():
        before = json.loads(note.read_text(encoding="utf-8"))
        content = {part: before[part] | noted for part, noted in content.items()}
    note.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return status


@dataclass
class Notes:
    """What was recorded, and where names are used.

    Attributes:
        tests: by their names.
        fixtures: CPU seconds of each that tests share.
        reached: the tests that reach a place.
        names: where the package uses names.
    """

    tests: dict[str, Reached]
    fixtures: dict[str, float]
    reached: dict[str, set[str]]
    names: Names

    @classmethod
    def read(cls) -> "Notes":
        """Read the notes of all test files."""
        tests: dict[str, Reached] = {}
        fixtures: dict[str, float] = {}
        files = {path.stem: path for path in (ROOT / "tests" / "unit").rglob("test_*.py")}
        for path in sorted(NOTES.glob("*.json")):
            content = json.loads(path.read_text(encoding="utf-8"))
            text = files[path.stem].read_text(encoding="utf-8")
            there = set(re.findall(r"^ *def (test_\w+)", text, re.MULTILINE))
            noted = {name: Reached(**each) for name, each in content["tests"].items()}
            tests |= {name: each for name, each in noted.items() if function_of(name) in there}
            fixtures |= content["fixtures"]
        reached: dict[str, set[str]] = defaultdict(set)
        for name, each in tests.items():
            for place in {holder for own in each.places for holder in with_holders(own)}:
                reached[place].add(name)
        return cls(tests, fixtures, dict(reached), Names.of(PACKAGE))

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


def function_of(name: str) -> str:
    """Return the name of a test's function: ``file::function[case]``."""
    return name.partition("[")[0].rpartition("::")[2]


class Trials:
    """Plants one fault after another in a copy of the project and runs the tests that reach it."""

    def __init__(self, project: Path, notes: Notes, budget_seconds: float) -> None:
        self.project = project
        self.package = project / "src" / "regflow"
        self.budget_seconds = budget_seconds
        self.notes = notes
        self.planted = 0
        self.log = OUT / f"trial-{os.getpid()}.log"

    def judge(self, fault: Fault) -> tuple[str, str, float]:
        """Plant a fault and run tests that reach it.

        Returns:
            What became of it (caught, hung, survived, unreached), what tells so, and the CPU seconds taken.
        """
        names = runners(f"{fault.path}::{fault.owner}", self.notes.reached, self.notes.names)
        if not names:
            return "unreached", "", 0.0
        chosen, seconds = self.notes.choose(names, fault.path, self.budget_seconds)
        limit = GRACE_SECONDS + PATIENCE * seconds + (COMPILE_SECONDS if fault.compiled else 0)
        with self._planted(fault):
            status, taken = self._run(chosen, limit)
        if status == trial.HUNG:
            return "hung", "", taken
        if status == 0:
            return "survived", f"{len(chosen)} of {len(names)}", taken
        if status != 1:
            return "caught", f"ends with status {status}: tests cannot be collected, or Python dies", taken
        return "caught", failed_tests(self.log)[0], taken

    def _run(self, names: list[str], cpu_seconds: float) -> tuple[int, float]:
        return trial.in_child(lambda: trial.run_tests(names), self.project, self.log, cpu_seconds)

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
            users = {user for place in frontier for user in self.notes.names.users(place)}
            frontier = users - seen
            seen = seen | users
        return [file for place in sorted(seen) for file in self._compiled_files(place)]

    def _compiled_files(self, place: str) -> list[Path]:
        path, _, name = place.partition("::")
        source = self.package / path
        return list((source.parent / "__pycache__").glob(f"{source.stem}.{name}-*.nb[ci]"))


def plant_faults(arguments: argparse.Namespace) -> None:
    """Plant faults, some side by side, and write what became of each as it becomes known."""
    trial.load_libraries()
    arguments.table.parent.mkdir(parents=True, exist_ok=True)
    faults = chosen_faults(PACKAGE, arguments)
    if arguments.resume:
        done = {_key_of(row) for row in read_table(arguments.table)}
        faults = [fault for fault in faults if _key(fault) not in done]
    else:
        arguments.table.write_text("\t".join(COLUMNS) + "\n", encoding="utf-8")
    judge = partial(judge_all, notes=Notes.read(), arguments=arguments)
    trial.side_by_side(judge, faults, arguments.workers)
    take_back_unsound(arguments.table)
    counts = Counter(row["fate"] for row in read_table(arguments.table))
    caught = sum(counts[fate] for fate in CAUGHT)
    print(f"{caught} of {counts.total()} caught: {dict(counts)}; {arguments.table}")


def judge_all(faults: list[Fault], notes: Notes, arguments: argparse.Namespace) -> None:
    """Judge faults one after another in one copy of the project; add a row for each to the table."""
    with project_copy() as project, arguments.table.open("a", encoding="utf-8") as table:
        trial.keep_kernels(project)
        trials = Trials(project, notes, arguments.budget)
        for fault in faults:
            fate, detail, seconds = trials.judge(fault)
            cells = (fate, *(getattr(fault, name) for name in COLUMNS[1:8]), detail)
            print(*map(_flat, cells), f"{seconds:.1f}", sep="\t", file=table, flush=True)
            print(f"{fate}\t{seconds:.1f} s\t{fault}\t{detail}", flush=True)


def take_back_unsound(table: Path) -> None:
    """Run the tests that caught faults once more without any; what fails then too has caught nothing."""
    rows = read_table(table)
    names = sorted({row["test"] for row in rows if row["fate"] == "caught" and "::" in row["test"]})
    log = OUT / "sound.log"
    with project_copy() as project:
        trial.in_child(partial(trial.run_tests, names, stop=False), project, log, cpu_seconds=3600)
    failing = set(failed_tests(log))
    for row in rows:
        row["fate"] = "unsound" if row["test"] in failing else row["fate"]
    lines = ["\t".join(COLUMNS), *("\t".join(row[name] for name in COLUMNS) for row in rows)]
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")


def failed_tests(log: Path) -> list[str]:
    """Return the tests that failed by pytest's last lines; an empty name where it names none."""
    text = log.read_text(encoding="utf-8", errors="replace")
    return re.findall(r"^(?:FAILED|ERROR) (\S+?\.py(?:::.*?)?)(?: - .*)?$", text, re.MULTILINE) or [""]


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table of faults."""
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


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
    rows = [row for row in read_table(arguments.again) if row["fate"] not in CAUGHT]
    keys = {_key_of(row) for row in rows}
    found = (fault for path in sorted({row["path"] for row in rows}) for fault in find_faults(package, path))
    return list({_key(fault): fault for fault in found if _key(fault) in keys}.values())


def _key(fault: Fault) -> tuple[str, ...]:
    """Return what tells a fault from others as long as the sources stay as they are."""
    return tuple(_flat(getattr(fault, name)) for name in KEY)


def _key_of(row: dict[str, str]) -> tuple[str, ...]:
    return tuple(row[name] for name in KEY)


def _flat(cell: object) -> str:
    return " ".join(str(cell).split())


if __name__ == "__main__":
    main()
