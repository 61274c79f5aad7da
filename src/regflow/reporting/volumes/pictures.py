"""The pictures of one sample: tiles of three planes with their layers, contours and grids."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.extent import measure_longest_side
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.reporting.shared import drawing
from regflow.reporting.volumes.views import PLANES, SlicePlane, UprightOrientation, choose_slices

LAYERS = {
    "fixed": "Fixed",
    "start": "Moving, as its header places it",
    "initialize": "Moving, after the affine",
    "refine": "Moving, warped",
}
"""The pictures that are laid over one another, by the name of the moving image's state."""

COMPARED = ("initialize", "refine")
"""The states that are held against the fixed image, before and after the deformation."""

HEAD_MM = 200.0
"""Length of a field of view whose pictures are drawn in millimeters; others are drawn as large as it."""
GRID_STEP_MM = 8.0
BAR_MM = 50.0
GRID_SAMPLING_MM = 2.5
"""Distance of the samples from which the deformation grid is drawn: its lines are smooth."""
SHEET_HEIGHT = 560
"""Of a contact sheet in pixels, twice what it has at the end, so that its lines come out smooth."""
SHEET_COLORS = {"outline": "#ffd54a", "structures": "#35d0ff"}
FOLD_COLOR = (255, 0, 255)
SMALLEST_JACOBIAN_BOUND = 0.25
LARGEST_JACOBIAN_BOUND = 2.0


@dataclass(frozen=True, eq=False)
class Rendering:
    """What is drawn: arrays on the fixed grid, turned upright.

    Attributes:
        standing: the turn, and the grid of the turned arrays, in units of ``unit_mm``.
        layers: gray volumes by name, in the order of :data:`LAYERS`.
        windows: each layer's black and white values.
        mask: where the figures were measured.
        labels: fixed structures, or None.
        displacement: of the deformable part along the turned array's axes, in units of ``unit_mm``.
        determinant: its Jacobian determinant.
        cuts: the slices by plane.
        level: intensity of the fixed image at which contours are drawn when there are no labels.
        neurological: the patient's left is on the left.
        unit_mm: what is drawn as a millimeter: 1 for a head, less for a mouse, more for a whale.
        memo: contours already drawn, by slice.
    """

    standing: UprightOrientation
    layers: Mapping[str, NDArray[np.float32]]
    windows: Mapping[str, tuple[float, float]]
    mask: NDArray[np.bool_]
    labels: NDArray[np.integer[Any]] | None
    displacement: tuple[NDArray[np.float32], ...]
    determinant: NDArray[np.float32]
    cuts: Mapping[str, list[SlicePlane]]
    level: float
    neurological: bool
    unit_mm: float = 1.0
    memo: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)

    @property
    def is_deformed(self) -> bool:
        """Tell whether anything moves but by the affine part."""
        return any(bool(part.any()) for part in self.displacement)

    @property
    def orientation(self) -> str:
        """Say which side of the patient is where."""
        if self.neurological:
            return "neurological: the patient's left is on the left"
        return "radiological: the patient's left is on the right"


