"""From arrays to pictures: gray and color maps, data URIs, contours and grids as SVG paths."""

import base64
import io
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from regflow.reporting.shared import drawing

Bytes = NDArray[np.uint8]

WEBP = {"format": "WEBP", "quality": 82, "method": 2}
LONGEST_SIDE = 320
"""Pixels of a picture along its longer side; larger slices are shrunk."""
UNITS_PER_MM = 10
"""Units of SVG paths: whole tenths of a millimeter keep them short."""
HEADROOM = 0.06
SHORTEST_CONTOUR_MM = 8.0
SIMPLIFYING_PASSES = 4

DIVERGING = ("#053061", "#2f79b5", "#8dc2dc", "#f7f6f4", "#f6b394", "#cf5246", "#67001f")
"""Blue, white, red (after ColorBrewer's RdBu), told apart in every common color vision."""


def draw_gray(values: NDArray[np.floating], window: tuple[float, float]) -> Bytes:
    """Return an 8-bit picture: the window's lower end black, its upper end white."""
    low, high = window
    scaled = (values.astype(np.float32) - low) * (255.0 / max(high - low, 1e-12))
    return np.asarray(np.clip(np.rint(scaled), 0, 255), dtype=np.uint8)


def choose_window(values: NDArray[np.floating], low: float = 0.5, high: float = 99.8) -> tuple[float, float]:
    """Return percentiles of values, a window that outliers cannot stretch, and a little above."""
    if not values.size:
        return 0.0, 1.0
    bottom, top = np.percentile(values, (low, high))
    return float(bottom), float(top + HEADROOM * (top - bottom))


def draw_diverging(values: NDArray[np.floating], bound: float) -> Bytes:
    """Return an RGB picture ``(rows, columns, 3)``: -bound blue, 0 white, +bound red."""
    place = np.clip((values / bound + 1) / 2, 0, 1) * 255
    return make_color_table(DIVERGING)[np.rint(place).astype(np.uint8)]


def make_color_table(anchors: Sequence[str], count: int = 256) -> Bytes:
    """Return ``(count, 3)`` colors between evenly spaced anchors given as ``#rrggbb``."""
    stops = np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in anchors], dtype=float)
    place = np.linspace(0, len(anchors) - 1, count)
    channels = [np.interp(place, np.arange(len(anchors)), stops[:, c]) for c in range(3)]
    return np.asarray(np.rint(np.stack(channels, axis=1)), dtype=np.uint8)


def add_alpha(color: Bytes, alpha: NDArray[np.floating]) -> Bytes:
    """Return an RGBA picture; ``alpha`` runs from 0, clear, to 1."""
    return np.dstack([color, np.rint(alpha * 255).astype(np.uint8)])


