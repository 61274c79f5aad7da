"""Programs that stand in for those that are not here: they note how they are called, and do little else."""

import sys
from pathlib import Path

APPTAINER = """\
#!{python}
import os, sys

if "--version" in sys.argv:
    print("apptainer version 1.3.6")
else:
    image, shell, _, command = sys.argv[-4:]
    with open({log!r}, "a") as log:
        log.write(image + "\\n")
    os.execvp(shell, [shell, "-c", command])
"""
CONDA = """\
#!{python}
import json, sys

told = {{"conda_version": "24.9.2", "platform": "linux-64", "root_prefix": "/", "conda_prefix": "/"}}
print(json.dumps({{"get": {{"channel_priority": "strict"}}}} if "config" in sys.argv else told))
"""


def write_program(folder: Path, name: str, text: str, log: Path | None = None) -> None:
    """Write a program that can be run by its name from a folder of ``PATH``."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / name
    program.write_text(text.format(python=sys.executable, log=str(log)), encoding="utf-8")
    program.chmod(0o755)