def make_rendering(
    fixed: Image,
    moved: Mapping[str, NDArray[np.float32]],
    displacement: NDArray[np.float32],
    determinant: NDArray[np.float32],
    *,
    slices: int = 7,
    neurological: bool = False,
) -> Rendering:
    """Turn a pair upright and choose its slices.

    Args:
        fixed: working fixed image, 3-D.
        moved: the moving image on the fixed grid, by its state (:data:`LAYERS`).
        displacement: of the deformable part, ``(3, Z, Y, X)`` in world mm.
        determinant: its Jacobian determinant.
        slices: per plane.
        neurological: the patient's left on the left of the picture.
    """
    unit = _unit_mm(fixed.grid)
    standing = UprightOrientation.from_grid(
        Grid(fixed.grid.shape, np.diag([1 / unit] * 3 + [1.0]) @ fixed.grid.affine)
    )
    mask = np.ones(fixed.grid.shape, dtype=bool) if fixed.mask is None else fixed.mask
    if not mask.any():
        mask = np.ones_like(mask)
    layers = {"fixed": fixed.channel, **{name: moved[name] for name in LAYERS if name in moved}}
    sample = mask & (np.arange(mask.shape[0]) % 2 == 0)[:, None, None] if mask.shape[0] > 32 else mask
    # Without a mask the brightest percent is mostly fat around the head.
    brightest = 99.0 if mask.all() else 99.8
    own = drawing.choose_window(np.asarray(fixed.channel[sample]), high=brightest)
    other = drawing.choose_window(np.asarray(moved["refine"][sample]), high=brightest)
    upright = standing.turn(mask)
    return Rendering(
        standing,
        {name: standing.turn(values) for name, values in layers.items()},
        {name: own if name == "fixed" else other for name in layers},
        upright,
        None if fixed.labels is None else standing.turn(fixed.labels),
        _along_axes(displacement / np.float32(unit), standing),
        standing.turn(determinant),
        choose_slices(standing, upright, slices, neurological=neurological, unit_mm=unit),
        drawing.find_otsu_levels(np.asarray(fixed.channel[sample]))[1],
        neurological,
        unit,
    )


def _unit_mm(grid: Grid) -> float:
    """Return the 1, 2 or 5 times a power of ten by which a field of view is about as long as a head's."""
    wanted = np.log10(measure_longest_side(grid) / HEAD_MM)
    units = [digit * 10.0 ** (np.floor(wanted) + power) for power in (0, 1) for digit in (1, 2, 5)]
    return float(min(units, key=lambda unit: abs(np.log10(unit) - wanted)))


def _along_axes(
    displacement: NDArray[np.float32], standing: UprightOrientation
) -> tuple[NDArray[np.float32], ...]:
    """Return the displacement's components along the turned array's axes, in its own unit."""
    cosines = standing.grid.direction.astype(np.float32)
    turned = [standing.turn(component) for component in displacement]
    found = []
    for axis in range(3):
        weights = cosines[:, 2 - axis]
        main = int(np.abs(weights).argmax())
        if np.abs(np.delete(weights, main)).max() < 1e-6:
            found.append(turned[main] * weights[main])
        else:
            found.append(sum(part * weight for part, weight in zip(turned, weights, strict=True)))
    return tuple(found)


def render_tiles(rendering: Rendering) -> list[dict[str, Any]]:
    """Return all planes with their tiles for the viewer."""
    bound = find_jacobian_bound(rendering)
    return [
        {"plane": plane, "tiles": [_tile(rendering, cut, bound) for cut in rendering.cuts[plane]]}
        for plane in PLANES
    ]


def _tile(rendering: Rendering, cut: SlicePlane, bound: float) -> dict[str, Any]:
    """Return one slice with every layer, and its overlays."""
    return {
        **describe_frame(rendering, cut),
        "layers": {name: drawing.encode_data_uri(_gray(rendering, name, cut)) for name in rendering.layers},
        "jacobian": drawing.encode_data_uri(_jacobian(rendering, cut, bound)),
        **draw_overlays(rendering, cut),
    }


def describe_frame(rendering: Rendering, cut: SlicePlane) -> dict[str, Any]:
    """Return the size, place and sides of a slice's picture, for the templates."""
    rows, columns = cut.measure_size(rendering.mask.shape)
    height, width = rows * cut.pixel_mm[0], columns * cut.pixel_mm[1]
    return {
        "id": f"{cut.plane}-{cut.number}",
        "bar": f"{BAR_MM * rendering.unit_mm:g} mm",
        "plane": cut.plane,
        "place": cut.place,
        "sides": cut.sides,
        "width_mm": round(width, 1),
        "height_mm": round(height, 1),
        "viewbox": f"0 0 {round(width * drawing.UNITS_PER_MM)} {round(height * drawing.UNITS_PER_MM)}",
    }


