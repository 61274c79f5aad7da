"""What the README tells a newcomer to type works, as it stands there."""

import re
from pathlib import Path

import page_files
import pytest
from page_blocks import Reader, read_blocks, read_commands
from study import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
TRAINING = """
train:
  {ndim: 2, shares: {shapes: 1}, channels: [4, 4, 4, 4], side: 32, passes: [1], steps: 2, validation_pairs: 2}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory, volume_file) -> Path:
    """A folder with the files that the README's commands name, small ones."""
    folder = tmp_path_factory.mktemp("readme")
    page_files.write_volumes(folder, volume_file)
    page_files.write_scenes(folder)
    return folder


def shrink(study: Path, folder: Path) -> None:
    """Put the small volumes in the place of the new study's full ones."""
    sheet, config = study / "config" / "samples.tsv", study / "config" / "config.yaml"
    sheet.write_text(f"sample\tmoving\nsub-01\t{folder / 'subject.nii.gz'}\n")
    text = config.read_text(encoding="utf-8")
    assert "example:mni2009c" in text
    config.write_text(text.replace("example:mni2009c", str(folder / "atlas.nii.gz")) + TRAINING)


@pytest.mark.slow
def test_every_command_works(place):
    """In order, each in the folder where the last left the reader."""
    reader = Reader(place)
    for block in read_blocks(README):
        for command in read_commands(block) if block.language == "bash" else ():
            reader.type(command)
            if command.startswith("regflow init"):
                shrink(reader.here / command.split()[-1], place)
    assert {line.split()[1] for line in reader.typed if line.startswith("regflow")} >= {
        *("register", "compare", "apply", "detect", "init", "check", "run", "train", "weights")
    }
    assert (place / "study" / "results" / "report" / "index.html").is_file()
    assert (place / "study" / "results" / "train" / "network.safetensors").is_file()


@pytest.mark.slow
def test_the_lines_of_python_work(place):
    block = next(block for block in read_blocks(README) if "SimpleITK" in block.text)
    reader = Reader(place)
    if not (place / "aligned").exists():
        reader.type("regflow register atlas.nii.gz subject.nii.gz -o aligned")
    reader.run_python(block, "README.md")


def test_files_that_are_named_exist():
    named = re.findall(r"\]\(([^)#:]+)\)|`((?:workflow|config|src|benchmarks)/[\w./]+)`", README)
    for name in {first or second for first, second in named}:
        assert (ROOT / name).exists(), name
