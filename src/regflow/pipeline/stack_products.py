"""What a stack leaves: the volume as NIfTI and OME-TIFF, a transform of each section, tables and a page."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core import fields
from regflow.core.chunks import Workers, map_blocks
from regflow.core.files import write_json, write_whole
from regflow.core.grid import Grid
from regflow.core.similarity import ncc
from regflow.core.transform import Affine, Composite, DisplacementField
from regflow.io.nifti import write_nifti_planes
from regflow.io.ome_tiff import write_ome_volume
from regflow.io.ome_zarr import OmeProfile
from regflow.io.plain_file import PlainFile
from regflow.io.text_files import write_tsv
from regflow.io.transforms import write_transform
from regflow.io.volumes import choose_portable_type, make_portable
from regflow.methods.mosaic.blending import represent_samples
from regflow.methods.stack.reference_shape import StackGeometry
from regflow.methods.stack.section_pose import rescale_map
from regflow.pipeline.stack_places import PlacedStack, describe_stack, show_section

NIFTI, OME_TIFF, TRANSFORMS = "stack.nii.gz", "stack.ome.tif", "transforms"
TO_REFERENCE = "to_reference.h5"
"""The transform from the volume's world to its reference's."""
SectionShares = tuple[tuple[int, float], ...]
"""Numbers of sections, and the weights with which they stand for one."""


@dataclass(frozen=True, eq=False)
class StackResult:
    """What a stack came to.

    Attributes:
        path: of the volume, NIfTI.
        folder: with all files.
        sections: a row of the table of each section, in the volume's order.
        shape: ``(sections, rows, columns)``.
        figures: counts, residuals and closures.
        problems: sentences on what is missing, damaged, mirrored or out of order.
    """

    path: Path
    folder: Path
    sections: tuple[Mapping[str, Any], ...]
    shape: tuple[int, int, int]
    figures: Mapping[str, float]
    problems: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class SectionStates:
    """Sections on the block's plane at working pixels, each ``(N, h, w)`` in the volume's order.

    Attributes:
        scanned: as they were scanned, center on center.
        linear: by their linear maps alone.
        bent: as they lie in the volume.
    """

    scanned: NDArray[np.float32]
    linear: NDArray[np.float32]
    bent: NDArray[np.float32]


def write_stack(
    folder: Path, stack: PlacedStack, settings: Mapping[str, Any], workers: Workers
) -> StackResult:
    """Write all products of a stack into a folder, and return what it came to."""
    shares = [assign_sections(stack, rank, settings["fill"]) for rank in range(len(stack.order))]
    shape = tuple(size * stack.working.factor for size in stack.shape)
    folder.mkdir(parents=True, exist_ok=True)
    _write_volumes(folder, stack, shares, settings, workers)
    for number in stack.order:
        if stack.is_seen[number]:
            path = folder / TRANSFORMS / f"{Path(stack.images.names[number]).name}.h5"
            write_transform(path, make_section_transform(stack, number))
    if stack.fit is not None:
        write_transform(folder / TO_REFERENCE, stack.fit.transform)
    rows = list_section_rows(stack, shares)
    columns = list(rows[0])
    write_tsv(folder / "sections.tsv", columns, [[row[name] for name in columns] for row in rows])
    _write_links(folder / "links.tsv", stack)
    states = show_states(stack)
    figures = list_figures(stack, states)
    problems = tuple(describe_stack(stack))
    # Where arrays were stored on the way is no part of what was made.
    chosen = {name: value for name, value in settings.items() if name != "sections"}
    content = {"figures": figures, "problems": problems, "settings": chosen}
    write_json(
        folder / "stack.json", {"stack": NIFTI, "shape": (len(rows), *shape), "sections": rows, **content}
    )
    _write_page(folder / "report.html", stack, states, rows, content)
    return StackResult(
        folder / NIFTI, folder, tuple(rows), (len(rows), int(shape[0]), int(shape[1])), figures, problems
    )


def make_volume_grid(stack: PlacedStack, depth: int, pixel_mm: float, section_mm: float) -> Grid:
    """Return the grid of the volume, whose world is the block's plane and the number of a section."""
    factor = stack.working.factor
    start = stack.origin * factor - (factor - 1) / 2
    is_reversed = stack.fit is not None and stack.fit.is_reversed
    shape = (depth, *(size * factor for size in stack.shape))
    return StackGeometry(pixel_mm, section_mm, (float(start[0]), float(start[1]))).make_grid(
        shape, is_reversed
    )


