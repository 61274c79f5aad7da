"""What is in the input files, and what is wrong with them, before anything is computed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from regflow.cohort.volumes.reading import read_samples
from regflow.cohort.volumes.samples import FixedVolume, VolumeSample
from regflow.core.addresses import redact_text
from regflow.core.errors import InputError
from regflow.core.files import compute_sha256, describe_absence, is_existing_path
from regflow.core.grid import Grid
from regflow.core.landmark_pairs import describe_misorder, describe_unpaired, pair_landmarks
from regflow.core.landmarks import Landmarks
from regflow.core.plausibility import (
    check_comparable_scale,
    check_extents,
    check_grid_rounding,
    check_label_rounding,
    check_labels,
    check_landmark_mirroring,
    check_landmark_places,
    check_mask,
    check_samples,
    check_soft_mask,
    fov_disjoint,
    grid_mismatch,
)
from regflow.io.header import Volume, VolumeHeader
from regflow.io.landmarks import read_landmarks
from regflow.io.object_store import drop_copies, find_copy
from regflow.io.volumes import read_header, read_series, read_with_header, refuse_diffusion_series
from regflow.stages import layout
from regflow.stages.checks import Findings, Progress, check_cohort, read_done, write_manifest

VolumeSubject = VolumeSample | FixedVolume


@dataclass
class VolumeFindings(Findings):
    """What looking at one image's files found.

    Attributes:
        header: the image's; None when it cannot be read.
        left_out: parts that were found in derivatives and do not fit, so that they are not used.
        here: files on this machine by part; copies of those that lie on a server.
    """

    header: VolumeHeader | None = None
    left_out: set[str] = field(default_factory=set)
    here: dict[str, str] = field(default_factory=dict)


def ingest(output: str | Path, *, subject: VolumeSubject) -> dict[str, Any]:
    """Look at a sample's or a fixed image's files and write the manifest, problems included.

    Args:
        output: the JSON file to write, see :func:`~regflow.stages.checks.write_manifest`. Of its own it
            has ``format``, ``grid``, ``dtype`` and ``volumes`` of the image (null when unreadable), and
            what the sheet says: ``volume``, ``modality``, ``group``, ``session``.
        subject: the sample or the fixed image.

    Returns:
        The manifest.
    """
    found = examine_volume(subject)
    files = {part: path for part, path in subject.list_files().items() if part not in found.left_out}
    here = {part: path for part, path in found.here.items() if part in files}
    sums = {part: compute_sha256(path) for part, path in here.items() if is_existing_path(path)}
    return write_manifest(output, subject, found, _details(subject, found), files=files, sums=sums)


def read_manifest(path: str | Path) -> dict[str, Any]:
    """Read the manifest of an image that is fit for use, with copies of files that lie on a server.

    Raises:
        InputError: ingest found problems, all of which are named, or a file cannot be fetched any more.
    """
    manifest = read_done(path)
    return {**manifest, "paths": find_copies(manifest["paths"])}


def find_copies(paths: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest's files by part, those on a server as copies on this machine.

    Raises:
        InputError: a file cannot be fetched.
    """
    return {
        part: find_copies(name) if isinstance(name, Mapping) else find_copy(name)
        for part, name in paths.items()
    }


def check_inputs(
    config: Mapping[str, Any], *, threads: int = 1, progress: Progress | None = None
) -> list[str]:
    """Look at every input of a configuration; see :func:`~regflow.stages.checks.check_cohort`."""
    look = partial(_look_at_volume, made=f"{config['output']}/{layout.TEMPLATE_IMAGE}")
    return check_cohort(partial(read_samples, config), look, threads, progress)


def _look_at_volume(subject: VolumeSubject, made: str) -> VolumeFindings:
    """Look at one image's files, and keep no copy of a sample's; a fixed image's is needed again.

    A template that the run makes of the cohort is not there before.
    """
    if isinstance(subject, FixedVolume) and subject.image == made and not is_existing_path(made):
        return VolumeFindings()
    found = examine_volume(subject)
    if isinstance(subject, VolumeSample):
        drop_copies(subject.list_files().values())
    return found


def examine_volume(subject: VolumeSubject) -> VolumeFindings:
    """Look at one image's files; a sample's are also held against its fixed image's header."""
    found = VolumeFindings()
    files = _fetch_files(subject.list_files(), found)
    missing = {part: why for part, path in files.items() if (why := describe_absence(path)) is not None}
    found.problems += [f"{files[part]}: {why}" for part, why in missing.items()]
    present = {part: Path(path) for part, path in files.items() if part not in missing}
    volume = subject.volume if isinstance(subject, VolumeSample) else None
    if "image" in present:
        _examine_image(found, present["image"], volume)
    derived = subject.derived if isinstance(subject, VolumeSample) else frozenset()
    for part in present:
        if part in derived:
            _examine_derived(found, part, present[part])
        elif part in ("mask", "labels"):
            _examine_overlay(found, part, present[part])
        elif part.startswith("companions."):
            _examine_companion(found, present[part])
    fixed_header = _fixed_header(subject)
    if found.header and fixed_header:
        _compare_grids(found, present["image"], fixed_header)
    _examine_landmarks(found, present, fixed_header)
    found.problems, found.warnings = (
        [redact_text(sentence) for sentence in sentences] for sentences in (found.problems, found.warnings)
    )
    return found


