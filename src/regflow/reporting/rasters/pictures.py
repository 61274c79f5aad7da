"""The pictures of two scenes: windows to flicker, overviews with arrows, the change map."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.grid import Grid
from regflow.core.units import find_meters_per_pixel
from regflow.reporting.rasters.charts import draw_arrows
from regflow.reporting.rasters.views import LAYERS, OVERVIEW_PX, DetailWindow, Overview
from regflow.reporting.shared import drawing

Array = NDArray[Any]

ARROW_SHARE = 0.06
"""Length of a long arrow, as a share of the picture's longer side."""
BAR_SHARE = 0.22
"""Largest length of the scale bar, as a share of the picture's width."""
NOTHING = 0.5
"""Gray of what has no data, between black and white."""
SEQUENTIAL = ("#fcfdbf", "#feb078", "#f1605d", "#b63679", "#721f81", "#2c115f")
"""Light to dark, told apart in every common color vision (after matplotlib's magma)."""
CHANGED_COLOR, EXPLAINED_COLOR = (226, 26, 60), (255, 170, 40)
MOST_OUTLINES = 1500


@dataclass(frozen=True, eq=False)
class MeasuredPoints:
    """Measured points and what they say.

    Attributes:
        places: ``(N, 2)`` world.
        vectors_px: ``(N, 2)`` in pixels of the working grid, x right and y down.
        used: ``(N,)`` whether they count.
    """

    places: Array
    vectors_px: Array
    used: NDArray[np.bool_]


def render_tiles(
    windows: Sequence[DetailWindow], outlines: Sequence[Any], grid: Grid
) -> list[dict[str, Any]]:
    """Return what the viewer needs of each window.

    Args:
        windows: at full resolution.
        outlines: of changes, shapely polygons in world coordinates.
        grid: the working grid.
    """
    shown = [number for number, window in enumerate(windows) if window.layers]
    return [_tile(number, windows[number], outlines, grid) for number in shown]


def draw_panel(
    overview: Overview,
    picture: drawing.Bytes,
    title: str,
    *,
    vectors: MeasuredPoints | None = None,
    colored: bool = False,
) -> dict[str, Any]:
    """Return an overview with a scale bar and, if given, arrows.

    Args:
        overview: where it lies.
        picture: its pixels.
        title: a few words.
        vectors: arrows to draw.
        colored: the picture has colors of its own, so that arrows need a dark rim.
    """
    rows, cols = picture.shape[:2]
    content: dict[str, Any] = {
        "title": title,
        "src": drawing.encode_data_uri(picture, OVERVIEW_PX),
        "width": cols,
        "height": rows,
        "paths": [],
        "gain": "",
        "colored": colored,
        **_scale_bar(overview.image.grid),
        "north": _north(overview.image.grid),
    }
    if vectors is not None and vectors.used.any():
        content["paths"], content["gain"] = _arrows(overview, vectors, max(rows, cols))
    return content


def draw_gray_overview(values: Array, valid: NDArray[np.bool_]) -> drawing.Bytes:
    """Return a scene as a gray picture, middle gray where it has no data."""
    window = drawing.choose_window(values[valid], 1.0, 99.0)
    picture = drawing.draw_gray(values, window)
    picture[~valid] = round(255 * NOTHING)
    return picture


def draw_composite(fixed: Array, moved: Array) -> drawing.Bytes:
    """Return an RGB picture: the reference red, the registered scene cyan, gray where they agree.

    The registered scene is shown with the reference's median and middle half, so that another
    radiometry gives no color of its own.
    """
    valid = np.isfinite(fixed) & np.isfinite(moved)
    if not valid.any():
        return np.dstack([np.zeros(fixed.shape, np.uint8)] * 3)
    low, middle, high = np.percentile(fixed[valid], (25, 50, 75))
    other_low, other_middle, other_high = np.percentile(moved[valid], (25, 50, 75))
    like = (moved - other_middle) * ((high - low) / max(other_high - other_low, 1e-9)) + middle
    window = drawing.choose_window(fixed[valid], 2.0, 98.0)
    red, cyan = (drawing.draw_gray(np.nan_to_num(part), window) for part in (fixed, like))
    red[~np.isfinite(fixed)] = cyan[~np.isfinite(moved)] = 0
    return np.dstack([red, cyan, cyan])


def draw_change(base: drawing.Bytes, shares: Mapping[str, Array]) -> drawing.Bytes:
    """Return a gray picture with the shares (0..1) of changed and explained pixels laid over in color."""
    faded = 255 - (255 - np.dstack([base] * 3).astype(np.float32)) * 0.75
    for name, color in (("explained", EXPLAINED_COLOR), ("changed", CHANGED_COLOR)):
        alpha = np.sqrt(np.clip(shares[name], 0, 1))[..., None]  # the root: small changes stay visible
        faded = faded * (1 - alpha) + np.array(color, np.float32) * alpha
    return np.asarray(np.rint(faded), np.uint8)


def draw_magnitude(values: Array, valid: NDArray[np.bool_]) -> tuple[drawing.Bytes, float]:
    """Return the magnitude in color, and the value at the dark end of the colors."""
    top = float(np.percentile(values[valid], 99.5)) if valid.any() else 1.0
    place = np.clip(np.nan_to_num(values) / max(top, 1e-9), 0, 1) * 255
    picture = drawing.make_color_table(SEQUENTIAL)[np.rint(place).astype(np.uint8)]
    picture[~valid] = round(255 * NOTHING)
    return picture, top