def assign_sections(stack: PlacedStack, rank: int, fill: str) -> SectionShares:
    """Return which sections stand at a place of the volume, by weight; none where nothing does."""
    number = stack.order[rank]
    sound = stack.judged.fitting & stack.is_seen
    if sound[number] or (fill == "none" and stack.is_seen[number]):
        return ((number, 1.0),)
    places = np.array([each for each, one in enumerate(stack.order) if sound[one]])
    if fill == "none" or not len(places):
        return ()
    before, behind = places[places < rank], places[places > rank]
    if fill == "neighbor" or not len(before) or not len(behind):
        nearest = places[np.argmin(np.abs(places - rank))]
        return ((stack.order[nearest], 1.0),)
    low, high = int(before[-1]), int(behind[0])
    share = (rank - low) / (high - low)
    return ((stack.order[low], 1 - share), (stack.order[high], share))


def render_section(stack: PlacedStack, number: int) -> NDArray[np.float32]:
    """Return a section on the block's plane, at the files' pixels and interpolated once, ``(C, h, w)``."""
    import cv2

    factor = stack.working.factor
    rows, columns = (size * factor for size in stack.shape)
    bend = [
        cv2.resize(part, (columns, rows), interpolation=cv2.INTER_LINEAR) * np.float32(factor)
        for part in stack.bends[number]
    ]
    matrix = rescale_map(stack.find_map(number), factor, factor)
    y = np.arange(rows, dtype=np.float32)[:, None] + bend[0]
    x = np.arange(columns, dtype=np.float32)[None] + bend[1]
    at = [np.float32(line[0]) * x + np.float32(line[1]) * y + np.float32(line[2]) for line in matrix[:2]]
    grounds = stack.working.grounds[number]
    return np.stack(
        [
            cv2.remap(
                channel.astype(np.float32),
                at[0],
                at[1],
                cv2.INTER_CUBIC,
                borderMode=cv2.BORDER_CONSTANT,
                borderValue=float(ground),
            )
            for channel, ground in zip(stack.images.read(number), grounds, strict=True)
        ]
    )


def make_section_transform(stack: PlacedStack, number: int) -> Composite:
    """Return the transform from pixels ``(x, y)`` of the volume's planes to those of a section's file."""
    factor = stack.working.factor
    affine = np.array([[factor, 0, (factor - 1) / 2], [0, factor, (factor - 1) / 2], [0, 0, 1.0]])
    grid = Grid(stack.shape, affine)
    vectors = fields.to_world(stack.bends[number], grid)
    matrix = rescale_map(stack.find_map(number), factor, factor)
    return Composite((DisplacementField(vectors, grid), Affine(matrix)))


def list_section_rows(stack: PlacedStack, shares: Sequence[SectionShares]) -> list[dict[str, Any]]:
    """Return a row of the table for each section, in the volume's order."""
    factor = stack.working.factor
    residuals: dict[str, list[float]] = {name: [] for name in stack.images.names}
    for each in stack.places.solution.residuals:
        if each.kept:
            for name in (each.link.first, each.link.second):
                residuals[name].append(each.distance * factor)
    rows = []
    for rank, number in enumerate(stack.order):
        name, seen = stack.images.names[number], bool(stack.is_seen[number])
        own = residuals[name]
        matrix = rescale_map(stack.find_map(number), factor, factor)
        bend = float(np.sqrt((stack.bends[number].astype(np.float64) ** 2).sum(axis=0).mean())) * factor
        by = ", ".join(stack.images.names[one] for one, _ in shares[rank] if one != number)
        measured = [f"{value:.6f}" for value in matrix[:2].ravel()] if seen else [""] * 6
        rows.append(
            {
                "section": name,
                "place": rank,
                "state": _name_state(stack, number),
                "mirrored": "yes" if stack.judged.mirrored[number] else "no",
                "quality": f"{stack.judged.qualities[number]:.3f}" if seen else "",
                "links": len(own),
                "residual_px": f"{math.sqrt(float(np.mean(np.square(own)))):.3f}" if own else "",
                "bend_px": f"{bend:.3f}" if seen else "",
                **dict(zip(("xx", "xy", "x0", "yx", "yy", "y0"), measured, strict=True)),
                "filled_by": by,
                "reason": stack.working.reasons.get(number, ""),
            }
        )
    return rows


