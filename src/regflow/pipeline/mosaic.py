"""Stitch tiles into a mosaic: links, places, light, gains, pixels, tables and a page."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.cohort.tiles import TileSet, find_tiles
from regflow.config.loading import check_part
from regflow.config.mosaic import complete_mosaic_settings
from regflow.core.chunks import Workers, map_blocks, open_workers
from regflow.core.errors import InputError
from regflow.core.files import write_json, write_whole
from regflow.core.grid import Grid
from regflow.core.threads import count_cores
from regflow.io.text_files import write_tsv
from regflow.methods.mosaic.blending import measure_sharpness
from regflow.methods.mosaic.gains import estimate_gains
from regflow.methods.mosaic.illumination import Illumination, estimate_illumination, summarize_tile
from regflow.methods.mosaic.overlap_shift import OverlapShift
from regflow.methods.mosaic.placement import Placement, find_doubles, place_tiles
from regflow.pipeline.group_options import lay_arguments
from regflow.pipeline.mosaic_links import LinkSearch, find_links, predict_positions, search_blindly
from regflow.pipeline.mosaic_render import FORMATS, MosaicPlan, write_mosaic
from regflow.pipeline.mosaic_tiles import TileImages, find_stated_positions, open_tiles

log = logging.getLogger(__name__)

Array = NDArray[np.float64]
TilePair = tuple[int, int]

MOST_SAMPLED = 96
"""Tiles from which the light is estimated."""
MOST_LISTED = 20
"""Tiles or links that are named one by one in the log and on the page."""


@dataclass(frozen=True, eq=False)
class MosaicResult:
    """What a mosaic came to.

    Attributes:
        path: of the mosaic: OME-Zarr, OME-TIFF or COG.
        folder: with all files.
        positions: ``(x, y)`` of each tile's first pixel in the mosaic, by the tile's name.
        shape: rows and columns.
        figures: counts, residuals and closures.
        problems: sentences on what was left out, is not linked, or contradicts.
    """

    path: Path
    folder: Path
    positions: Mapping[str, tuple[float, float]]
    shape: tuple[int, int]
    figures: Mapping[str, float]
    problems: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class LinkedTiles:
    """Tiles with their links and places.

    Attributes:
        images: the tiles.
        expected: ``(N, 2)`` positions before links were measured.
        links: reliable ones.
        looked: pairs of tiles that overlap as expected, or were compared.
        placement: of the tiles.
        light: of each band.
    """

    images: TileImages
    expected: Array
    links: Mapping[TilePair, OverlapShift]
    looked: Sequence[TilePair]
    placement: Placement
    light: Sequence[Illumination]


def stitch_mosaic(
    tiles: Sequence[str | Path] | str | Path,
    output: str | Path,
    *,
    table: str | Path | None = None,
    pattern: str | None = None,
    grid: str | None = None,
    order: str | None = None,
    overlap_percent: float | None = None,
    reach_px: float | None = None,
    position_unit: str | None = None,
    pixel_size_um: float | None = None,
    channel: str | None = None,
    flat_field: bool | None = None,
    gains: bool | None = None,
    blend: str | None = None,
    interpolation: str | None = None,
    format: str | None = None,
    config: Mapping[str, Any] | None = None,
    threads: int | None = None,
) -> MosaicResult:
    """Stitch overlapping tiles into one picture.

    Args:
        tiles: files, folders, or patterns such as ``scan/*.tif``; one or several.
        output: folder to make.
        table: CSV or TSV with the columns tile, x, y and perhaps channel.
        pattern: of the tiles' names, with ``{row}`` and ``{column}`` or ``{x}`` and ``{y}``, and perhaps
            ``{channel}``; MIST's and Micro-Manager's names need none.
        grid: ``"5x4"``, columns and rows of tiles whose names say nothing.
        order: of such tiles: ``rows`` or ``snake``.
        overlap_percent: of neighbors, where rows and columns are known; measured when None.
        reach_px: by how much expected offsets may be wrong, 40 pixels when None.
        position_unit: of x and y: ``px`` or ``um``.
        pixel_size_um: width and height of a pixel.
        channel: whose images are compared.
        flat_field: whether to correct for uneven light; True when None.
        gains: whether to balance the tiles' brightness; True when None.
        blend: ``feather``, ``sharpest`` or ``first``.
        interpolation: ``cubic`` or ``nearest``.
        format: ``ome-zarr``, ``ome-tiff`` or ``cog``.
        config: the section ``mosaic`` of a configuration; the arguments override it.
        threads: most threads to use, all cores when None; no result depends on it.

    Returns:
        Where the mosaic is, the tiles' positions, and figures.

    Raises:
        InputError: there are no two tiles that fit together, or a setting is wrong.
    """
    settings = lay_arguments(config, locals(), ("tiles", "output", "threads"))
    sources = [tiles] if isinstance(tiles, str | Path) else list(tiles)
    if sources:
        settings["tiles"] = [str(source) for source in sources]
    return run_mosaic(output, settings=settings, threads=threads)


def run_mosaic(
    output: str | Path, *, settings: Mapping[str, Any], threads: int | None = None
) -> MosaicResult:
    """Stitch the tiles that the section ``mosaic`` names, into a folder.

    Raises:
        InputError: there are no two tiles that fit together, or a setting is wrong.
    """
    check_part("the settings", {"mosaic": dict(settings)}, "rasters")
    settings = complete_mosaic_settings(settings)
    if not settings["tiles"] and settings["table"] is None:
        raise InputError("no tiles are named; name files, folders or patterns, or a table")
    found = find_tiles(settings["tiles"], settings["pattern"], settings["table"])
    if settings["grid"] is not None:
        found = lay_grid(found, settings["grid"], settings["order"])
    images = open_tiles(found)
    with open_workers(threads=threads or count_cores()) as workers:
        linked = link_tiles(images, settings, workers)
        problems = (*images.problems, *describe_links(linked))
        for problem in problems[:MOST_LISTED]:
            log.warning("%s", problem)
        plan = plan_mosaic(linked, settings, workers)
        folder = Path(output)
        path = folder / FORMATS[settings["format"]]
        place = _locate_mosaic(images, linked, plan)
        picture = write_mosaic(
            plan, path, settings["format"], workers, pixel_size_um=settings["pixel_size_um"], grid=place
        )
    figures = list_figures(linked, plan)
    names = images.names
    positions = dict(zip(names, map(tuple, plan.positions.tolist()), strict=True))
    _write_tables(folder, linked, plan)
    content = {"figures": figures, "problems": problems, "places": found.source, "settings": settings}
    write_json(folder / "mosaic.json", {"mosaic": path.name, "shape": plan.shape, **content})
    _write_page(folder, linked, plan, picture, content)
    return MosaicResult(path, folder, positions, plan.shape, figures, problems)


def lay_grid(found: TileSet, grid: str, order: str) -> TileSet:
    """Return tiles with the rows and columns of a grid, in the order of their names.

    Raises:
        InputError: the grid has another number of places than there are tiles.
    """
    columns, rows = map(int, grid.split("x"))
    if columns * rows != len(found.tiles):
        raise InputError(
            f"a grid of {grid} has {columns * rows} places, but there are {len(found.tiles)} tiles"
        )
    placed = []
    for index, tile in enumerate(found.tiles):
        row, column = divmod(index, columns)
        back = order == "snake" and row % 2 == 1
        placed.append(replace(tile, place=(row, columns - 1 - column if back else column), position=None))
    return replace(found, tiles=tuple(placed), source=f"a grid of {grid}, {order}")


def link_tiles(images: TileImages, settings: Mapping[str, Any], workers: Workers) -> LinkedTiles:
    """Find the links between tiles, and their places.

    Raises:
        InputError: the places of the tiles cannot be expected, or the channel is unknown.
    """
    light = (
        _estimate_light(images, workers) if settings["flat_field"] else [Illumination()] * sum(images.bands)
    )
    search = LinkSearch(images, light, _choose_channel(images, settings["channel"]), workers)
    expected = find_stated_positions(images, settings)
    if expected is None and all(tile.place is not None for tile in images.tiles):
        percent = settings["overlap_percent"]
        expected = predict_positions(search, None if percent is None else percent / 100)
    if expected is None:
        expected, links = search_blindly(search)
        looked: Sequence[TilePair] = sorted(links)
    else:
        links, looked = find_links(search, expected, settings["reach_px"])
    return LinkedTiles(images, expected, links, looked, place_tiles(images.names, expected, links), light)


def plan_mosaic(linked: LinkedTiles, settings: Mapping[str, Any], workers: Workers) -> MosaicPlan:
    """Return what the mosaic is made of."""
    images, placement = linked.images, linked.placement
    positions = placement.positions - placement.positions.min(axis=0)
    extent = np.floor((positions + images.sizes - 1).max(axis=0) + 1e-6).astype(int) + 1
    count = len(images.tiles)
    kept = _list_kept(linked)
    gains = np.ones(count)
    if settings["gains"]:
        gains = estimate_gains(count, kept, [linked.links[pair].log_ratio for pair in kept])
    order = np.arange(count)
    if settings["blend"] == "sharpest":
        sharpness = list(
            map_blocks(partial(_measure_sharpness, images), range(count), workers, describe="sharpness")
        )
        order = np.lexsort((order, -np.array(sharpness)))
    overlaps = [_measure_overlap(linked, pair) for pair in kept]
    feather = float(np.median(overlaps)) if overlaps else 0.1 * float(images.sizes.min())
    shape = (int(extent[1]), int(extent[0]))
    return MosaicPlan(
        images,
        positions,
        shape,
        linked.light,
        gains,
        order,
        settings["blend"],
        settings["interpolation"],
        max(feather / 2, 1.0),
    )


def list_figures(linked: LinkedTiles, plan: MosaicPlan) -> dict[str, float]:
    """Return the figures of a mosaic."""
    found = linked.placement.solution.list_figures("px")
    found["tiles"] = found.pop("images")
    found["pairs_without_link"] = float(len(linked.looked) - len(linked.links))
    found["tiles_without_link"] = float((~linked.placement.linked).sum())
    found["stage_error_rms_px"] = _measure_stage_error(linked)
    found["falloff_percent"] = 100 * max(light.falloff for light in linked.light)
    found["gain_spread_percent"] = 100 * float(plan.gains.std())
    return found


def describe_links(linked: LinkedTiles) -> list[str]:
    """Return sentences on tiles in one place, without a link or in parts, and on contradictions."""
    names, placement = linked.images.names, linked.placement
    told = [
        f"{names[a]} and {names[b]}: lie in one place; remove one of them if it is a copy"
        for a, b in find_doubles(placement.positions, linked.images.sizes)
    ]
    told += [
        f"{names[index]}: overlaps no tile with texture in common; it lies where it was expected"
        for index in np.flatnonzero(~placement.linked)
    ]
    parts = [part for part in placement.solution.parts if len(part) > 1]
    if len(parts) > 1:
        sizes = ", ".join(str(len(part)) for part in parts)
        others = "; ".join(f"{len(part)} with {part[0]}" for part in parts[1:4])
        told.append(
            f"the tiles form {len(parts)} parts that no link joins, of {sizes} tiles ({others}); each was "
            "solved by itself, and how they lie to one another is as expected"
        )
    told += [
        f"{each.link.name}: was {each.distance:.1f} px from what the other links say, and was dropped"
        for each in placement.solution.list_contradictions()
    ]
    return told


def _read_whole(images: TileImages, number: int) -> NDArray[np.float32]:
    """Return all bands of a tile, ``(C, rows, columns)``."""
    rows, columns = (slice(0, int(size)) for size in images.shapes[number])
    return images.read(number, rows, columns)


def _measure_sharpness(images: TileImages, number: int) -> float:
    return measure_sharpness(_read_whole(images, number)[0])


def _summarize_bands(images: TileImages, number: int) -> list[Array]:
    return [summarize_tile(plane) for plane in _read_whole(images, number)]


def _estimate_light(images: TileImages, workers: Workers) -> list[Illumination]:
    count = len(images.tiles)
    taken = min(count, MOST_SAMPLED)
    numbers = [index * count // taken for index in range(taken)]
    found = list(map_blocks(partial(_summarize_bands, images), numbers, workers, describe="light"))
    return [estimate_illumination(summaries) for summaries in zip(*found, strict=True)]


def _choose_channel(images: TileImages, wanted: str | None) -> int:
    if wanted is None:
        return 0
    for index in range(len(images.bands)):
        first = sum(images.bands[:index])
        if images.channels and images.channels[first].partition(" ")[0].lower() == wanted.lower():
            return index
    known = ", ".join(images.channels) or "none has a name"
    raise InputError(f"there is no channel '{wanted}'; the channels are: {known}")


def _list_kept(linked: LinkedTiles) -> list[TilePair]:
    """Return the pairs whose link took part in the solution."""
    numbers = {name: index for index, name in enumerate(linked.images.names)}
    kept = [each.link for each in linked.placement.solution.residuals if each.kept]
    return [(numbers[link.first], numbers[link.second]) for link in kept]


def _measure_overlap(linked: LinkedTiles, pair: TilePair) -> float:
    """Return the width of an overlap across its narrower side."""
    offset = np.abs(linked.links[pair].offset)
    return float((linked.images.sizes[list(pair)].min(axis=0) - offset).min())


def _measure_stage_error(linked: LinkedTiles) -> float:
    """Return the root mean square difference of links from what was expected."""
    differences = [
        linked.links[a, b].offset - (linked.expected[b] - linked.expected[a]) for a, b in _list_kept(linked)
    ]
    return float(np.sqrt(np.mean(np.square(differences)))) if differences else 0.0


def _locate_mosaic(images: TileImages, linked: LinkedTiles, plan: MosaicPlan) -> Grid | None:
    """Return the mosaic's grid on the ground, where the tiles have one: their own, by the median tile."""
    if images.grids is None or images.grids[0].crs is None:
        return None
    first = images.grids[0]
    shift = np.median(linked.expected - plan.positions, axis=0)
    affine = first.affine.copy()
    affine[:2, 2] = first.to_world(shift)
    return Grid(plan.shape, affine, first.crs)


def _write_tables(folder: Path, linked: LinkedTiles, plan: MosaicPlan) -> None:
    names = linked.images.names
    columns = ["tile", "x_px", "y_px", "expected_x_px", "expected_y_px", "linked", "gain"]
    places = np.column_stack([plan.positions, linked.expected])
    tiles = [
        [name, *(f"{value:.3f}" for value in place), _spell_answer(has_link), f"{gain:.4f}"]
        for name, place, has_link, gain in zip(
            names, places, linked.placement.linked, plan.gains, strict=True
        )
    ]
    write_tsv(folder / "tiles.tsv", columns, tiles)
    numbers = {name: index for index, name in enumerate(names)}
    columns = ["first", "second", "dx_px", "dy_px", "sigma_px", "correlation", "neg_log10_p"]
    columns += ["residual_px", "kept", "checked"]
    links = []
    for each in linked.placement.solution.residuals:
        first, second = each.link.first, each.link.second
        shift = linked.links[numbers[first], numbers[second]]
        measured = [f"{value:.3f}" for value in (*shift.offset, shift.sigma, shift.correlation)]
        judged = [f"{each.distance:.3f}", _spell_answer(each.kept), _spell_answer(each.checked)]
        links.append([first, second, *measured, f"{shift.neg_log10_p:.1f}", *judged])
    write_tsv(folder / "links.tsv", columns, links)


def _spell_answer(value: bool) -> str:
    return "yes" if value else "no"


def _write_page(
    folder: Path,
    linked: LinkedTiles,
    plan: MosaicPlan,
    picture: NDArray[np.float32],
    content: Mapping[str, Any],
) -> None:
    from regflow.reporting.shared.mosaic import MosaicStory, render_mosaic_page

    story = MosaicStory(
        picture,
        plan.shape,
        linked.images.names,
        plan.positions,
        linked.images.sizes,
        linked.placement.solution,
        content["figures"],
        content["problems"],
        content["places"],
    )
    with write_whole(folder / "report.html") as part:
        part.write_text(render_mosaic_page(story), encoding="utf-8")