def draw_contact_sheet(tiles_of: Sequence[DetailWindow], height: int = 280) -> drawing.Bytes:
    """Return the worst, median and best window as checkerboards of both scenes, side by side."""
    from PIL import Image as Pillow

    boards = []
    for window in tiles_of:
        pictures = _gray_layers(window.layers)
        board = drawing.draw_checkerboard(pictures["fixed"], pictures["refine"], 6)
        size = (max(1, round(board.shape[1] * height / board.shape[0])), height)
        boards.append(np.asarray(Pillow.fromarray(board).resize(size, Pillow.Resampling.LANCZOS)))
        boards.append(np.full((height, 6), 255, np.uint8))
    return np.hstack(boards[:-1])


def _tile(number: int, window: DetailWindow, outlines: Sequence[Any], grid: Grid) -> dict[str, Any]:
    rows, cols = (part.stop - part.start for part in (window.rows, window.cols))
    cut = Grid((rows, cols), grid.affine @ _shifted(window), grid.crs)
    residual = "" if math.isnan(window.residual_px) else f"{window.residual_px:.2f} px left"
    return {
        "id": f"w{number}",
        "title": window.title,
        "residual": residual,
        "place": f"column {window.cols.start}, row {window.rows.start}",
        "width": cols,
        "height": rows,
        "layers": {
            name: drawing.encode_data_uri(picture, max(rows, cols))
            for name, picture in _gray_layers(window.layers).items()
        },
        "contours": _contours(window.layers["fixed"]),
        "changes": trace_outline(outlines, cut),
        **_scale_bar(cut),
    }


def trace_outline(polygons: Sequence[Any], grid: Grid) -> str:
    """Return the SVG path of world polygons on a grid's picture, clipped to it."""
    import shapely

    if not len(polygons):
        return ""
    rows, cols = grid.shape
    frame = shapely.box(-1, -1, cols + 1, rows + 1)
    parts = []
    for polygon in polygons:
        placed = shapely.transform(polygon, lambda xy: grid.to_index(xy) + 0.5)
        if not placed.intersects(frame):
            continue
        for ring in _rings(shapely.intersection(placed, frame)):
            told = " ".join(f"{x:.1f} {y:.1f}" for x, y in shapely.get_coordinates(ring)[:-1])
            parts.append(f"M{told}z")
    return "".join(parts)


def _rings(shape: Any) -> list[Any]:
    import shapely

    polygons = [part for part in shapely.get_parts(shape) if part.geom_type == "Polygon"]
    return [ring for polygon in polygons for ring in (polygon.exterior, *polygon.interiors)]


def _gray_layers(layers: Mapping[str, Array]) -> dict[str, drawing.Bytes]:
    """Return gray pictures; the states of the moving scene share one window of intensities."""
    own = _window(layers["fixed"])
    other = _window(layers["refine"]) or own
    pictures = {}
    for name in (name for name in LAYERS if name in layers):
        values = layers[name]
        window = (own if name == "fixed" else other) or (0.0, 1.0)
        picture = drawing.draw_gray(np.nan_to_num(values), window)
        picture[~np.isfinite(values)] = round(255 * NOTHING)
        pictures[name] = picture
    return pictures


def _window(values: Array) -> tuple[float, float] | None:
    known = values[np.isfinite(values)]
    return drawing.choose_window(known, 1.0, 99.5) if known.size else None


def _contours(values: Array) -> str:
    """Return the reference's strongest outlines, smoothed, as an SVG path in pixels."""
    from scipy.ndimage import gaussian_filter

    known = np.isfinite(values)
    if not known.any():
        return ""
    smooth = gaussian_filter(np.where(known, values, np.median(values[known])), 1.5)
    lines = drawing.trace_contours(smooth, drawing.find_otsu_levels(smooth[known])[1], (1.0, 1.0))
    return drawing.format_svg_path([line for line in lines if len(line) > 40])


def _arrows(overview: Overview, vectors: MeasuredPoints, side: int) -> tuple[list[tuple[str, str]], str]:
    starts = overview.place(vectors.places)
    across = vectors.vectors_px / np.array(overview.scale)
    known = np.isfinite(across).all(axis=1)
    long = float(np.percentile(np.hypot(*across[vectors.used & known].T), 95))
    gain = _rounded(ARROW_SHARE * side / max(long, 1e-6))
    kinds = ["used" if used else "left-out" for used in vectors.used[known]]
    # What was left out may lie anywhere; its arrows only mark the place.
    drawn = np.where(vectors.used[known][:, None], across[known] * gain, 0.0)
    paths = draw_arrows(starts[known], starts[known] + drawn, kinds)
    return paths, f"{gain * overview.scale[0]:.3g}" if gain < 1 else f"{round(gain):,}"


def _scale_bar(grid: Grid) -> dict[str, Any]:
    """Return the bar's length in pixels of the picture and what it says."""
    meters = find_meters_per_pixel(grid)
    pixel = 1.0 if meters is None else meters[0]
    length = _rounded(BAR_SHARE * grid.shape[1] * pixel)
    if meters is None:
        label = f"{length:g} px"
    else:
        label = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    return {"bar": length / pixel, "bar_label": label}


def _rounded(value: float) -> float:
    """Return the largest 1, 2 or 5 times a power of ten that is not above a value."""
    power = 10.0 ** math.floor(math.log10(max(value, 1e-12)))
    return max(power * step for step in (1, 2, 5) if power * step <= value * (1 + 1e-9))


def _north(grid: Grid) -> float | None:
    """Return by how many degrees north is turned clockwise from up; None without a CRS."""
    if grid.crs is None:
        return None
    x, y = grid.to_index_vectors([0.0, 1.0])
    return round(math.degrees(math.atan2(x, -y)), 1)


def _shifted(window: DetailWindow) -> Array:
    return np.array([[1.0, 0, window.cols.start], [0, 1, window.rows.start], [0, 0, 1]])