def list_figures(stack: PlacedStack, states: SectionStates) -> dict[str, float]:
    """Return the figures of a stack."""
    factor = stack.working.factor
    found = {
        name: value * (factor if name.endswith("_px") else 1)
        for name, value in stack.places.solution.list_figures("px").items()
    }
    found["sections"] = found.pop("images")
    seen = stack.is_seen
    found["sections_missing"] = float((~seen).sum())
    found["parts"] = float(max(1, sum(len(part) > 1 for part in stack.places.solution.parts)))
    unfit = [
        number for number in np.flatnonzero(seen & ~stack.judged.fitting) if number not in stack.misplaced
    ]
    found["sections_fitting_none"] = float(len(unfit))
    found["sections_mirrored"] = float(stack.judged.mirrored.sum())
    found["sections_stained"] = float(stack.judged.stained.sum())
    found["sections_out_of_order"] = float(len(stack.misplaced))
    found["jitter_px"] = stack.places.jitter_px * factor
    for axis, width in zip(("x", "y", "turn"), stack.places.widths, strict=True):
        found[f"shape_width_{axis}_sections"] = width if math.isfinite(width) else float(len(stack.order))
    if stack.fit is not None:
        found["reference_explained"] = stack.fit.explained
    order = list(stack.order)
    sound = (stack.is_seen & stack.judged.fitting)[order]
    for name, planes in (("scanned", states.scanned), ("linear", states.linear), ("bent", states.bent)):
        found[f"continuity_{name}"] = measure_continuity(planes[sound])
    return found


def show_states(stack: PlacedStack) -> SectionStates:
    """Return all sections as they were scanned, as they were moved, and as they were bent."""
    scanned = np.array([lay_as_scanned(stack, number) for number in stack.order])
    blank = np.zeros(stack.shape, np.float32)
    linear = [show_section(stack, n).values if stack.is_seen[n] else blank for n in stack.order]
    bent = [fields.warp_channels(plane, stack.bends[n]) for plane, n in zip(linear, stack.order, strict=True)]
    return SectionStates(scanned, np.array(linear), np.array(bent))


def measure_continuity(planes: NDArray[np.float32]) -> float:
    """Return the median correlation of planes ``(N, h, w)`` that follow one another; 0 without two."""
    found = [ncc(one, other) for one, other in pairwise(planes)]
    return float(np.median(np.nan_to_num(found))) if found else 0.0