def draw_overlays(rendering: Rendering, cut: SlicePlane) -> dict[str, Any]:
    """Return the SVG paths over a slice: the mask's outline, the structures, the grid."""
    key = (cut.plane, cut.number)
    if key not in rendering.memo:
        lines = trace_contour_lines(rendering, cut)
        rendering.memo[key] = {name: drawing.format_svg_path(of_kind) for name, of_kind in lines.items()}
        rendering.memo[key]["grid"] = drawing.format_svg_path(_grid(rendering, cut))
    return rendering.memo[key]


def trace_contour_lines(rendering: Rendering, cut: SlicePlane) -> dict[str, list[NDArray[np.float64]]]:
    """Return the fixed image's contours on a slice, in mm: its mask's outline and its structures."""
    mask = cut.cut(rendering.mask)
    outline = [] if mask.all() else drawing.trace_contours(mask.astype(np.float32), 0.5, cut.pixel_mm)
    if rendering.labels is not None:
        return {
            "outline": outline,
            "structures": drawing.trace_label_contours(cut.cut(rendering.labels), cut.pixel_mm),
        }
    values = np.where(mask, cut.cut(rendering.layers["fixed"]), rendering.windows["fixed"][0])
    return {"outline": outline, "structures": drawing.trace_contours(values, rendering.level, cut.pixel_mm)}


