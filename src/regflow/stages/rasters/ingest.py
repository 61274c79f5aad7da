"""What is in the files of scenes, and what is wrong with them, before anything is computed."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from regflow.cohort.rasters.samples import (
    LANDMARKS,
    DeclaredSamples,
    FixedScene,
    MaskValues,
    RasterSample,
    Scene,
)
from regflow.core.blocks import read_block
from regflow.core.errors import InputError
from regflow.core.files import compute_sha256, describe_absence, read_file_stamp
from regflow.core.image import Image
from regflow.io.completeness import count_missing_bytes
from regflow.io.ground_control import read_ground_control
from regflow.io.object_store import find_copy
from regflow.io.raster_header import RasterHeader
from regflow.io.raster_names import find_local_file
from regflow.io.rasters import read_raster_header, read_window
from regflow.io.sample_values import refuse_complex
from regflow.io.scenes import open_view
from regflow.stages.checks import Findings, Progress, check_cohort, read_done, write_manifest
from regflow.stages.rasters.footprints import check_footprints, check_scale
from regflow.stages.rasters.views import describe_working_view

RasterSubject = RasterSample | FixedScene

LOOKS = 8
"""Windows along each side at which a scene is looked into first."""
LOOK_PIXELS = 64
CORNER_PIXELS = 16
"""Side of the corners that are looked at for zeros that mean nothing."""
STRIP_PIXELS = 1 << 22
"""Pixels read at once when a scene has to be looked through as a whole."""
STORED_WHOLE = ("GTiff", "COG", "VRT", "JP2OpenJPEG", "JP2ECW", "JP2KAK", "JP2MrSID")
"""Formats whose files tell by themselves whether they are complete; others are read through."""


@dataclass
class SceneFindings(Findings):
    """What looking at one scene's files found.

    Attributes:
        header: the scene's; None when it cannot be read.
        stamps: size in bytes and time of change of each local file, by its path.
        sums: SHA-256 of each local file by part.
    """

    header: RasterHeader | None = None
    stamps: dict[str, list[int]] = field(default_factory=dict)
    sums: dict[str, str] = field(default_factory=dict)


def ingest(output: str | Path, *, subject: RasterSubject) -> dict[str, Any]:
    """Look at a scene's files and write the manifest, problems included.

    Args:
        output: the JSON file to write, see :func:`~regflow.stages.checks.write_manifest`. Of its own it
            has ``scene`` (how it is read), ``stated`` (of companions), ``stamps``, ``driver``,
            ``georeference``, ``crs``, ``shape``, ``grid``, ``bands``, and what the sheet says: ``group``,
            ``date``, ``sensor``.
        subject: the sample or the fixed scene.

    Returns:
        The manifest.
    """
    found = examine_scene(subject, sums=True)
    details = _details(subject, found)
    return write_manifest(output, subject, found, details, files=subject.list_files(), sums=found.sums)


def read_manifest(path: str | Path) -> dict[str, Any]:
    """Read the manifest of a scene that is fit for use.

    Raises:
        InputError: ingest found problems, all of which are named, or a file has changed since.
    """
    manifest = read_done(path)
    for file, stamp in manifest["stamps"].items():
        if read_file_stamp(file) != stamp:
            raise InputError(f"{file}: this file has changed since it was checked; run it again")
    return manifest


def find_scene(manifest: Mapping[str, Any]) -> Scene:
    """Return how the scene of a manifest is to be read."""
    content = manifest["scene"]
    quality = MaskValues(*(tuple(content["quality"][name]) for name in ("values", "bits")))
    scaling = tuple((scale, offset) for scale, offset in content["scaling"])
    return Scene(**{**content, "bands": tuple(content["bands"]), "quality": quality, "scaling": scaling})


def find_declared_samples(manifest: Mapping[str, Any]) -> dict[str, DeclaredSamples]:
    """Return what a catalog states about the samples of companions and classes, by their parts."""
    return {
        part: DeclaredSamples(
            content["nodata"], tuple((scale, offset) for scale, offset in content["scaling"])
        )
        for part, content in manifest["stated"].items()
    }


def check_inputs(
    config: Mapping[str, Any], *, threads: int = 1, progress: Progress | None = None
) -> list[str]:
    """Look at every input of a configuration; see :func:`~regflow.stages.checks.check_cohort`."""
    from regflow.cohort.rasters.reading import read_raster_samples

    return check_cohort(partial(read_raster_samples, config), examine_scene, threads, progress)


def examine_scene(subject: RasterSubject, *, sums: bool = False) -> SceneFindings:
    """Look at one scene's files; a sample's are also held against its fixed scene's header.

    Args:
        subject: the sample or the fixed scene.
        sums: also read all local files for their checksums.
    """
    found = SceneFindings()
    files = subject.list_files()
    local = {part: path for part, name in files.items() if (path := find_local_file(name)) is not None}
    missing = {part: why for part, path in local.items() if (why := describe_absence(path)) is not None}
    found.problems += [f"{local[part]}: {why}" for part, why in missing.items()]
    found.stamps = {str(path): read_file_stamp(path) for part, path in local.items() if part not in missing}
    if not missing.keys() & {"image", "mask"}:
        _noted(found, _examine_scene, subject)
    for part in files.keys() - missing - {"image", "mask", LANDMARKS}:
        _noted(found, _examine_companion, subject, files[part])
    if LANDMARKS in files.keys() - missing:
        _noted(found, _examine_landmarks, files[LANDMARKS])
    if sums:
        found.sums = {part: compute_sha256(path) for part, path in local.items() if part not in missing}
    for name, stamp in found.stamps.items():
        if read_file_stamp(name) != stamp:
            found.problems.append(
                f"{name}: this file changed while it was read; let its writer finish, then run it again"
            )
    found.problems = list(dict.fromkeys(found.problems))
    return found


def _noted(found: SceneFindings, look: Any, *arguments: Any) -> None:
    """Look at something, and note the sentence with which it is refused."""
    try:
        look(found, *arguments)
    except InputError as error:
        found.problems.append(str(error))


def _examine_scene(found: SceneFindings, subject: RasterSubject) -> None:
    """The scene itself: whole, with its bands and mask, samples that differ, where it should be."""
    scene = subject.scene
    header = read_raster_header(scene.image)
    found.header = header
    _refuse_incomplete(scene.image, header)
    fixed = _fixed_header(subject)
    view = describe_working_view(scene, header)
    if scene.mask is not None:
        _refuse_incomplete(scene.mask, read_raster_header(scene.mask))
    _refuse_blank(scene, open_view(view))
    found.warnings += [*header.notes, *_zero_border(scene, header)]
    if fixed is not None:
        sentence, warning = check_footprints(fixed, header)
        sentence = sentence or check_scale(fixed, header)
        found.problems += [sentence] if sentence else []
        found.warnings += [warning] if warning else []


def _examine_companion(found: SceneFindings, subject: RasterSubject, path: str) -> None:
    """A raster that follows the transform: whole, and tied to the ground as its scene is."""
    header = read_raster_header(path)
    refuse_complex(header)
    found.warnings += header.notes
    _refuse_incomplete(path, header)
    own = found.header
    if own is None or isinstance(subject, FixedScene) or path == subject.truth:
        return
    if header.georeference == "none" and own.georeference == "none":
        return
    sentence, _ = check_footprints(own, header)
    if sentence:
        found.problems.append(sentence)


def _examine_landmarks(_found: SceneFindings, path: str) -> None:
    """Pairs of points: readable; where they lie is found out when both scenes are opened."""
    read_ground_control(find_copy(path))


def _refuse_incomplete(path: str, header: RasterHeader) -> None:
    file = find_local_file(path)
    if file is None or str(file) != path:
        return
    lacking = count_missing_bytes(path)
    if lacking:
        raise InputError(
            f"{path}: this file is cut off ({lacking:,} bytes or more are missing); fetch it again"
        )
    if header.driver not in STORED_WHOLE:
        whole = open_view(describe_working_view(Scene(path), header))
        for rows, cols in _strips(whole):
            read_block(whole, rows, cols)


def _refuse_blank(scene: Scene, image: Image) -> None:
    """Look for two samples that are valid and differ, first here and there, then everywhere.

    Raises:
        InputError: there are none.
    """
    seen: float | None = None
    for rows, cols in (*_looks(image), *_strips(image)):
        block = read_block(image, rows, cols)
        values = block.values[0][block.valid]
        if values.size:
            seen = float(values[0]) if seen is None else seen
            if (values != seen).any():
                return
    if seen is not None:
        raise InputError(
            f"{scene.image}: the bands to match on are constant ({seen:g}) wherever they are valid; name "
            "other bands or another scene"
        )
    if scene.mask is None:
        raise InputError(f"{scene.image}: all pixels are nodata; give another scene, or correct 'nodata'")
    raise InputError(
        f"{scene.image}: its mask {scene.mask} leaves no pixel (all clouds or nodata); give another scene, "
        "or correct the mask's values"
    )


def _zero_border(scene: Scene, header: RasterHeader) -> Iterator[str]:
    """Say that 0 looks like nodata: a whole corner holds nothing else, and no value is declared."""
    plain = [band.number for band in header.bands if band.color != "alpha"]
    undeclared = scene.nodata == "file" and all(band.nodata is None for band in header.bands)
    if not undeclared or scene.mask is not None:
        return
    sides = [min(CORNER_PIXELS, size) for size in header.shape]
    ends = [
        (slice(0, side), slice(size - side, size)) for side, size in zip(sides, header.shape, strict=True)
    ]
    for rows, cols in product(*ends):
        values, valid = read_window(scene.image, plain, rows, cols)
        if valid.all() and not values.any():
            yield (
                f"{scene.image}: declares no nodata, but a corner of it is all 0, which looks like nodata; "
                "if it is, say so: nodata 0"
            )
            return


def _looks(image: Image) -> Iterator[tuple[slice, slice]]:
    """Yield small windows spread evenly, the middle ones among the first."""
    height, width = image.grid.shape
    rows, cols = (
        [min(int((n + 0.5) * size / LOOKS), max(size - LOOK_PIXELS, 0)) for n in range(LOOKS)]
        for size in (height, width)
    )
    for number in range(LOOKS * LOOKS):
        # A step prime to the count visits every window, and jumps about the scene.
        place = (number * 27 + LOOKS * LOOKS // 2) % (LOOKS * LOOKS)
        row, col = rows[place // LOOKS], cols[place % LOOKS]
        yield slice(row, min(row + LOOK_PIXELS, height)), slice(col, min(col + LOOK_PIXELS, width))


def _strips(image: Image) -> Iterator[tuple[slice, slice]]:
    height, width = image.grid.shape
    step = max(1, STRIP_PIXELS // width)
    for top in range(0, height, step):
        yield slice(top, min(top + step, height)), slice(0, width)


def _fixed_header(subject: RasterSubject) -> RasterHeader | None:
    """Return the header of a sample's fixed scene; its own manifest tells what is wrong with it."""
    if isinstance(subject, FixedScene):
        return None
    try:
        return read_raster_header(subject.fixed.image)
    except InputError:
        return None


def _details(subject: RasterSubject, found: SceneFindings) -> dict[str, Any]:
    header = found.header
    return {
        "scene": asdict(subject.scene),
        "stated": {part: asdict(stated) for part, stated in _stated(subject).items()},
        "group": subject.group if isinstance(subject, RasterSample) else None,
        "date": subject.scene.date,
        "sensor": subject.scene.sensor,
        "driver": header.driver if header else None,
        "georeference": header.georeference if header else None,
        "crs": header.crs if header else None,
        "shape": list(header.shape) if header else None,
        "grid": header.grid.to_dict() if header and header.grid else None,
        "bands": [asdict(band) for band in header.bands] if header else None,
        "stamps": found.stamps,
    }


def _stated(subject: RasterSubject) -> Mapping[str, DeclaredSamples]:
    return subject.stated if isinstance(subject, RasterSample) else {}
