"""A small study in a folder, and what tests do with it."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from regflow.core.files import compute_sha256

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / "workflow" / "Snakefile"
FAST = {
    "initialize": {"methods": ["moments"]},
    "refine": {"methods": ["greedy"]},
    "preprocess": {"bias": {"method": "none"}},
}
"""Stages that take a second or two at 4 mm; how well they register is tested elsewhere."""


@dataclass
class Study:
    """A folder with a configuration and a sheet, and what can be done with it."""

    folder: Path
    rows: list[dict[str, Any]]
    config: dict[str, Any] = field(default_factory=dict)

    def write(self) -> "Study":
        """Write the configuration and the sheet."""
        place = self.folder / "config"
        place.mkdir(parents=True, exist_ok=True)
        (place / "config.yaml").write_text(yaml.safe_dump(self.config))
        columns = list(dict.fromkeys(column for row in self.rows for column in row))
        lines = [columns, *([str(row.get(column, "")) for column in columns] for row in self.rows)]
        (place / "samples.tsv").write_text("".join("\t".join(line) + "\n" for line in lines))
        return self

    def snakemake(self, *options: str, cores: int = 2) -> subprocess.CompletedProcess[str]:
        """Run the workflow in the study's folder."""
        return self._run(self.command(*options, cores=cores))

    def command(self, *options: str, cores: int = 2) -> list[str]:
        """Return the command that :meth:`snakemake` runs."""
        program = [sys.executable, "-m", "snakemake", "--snakefile", str(WORKFLOW)]
        return [*program, "--cores", str(cores), *options]

    def regflow(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line in the study's folder."""
        return self._run([sys.executable, "-m", "regflow", *arguments])

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a command as if no Snakemake or Slurm surrounded the tests."""
        mine = {key: v for key, v in os.environ.items() if not key.startswith(("SNAKEMAKE_", "SLURM_"))}
        return subprocess.run(command, cwd=self.folder, env=mine, capture_output=True, text=True)

    def results(self, *parts: str) -> Path:
        """Return a path among the results."""
        return self.folder.joinpath("results", *parts)

    def checksums(self, pattern: str) -> dict[str, str]:
        """Return the SHA-256 of the results' files of a pattern, by their path."""
        found = sorted(self.results().glob(pattern))
        return {str(path.relative_to(self.results())): compute_sha256(path) for path in found}

    def leftovers(self) -> list[Path]:
        """Return working files that a job left behind."""
        return [path for path in self.results().rglob("*") if path.name.startswith(".part-")]


def planned(text: str) -> dict[str, int]:
    """Return the number of jobs by rule in a dry run's table."""
    table = re.search(r"^job +count\n-+ +-+\n(.*?)\n\n", text, re.MULTILINE | re.DOTALL)
    if table is None:
        return {}
    counts = dict(line.split() for line in table[1].splitlines())
    return {rule: int(count) for rule, count in counts.items() if rule != "total"}