def lay_as_scanned(stack: PlacedStack, number: int) -> NDArray[np.float32]:
    """Return a section at working pixels as it was scanned, center on center, on the volume's plane."""
    picture = stack.working.pictures[number]
    result = np.zeros(stack.shape, np.float32)
    if picture is None:
        return result
    starts = [(a - b) // 2 for a, b in zip(stack.shape, picture.values.shape, strict=True)]
    ours = [
        slice(max(s, 0), min(s + n, a))
        for s, n, a in zip(starts, picture.values.shape, stack.shape, strict=True)
    ]
    theirs = [slice(part.start - s, part.stop - s) for part, s in zip(ours, starts, strict=True)]
    result[ours[0], ours[1]] = picture.values[theirs[0], theirs[1]]
    return result


def _name_state(stack: PlacedStack, number: int) -> str:
    if not stack.is_seen[number]:
        return "missing"
    if number in stack.misplaced:
        return "out of order"
    if not stack.judged.fitting[number]:
        return "fits none"
    return "other contrast" if stack.judged.stained[number] else "sound"


def _render_place(stack: PlacedStack, shares: SectionShares) -> NDArray[Any]:
    """Return the samples at a place of the volume, ``(C, rows, columns)`` in the files' type."""
    shape = tuple(size * stack.working.factor for size in stack.shape)
    if not shares:
        grounds = np.nanmedian(stack.working.grounds, axis=0)
        values = np.broadcast_to(grounds[:, None, None], (len(grounds), *shape)).astype(np.float32)
    else:
        parts = [np.float32(weight) * render_section(stack, number) for number, weight in shares]
        values = np.asarray(sum(parts[1:], parts[0]), np.float32)
    return represent_samples(values, stack.images.dtype)


def _write_volumes(
    folder: Path,
    stack: PlacedStack,
    shares: Sequence[SectionShares],
    settings: Mapping[str, Any],
    workers: Workers,
) -> None:
    rows, columns = (size * stack.working.factor for size in stack.shape)
    channels, depth, dtype = len(stack.images.channels), len(shares), stack.images.dtype
    pixel, section = settings["pixel_size_um"], settings["section_um"]
    with (
        TemporaryDirectory(prefix="regflow-", dir=folder) as name,
        PlainFile(Path(name) / "planes.bin", (channels, depth * rows, columns), dtype.name) as store,
    ):
        found = map_blocks(
            partial(_render_place, stack),
            shares,
            workers,
            describe="sections",
            item_bytes=32 * rows * columns,
        )
        for place, values in enumerate(found):
            store.write(values, slice(place * rows, (place + 1) * rows), slice(0, columns))

        def read(place: int) -> NDArray[Any]:
            return store.read(slice(place * rows, (place + 1) * rows), slice(0, columns))

        names = tuple(filter(None, stack.images.channels))
        profile = OmeProfile((channels, rows, columns), dtype.name, names, pixel, "stack")
        write_ome_volume(
            folder / OME_TIFF,
            lambda channel, place: read(place)[channel],
            depth,
            profile,
            section_um=section,
            threads=workers.count,
        )
        # A stack without sizes counts pixels and sections as millimeters.
        grid = make_volume_grid(stack, depth, (pixel or 1000.0) / 1000, (section or 1000.0) / 1000)
        write_nifti_planes(folder / NIFTI, _list_gray(read, depth), choose_portable_type(dtype), grid)


def _list_gray(read: Any, depth: int) -> Iterator[NDArray[Any]]:
    """Yield the mean of the channels of each plane, in a type that other programs read."""
    for place in range(depth):
        values = read(place)
        mean = values[0]
        if len(values) > 1:
            mean = represent_samples(values.mean(axis=0, dtype=np.float32), values.dtype)
        yield make_portable(mean)


def _write_links(path: Path, stack: PlacedStack) -> None:
    factor = stack.working.factor
    numbers = {name: number for number, name in enumerate(stack.images.names)}
    columns = ["first", "second", "score", "correlation", "residual_px", "kept", "checked"]
    rows = []
    for each in stack.places.solution.residuals:
        pose = stack.judged.find_pose((numbers[each.link.first], numbers[each.link.second]))
        assert pose is not None
        measured = [f"{pose.score:.3f}", f"{pose.correlation:.3f}", f"{each.distance * factor:.3f}"]
        states = ["yes" if state else "no" for state in (each.kept, each.checked)]
        rows.append([each.link.first, each.link.second, *measured, *states])
    write_tsv(path, columns, rows)


def _write_page(
    path: Path,
    stack: PlacedStack,
    states: SectionStates,
    rows: Sequence[Mapping[str, Any]],
    content: Mapping[str, Any],
) -> None:
    from regflow.reporting.shared.stack import StackStory, render_stack_page

    settings = content["settings"]
    pixel = (settings["pixel_size_um"] or 1.0) * stack.working.factor
    thickness = settings["section_um"] or pixel
    told = content["figures"], content["problems"]
    story = StackStory(states.scanned, states.bent, thickness / pixel, rows, *told)
    with write_whole(path) as part:
        part.write_text(render_stack_page(story), encoding="utf-8")
