"""From a configuration to the settings of a training; light, for the workflow's rules too."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regflow.core.errors import InputError
from regflow.core.files import compute_sha256
from regflow.core.resources import find_resources

CHECKSUM_DIGITS = 16
OF_IMAGES = ("image", "mask")
"""Parts of an image that a training looks at."""


RECIPES = find_resources() / "recipes"


def find_recipe(name: str) -> Path:
    """Return the configuration of a training, given its name in ``resources/recipes`` or its path.

    Raises:
        InputError: there is none; names those there are.
    """
    candidates = (Path(name), RECIPES / f"{name}.yaml")
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        known = ", ".join(sorted(path.stem for path in RECIPES.glob("*.yaml")))
        raise InputError(f"--recipe: '{name}' is neither a recipe ({known}) nor a file; correct it")
    return found


def make_training_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``train`` section of a complete configuration, with the cohort's pairs in it.

    Where the cohort has a share, ``cohort`` becomes a section: ``rows`` (``sample``, ``fixed`` and
    ``moving`` files by their part, ``volume``), and the sections ``preprocess``, ``initialize`` and
    ``refine`` by which the pairs are registered as in the study itself.

    Raises:
        InputError: the cohort's sheet is missing or wrong.
    """
    settings = dict(config["train"])
    if not settings["shares"].get("cohort"):
        return {**settings, "cohort": None}
    prepared = {name: config[name] for name in ("preprocess", "initialize", "refine")}
    return {**settings, "cohort": {"rows": _rows(config), **prepared}}


def compute_checksums(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the checksums of the files that a training reads, by name.

    Raises:
        InputError: one is missing.
    """
    from regflow.training.label_maps import SUFFIXES

    folders = [settings[name] for name in ("label_maps", "scans") if settings[name] is not None]
    listed = [path for folder in folders for path in sorted(Path(folder).glob("*"))]
    files = [path for path in listed if path.name.endswith(SUFFIXES)]
    if settings["cohort"] is not None:
        parts = [row[side] for row in settings["cohort"]["rows"] for side in ("fixed", "moving")]
        files += [Path(part[name]) for part in parts for name in OF_IMAGES if name in part]
    missing = [path for path in files if not path.exists()]
    if missing:
        raise InputError(f"train: {missing[0]}: no such file; correct the sheet or the folder")
    return {str(path): compute_sha256(path)[:CHECKSUM_DIGITS] for path in dict.fromkeys(files)}


def _rows(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    from regflow.cohort.volumes.reading import read_samples

    sheet = config["train"]["cohort"]
    if sheet is None and config["samples"] is None and config["bids"] is None:
        raise InputError("train: shares: cohort: name a sample sheet in 'train.cohort' or in 'samples'")
    samples = read_samples(config if sheet is None else {**config, "samples": sheet, "bids": None})
    return [
        {
            "sample": each.sample,
            "fixed": _parts(each.fixed.list_files()),
            "moving": _parts(each.list_files()),
            "volume": each.volume,
        }
        for each in samples
    ]


def _parts(files: Mapping[str, str]) -> dict[str, str]:
    return {name: files[name] for name in OF_IMAGES if name in files}
