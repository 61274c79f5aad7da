"""The blocks of a page of documentation, and a reader who types them in order."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from study import ROOT

ELSEWHERE = ("git clone", "source ", "docker ", "apptainer ")
"""Commands that make the place in which the tests already are, and those of programs that are not there."""
_FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: its language, its text, the file that it is to be written to, and its line."""

    language: str
    text: str
    title: str | None
    line: int


def read_blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page in order."""
    found = []
    for match in _FENCE.finditer(page):
        line = page.count("\n", 0, match.start(3)) + 1
        found.append(Block(match[1], match[3], match[2], line))
    return found


def read_commands(block: Block) -> list[str]:
    """Return the commands of a block of shell lines, without comments, continued lines joined."""
    joined = block.text.replace("\\\n", " ").splitlines()
    lines = [" ".join(line.partition("  #")[0].split()) for line in joined]
    return [line for line in lines if line]


@dataclass
class Reader:
    """Types commands, runs Python and writes files, each in the folder where the last step left off."""

    here: Path
    names: dict[str, Any] = field(default_factory=dict)
    typed: list[str] = field(default_factory=list)
    pythonpath: Path | None = None

    def follow(self, page: str, name: str) -> None:
        """Do what each block of a page says: files are written, commands and Python are run."""
        for block in read_blocks(page):
            if block.title:
                self.write(block)
            elif block.language == "bash":
                for command in read_commands(block):
                    self.type(command)
            elif block.language == "python":
                self.run_python(block, name)

    def type(self, command: str) -> None:
        """Run one command as a shell would; ``make`` and jobs of a profile are only planned."""
        if command.startswith(ELSEWHERE):
            return
        if command.startswith("cd "):
            self.here = self.here / command.removeprefix("cd ")
            return
        if command.startswith("make "):
            command = command.replace("make", f"make --dry-run --directory {ROOT}", 1)
        if command.startswith("dask "):
            command += " --help"
        if "--dry-run" not in command:
            command = re.sub(r"(--profile \w+)", r"\1 --dry-run", command)
        settings = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        if self.pythonpath is not None:
            settings["PYTHONPATH"] = str(self.pythonpath)
        ended = subprocess.run(
            command, shell=True, cwd=self.here, env=settings, capture_output=True, text=True
        )
        # Of a study that was only planned samples are left.
        allowed = (0, 1) if command == "regflow status" else (0,)
        assert ended.returncode in allowed, f"{command}\n{ended.stdout}\n{ended.stderr}"
        self.typed.append(command)

    def run_python(self, block: Block, name: str) -> None:
        """Run a block in the names that the blocks before have left, like a cell of a notebook."""
        before = Path.cwd()
        os.chdir(self.here)
        try:
            exec(compile("\n" * (block.line - 1) + block.text, name, "exec"), self.names)
        finally:
            os.chdir(before)

    def write(self, block: Block) -> None:
        """Write a block to the file that its title names."""
        assert block.title is not None
        path = self.here / block.title
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