def draw_checkerboard(first: Bytes, second: Bytes, squares: int = 8) -> Bytes:
    """Return a picture whose squares come from one and the other picture in turn."""
    side = max(1, max(first.shape[:2]) // squares)
    rows, columns = np.indices(first.shape[:2])
    return np.where((rows // side + columns // side) % 2 == 0, first, second)


def encode_data_uri(picture: Bytes, side: int = LONGEST_SIDE) -> str:
    """Encode a gray, RGB or RGBA picture for the ``src`` of an ``img``, shrunk to ``side`` pixels."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(picture))
    longest = max(image.size)
    if longest > side:
        size = [max(1, round(n * side / longest)) for n in image.size]
        image = image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, **WEBP)  # type: ignore[arg-type]
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def trace_contours(
    values: NDArray[np.floating], level: float, pixel_mm: tuple[float, float]
) -> list[NDArray[np.float64]]:
    """Return iso-lines of a slice as ``(N, 2)`` points (x, y) in mm from its upper left corner."""
    import contourpy

    if min(values.shape) < 2:
        return []
    # Padding closes the lines of what the slice's border cuts off.
    floor = min(float(values.min()), level - 1.0)
    padded = np.pad(values.astype(np.float64), 1, constant_values=floor)
    lines = contourpy.contour_generator(z=padded).lines(level)
    scale = np.array(pixel_mm[::-1])
    return [line for line in ((np.asarray(line) - 0.5) * scale for line in lines) if _length(line)]


def trace_grid_lines(
    coordinates: Sequence[NDArray[np.floating]], step_mm: float, pixel_mm: tuple[float, float]
) -> list[NDArray[np.float64]]:
    """Return the lines of a regular grid on the moving image as the transform carries it over.

    Args:
        coordinates: for each of the slice's two axes, the position in mm to which each sample is
            mapped along that axis.
        step_mm: distance of the lines on the moving image.
        pixel_mm: height and width of a sample.
    """
    import contourpy

    scale = np.array(pixel_mm[::-1])
    lines = []
    for values in coordinates:
        generator = contourpy.contour_generator(z=values.astype(np.float64))
        levels = np.arange(np.ceil(values.min() / step_mm), np.floor(values.max() / step_mm) + 1) * step_mm
        for level in levels:
            lines += [(np.asarray(line) + 0.5) * scale for line in generator.lines(float(level))]
    return [line for line in lines if _length(line)]


def format_svg_path(lines: Sequence[NDArray[np.float64]], tolerance_mm: float = 0.12) -> str:
    """Return the ``d`` of an SVG path through lines in mm, in tenths of a millimeter."""
    return "".join(_subpath(simplify_line(line, tolerance_mm)) for line in lines)


def simplify_line(line: NDArray[np.float64], tolerance_mm: float) -> NDArray[np.float64]:
    """Thin out the points of a line that lie close to the chord between their neighbors.

    Each pass looks at every other point, so that no two neighbors go at once and the line stays
    within a few tolerances of where it was.
    """
    for _ in range(SIMPLIFYING_PASSES):
        if len(line) < 4:
            break
        middle = np.arange(1, len(line) - 1, 2)
        chord = line[middle + 1] - line[middle - 1]
        offset = line[middle] - line[middle - 1]
        area = np.abs(offset[:, 0] * chord[:, 1] - offset[:, 1] * chord[:, 0])
        line = np.delete(line, middle[area <= tolerance_mm * np.hypot(*chord.T)], axis=0)
    return line


def trace_label_contours(
    labels: NDArray[np.integer], pixel_mm: tuple[float, float]
) -> list[NDArray[np.float64]]:
    """Return the outlines of all structures of a slice of a label map, in mm."""
    lines = []
    for label, rows, columns in _structures(labels):
        found = trace_contours((labels[rows, columns] == label).astype(np.float32), 0.5, pixel_mm)
        corner = np.array([columns.start * pixel_mm[1], rows.start * pixel_mm[0]])
        lines += [line + corner for line in found]
    return lines


def _structures(labels: NDArray[np.integer]) -> Iterator[tuple[int, slice, slice]]:
    """Yield each nonzero label of a slice with its box."""
    present = np.unique(labels)
    for label in present[present != 0]:
        where = labels == label
        rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
        yield int(label), slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _length(line: NDArray[np.float64]) -> bool:
    return bool(np.hypot(*np.diff(line, axis=0).T).sum() >= SHORTEST_CONTOUR_MM)


def _subpath(line: NDArray[np.float64]) -> str:
    points = np.rint(line * UNITS_PER_MM).astype(int)
    closed = len(points) > 2 and bool((points[0] == points[-1]).all())
    steps = np.diff(points[:-1] if closed else points, axis=0)
    moves = " ".join(map(str, steps.ravel().tolist())).replace(" -", "-")
    return f"M{points[0][0]} {points[0][1]}l{moves}" + ("z" if closed else "")


def find_otsu_levels(values: NDArray[np.floating], bins: int = 128) -> tuple[float, float]:
    """Return the two thresholds that best part values into three classes (Otsu, 1979)."""
    low, high = choose_window(values)
    counts, edges = np.histogram(values, bins=bins, range=(low, max(high, low + 1e-6)))
    centers = (edges[:-1] + edges[1:]) / 2
    weight = np.concatenate([[0.0], np.cumsum(counts)])
    first = np.concatenate([[0.0], np.cumsum(counts * centers)])
    i, j = np.triu_indices(bins + 1, k=1)
    # Between-class variance of a class from bin i to bin j, for all classes at once.
    score = np.zeros((bins + 1, bins + 1))
    mass = weight[j] - weight[i]
    score[i, j] = np.divide((first[j] - first[i]) ** 2, mass, out=np.zeros_like(mass), where=mass > 0)
    total = score[0][:, None] + score + score[:, bins]
    lower, upper = np.unravel_index(np.argmax(np.triu(total, k=1)), total.shape)
    return float(edges[lower]), float(edges[upper])


def draw_words(sentence: str) -> drawing.Bytes:
    """Return one RGB picture that says why there is none."""
    from textwrap import fill

    from PIL import Image as Pillow
    from PIL import ImageDraw

    sheet = Pillow.new("RGB", (640, 280), "#f1f3f6")
    text = fill(sentence.encode("ascii", "replace").decode(), 70)
    ImageDraw.Draw(sheet).multiline_text((24, 24), text, fill="#b3261e", font_size=16)
    return np.asarray(sheet)
