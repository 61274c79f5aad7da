"""``regflow init``: a folder to start a study in."""

import shutil
from pathlib import Path

import click

from regflow.core.errors import InputError
from regflow.core.resources import find_shipped_folder

FILES = ("config.yaml", "samples.tsv", "README.md")


@click.command(short_help="Start a study: a commented configuration and sheet.")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--rasters", is_flag=True, help="For satellite or aerial scenes instead of volumes.")
def init(directory: Path, rasters: bool) -> None:
    """Write a commented configuration and sample sheet into DIRECTORY/config.

    Nothing that exists is overwritten. Then name your images in the sheet, and run
    `regflow check` and `regflow run` from DIRECTORY.
    """
    source, target = find_shipped_folder() / "config", directory / "config"
    source = source / "rasters" if rasters else source
    for name in FILES:
        if (target / name).exists():
            raise InputError(f"{target / name} exists already; choose another folder or remove it first")
    target.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copyfile(source / name, target / name)
    click.echo(f"wrote {target}: edit config.yaml and samples.tsv there, then: cd {directory}; regflow check")