def _fetch_files(files: Mapping[str, str], found: VolumeFindings) -> dict[str, str]:
    """Return the files, copies of those on a server; what cannot be fetched is a problem."""
    for part, name in files.items():
        try:
            found.here[part] = find_copy(name)
        except InputError as error:
            found.problems.append(str(error))
    return found.here


def _examine_image(found: VolumeFindings, path: Path, volume: Volume) -> None:
    try:
        image, found.header = read_with_header(path, volume)
    except InputError as error:
        found.problems.append(str(error))
        return
    found.warnings += found.header.warnings
    _add(found.problems, path, check_samples(image.channel))


def _compare_grids(found: VolumeFindings, path: Path, fixed: VolumeHeader) -> None:
    """Hold a moving image's grid against the fixed one's: of one scale, and in the same place."""
    assert found.header is not None
    grids = fixed.grid, found.header.grid
    other_unit = check_comparable_scale(*grids)
    _add(found.problems, path, other_unit)
    if other_unit is None:
        _add(found.warnings, path, check_extents(*grids))
        if fov_disjoint(*grids):
            found.warnings.append(
                f"{path}: its field of view does not overlap that of {fixed.path}; the start is sought "
                "without the headers' origins"
            )


def _examine_overlay(found: VolumeFindings, part: str, path: Path) -> None:
    """A mask or label map: readable, on the image's grid, with sensible samples."""
    try:
        image, overlay = read_with_header(path)
    except InputError as error:
        found.problems.append(str(error))
        return
    data = image.channel
    if found.header is not None:
        away = grid_mismatch(overlay.grid, found.header.grid)
        _add(found.problems, path, away)
        _add(found.warnings, path, None if away else check_grid_rounding(overlay.grid, found.header.grid))
    phrase = check_mask(data) if part == "mask" else check_labels(data, overlay.step)
    _add(found.problems, path, phrase)
    if phrase is None:
        odd = check_soft_mask(data) if part == "mask" else check_label_rounding(data, overlay.step)
        _add(found.warnings, path, odd)


def _examine_derived(found: VolumeFindings, part: str, path: Path) -> None:
    """A mask or label map that nobody named: one that does not fit is left out with a warning."""
    tried = VolumeFindings(header=found.header)
    _examine_overlay(tried, part, path)
    found.warnings += tried.warnings
    if tried.problems:
        found.left_out.add(part)
        found.warnings += [f"{sentence}; found in derivatives, it is not used" for sentence in tried.problems]


def _examine_companion(found: VolumeFindings, path: Path) -> None:
    """A companion: readable to its end and in the image's space; its grid may be its own, and 4-D."""
    try:
        refuse_diffusion_series(path)
        companion = read_header(path)
        phrases = [check_samples(volume) for volume in read_series(path)]
    except InputError as error:
        found.problems.append(str(error))
        return
    if found.header is not None and fov_disjoint(companion.grid, found.header.grid):
        found.problems.append(
            f"{path}: its field of view does not overlap that of {found.header.path}, whose transform "
            "it is to follow; correct the origin in one of the headers"
        )
    _add(found.warnings, path, next((phrase for phrase in phrases if phrase is not None), None))


def _examine_landmarks(
    found: VolumeFindings, present: Mapping[str, Path], fixed: VolumeHeader | None
) -> None:
    moving_grid = found.header.grid if found.header else None
    own = _landmarks(found, present.get("landmarks"), moving_grid)
    if "fixed_landmarks" not in present:
        return
    partners = _landmarks(found, present["fixed_landmarks"], fixed.grid if fixed else None)
    if own is None or partners is None:
        return
    both = f"{present['landmarks']} and {present['fixed_landmarks']}"
    try:
        pairs = pair_landmarks(partners, own)
    except InputError as error:
        found.problems.append(f"{both}: {error}")
        return
    _add(found.warnings, both, describe_unpaired(pairs))
    mirror = check_landmark_mirroring(pairs.fixed, pairs.moving)
    _add(found.problems, present["landmarks"], mirror)
    if mirror is None:
        _add(found.warnings, both, describe_misorder(pairs))


def _landmarks(found: VolumeFindings, path: Path | None, grid: Grid | None) -> Landmarks | None:
    if path is None:
        return None
    try:
        landmarks = read_landmarks(path)
    except InputError as error:
        found.problems.append(str(error))
        return None
    if grid is not None:
        _add(found.problems, path, check_landmark_places(landmarks, grid))
    return landmarks


def _fixed_header(subject: VolumeSubject) -> VolumeHeader | None:
    """Return the header of a sample's fixed image; its own manifest tells what is wrong with it."""
    if isinstance(subject, FixedVolume):
        return None
    try:
        return read_header(find_copy(subject.fixed.image))
    except InputError:
        return None


def _add(sentences: list[str], path: Path | str, phrase: str | None) -> None:
    if phrase is not None:
        sentences.append(f"{path}: {phrase}")


def _details(subject: VolumeSubject, found: VolumeFindings) -> dict[str, Any]:
    header = found.header
    columns = ("volume", "modality", "group", "session")
    return {
        **{name: getattr(subject, name, None) for name in columns},
        "format": header.format if header else None,
        "grid": header.grid.to_dict() if header else None,
        "dtype": str(header.dtype) if header else None,
        "volumes": header.volumes if header else None,
    }