def _grid(rendering: Rendering, cut: SlicePlane) -> list[NDArray[np.float64]]:
    """Return the grid's lines on a slice: where a regular grid on the moving image comes to lie."""
    axes = [axis for axis in range(3) if PLANES[axis] != cut.plane]
    steps = [max(1, round(GRID_SAMPLING_MM / size)) for size in cut.pixel_mm]
    coarse = tuple(slice(step // 2, None, step) for step in steps)
    shape = cut.measure_size(rendering.mask.shape)
    coordinates = []
    for number, axis in enumerate(axes):
        index = np.arange(shape[number], dtype=np.float32) * cut.pixel_mm[number]
        moved = cut.cut(rendering.displacement[axis])
        backward = (cut.rows, cut.columns)[number].step == -1
        values = moved * (-1 if backward else 1) + (index[:, None] if number == 0 else index[None])
        coordinates.append(values[coarse])
    pixel = (cut.pixel_mm[0] * steps[0], cut.pixel_mm[1] * steps[1])
    return drawing.trace_grid_lines(coordinates, GRID_STEP_MM, pixel)


def find_jacobian_bound(rendering: Rendering) -> float:
    """Return the end of the color scale in doublings: what 99.5 % of the mask stays within."""
    inside = rendering.determinant[::2, ::2, ::2][rendering.mask[::2, ::2, ::2]]
    logs = np.abs(np.log2(np.maximum(inside, 1e-6)))
    wanted = float(np.percentile(logs, 99.5)) if logs.size else SMALLEST_JACOBIAN_BOUND
    rounded = np.ceil(wanted / SMALLEST_JACOBIAN_BOUND) * SMALLEST_JACOBIAN_BOUND
    return float(np.clip(rounded, SMALLEST_JACOBIAN_BOUND, LARGEST_JACOBIAN_BOUND))


def _gray(rendering: Rendering, name: str, cut: SlicePlane) -> drawing.Bytes:
    return drawing.draw_gray(cut.cut(rendering.layers[name]), rendering.windows[name])


def _jacobian(rendering: Rendering, cut: SlicePlane, bound: float) -> drawing.Bytes:
    determinant = cut.cut(rendering.determinant)
    color = drawing.draw_diverging(np.log2(np.maximum(determinant, 1e-6)), bound)
    color[determinant <= 0] = FOLD_COLOR
    return drawing.add_alpha(color, cut.cut(rendering.mask).astype(np.float32))


def _difference(rendering: Rendering, stage: str, cut: SlicePlane) -> drawing.Bytes:
    """Return fixed minus moving in units of their windows, colored, clear outside the mask."""
    gap = []
    for name in ("fixed", stage):
        low, high = rendering.windows[name]
        gap.append(np.clip((cut.cut(rendering.layers[name]) - low) / max(high - low, 1e-12), -0.2, 1.2))
    return drawing.add_alpha(
        drawing.draw_diverging(gap[0] - gap[1], 0.6), cut.cut(rendering.mask).astype(np.float32)
    )


def draw_figures(rendering: Rendering, *, differences: bool) -> list[dict[str, Any]]:
    """Return the still figures: one picture of each plane's middle slice.

    Args:
        rendering: what is drawn.
        differences: draw fixed minus moving too; of use where both have the same contrast.
    """
    found = [
        _figure(rendering, name, title, partial(_gray, rendering, name)) for name, title in LAYERS.items()
    ]
    for stage in COMPARED:
        title = f"Checkerboard of fixed and {LAYERS[stage].lower()}"
        found.append(
            _figure(rendering, f"checker-{stage}", title, partial(_checker, rendering, stage), contours=False)
        )
    for stage in COMPARED if differences else ():
        title = f"Fixed minus {LAYERS[stage].lower()}"
        draw = partial(_difference, rendering, stage)
        found.append(_figure(rendering, f"difference-{stage}", title, draw, contours=False))
    draw = partial(_jacobian, rendering, bound=find_jacobian_bound(rendering))
    return [*found, _figure(rendering, "jacobian", "Local volume change", draw)]


def draw_product(rendering: Rendering, warped: NDArray[np.float32]) -> dict[str, Any]:
    """Return the still figure of a product, given on the rendering's grid before it was turned."""
    upright = rendering.standing.turn(warped)
    window = drawing.choose_window(upright[rendering.mask])
    return _figure(
        rendering,
        "product",
        "The product, warped.nii.gz",
        lambda cut: drawing.draw_gray(cut.cut(upright), window),
    )


def _figure(
    rendering: Rendering,
    name: str,
    title: str,
    draw: Callable[[SlicePlane], drawing.Bytes],
    *,
    contours: bool = True,
) -> dict[str, Any]:
    pictures = [
        {
            **describe_frame(rendering, cut),
            "src": drawing.encode_data_uri(draw(cut)),
            **draw_overlays(rendering, cut),
        }
        for cut in choose_middle_slices(rendering)
    ]
    return {"name": name, "title": title, "contours": contours, "pictures": pictures}


def choose_middle_slices(rendering: Rendering) -> list[SlicePlane]:
    """Return the middle slice of each plane."""
    return [rendering.cuts[plane][len(rendering.cuts[plane]) // 2] for plane in PLANES]


def _checker(rendering: Rendering, stage: str, cut: SlicePlane) -> drawing.Bytes:
    return drawing.draw_checkerboard(_gray(rendering, "fixed", cut), _gray(rendering, stage, cut))


def draw_contact_sheet(rendering: Rendering) -> drawing.Bytes:
    """Return one RGB picture: the warped image's middle slices with the fixed image's contours."""
    from PIL import Image as Pillow
    from PIL import ImageDraw

    cuts = choose_middle_slices(rendering)
    sizes = [cut.measure_size(rendering.mask.shape) for cut in cuts]
    extents = [
        (rows * cut.pixel_mm[0], columns * cut.pixel_mm[1])
        for cut, (rows, columns) in zip(cuts, sizes, strict=True)
    ]
    scale = SHEET_HEIGHT / max(height for height, _ in extents)
    sheet = Pillow.new("RGB", (round(sum(width for _, width in extents) * scale), SHEET_HEIGHT))
    left = 0.0
    for cut, (height, width) in zip(cuts, extents, strict=True):
        tile = Pillow.fromarray(np.ascontiguousarray(_gray(rendering, "refine", cut))).convert("RGB")
        top = (SHEET_HEIGHT - height * scale) / 2
        sheet.paste(tile.resize((round(width * scale), round(height * scale))), (round(left), round(top)))
        pen = ImageDraw.Draw(sheet)
        for kind, lines in trace_contour_lines(rendering, cut).items():
            for line in lines:
                points = (line * scale + (left, top)).ravel().tolist()
                pen.line(points, fill=SHEET_COLORS[kind], width=2)
        left += width * scale
    shrunk = sheet.resize((sheet.width // 2, sheet.height // 2), Pillow.Resampling.LANCZOS)
    return np.asarray(shrunk)
