"""Every method on the same pairs: errors, failures, silent ones, and processor seconds.

Tables of one question each. ``linear``: crops of 128 pixels of real bands whose corners were moved by up to
32, plain, under another light, and with the texture taken away. ``bands``: visible to near infrared, shifted,
and scaled from 0.9 to 1.1. ``fields``: known smooth warps of 3 and 25 mm of brains at 3 mm, in one contrast
and in another; ``scene-fields``: of 2 and 8 pixels of bands. ``rigid``: brains turned by 40 degrees, with
twelve landmarks known to a millimeter and label maps of gray and white matter of either side.

A method runs by itself, from the identity, with its gate. A pair is `solved` where the mean error is within
the limit of the table, `refused` where the method gave no map or its gate refuses it, and `silent` where it
is neither. Errors are those of the map that stands: where all is refused that of the identity, whose own row
is what no method leaves.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from benchmarks.common import OUT, arguments, print_table, save
from benchmarks.summary import CANON
from regflow.config.loading import load_defaults
from regflow.core.errors import InputError, RegistrationError
from regflow.core.files import read_json
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.landmark_pairs import LandmarkPairs
from regflow.core.landmarks import Landmarks
from regflow.core.resample import coarsen_image, resample_aligned, resample_array
from regflow.core.transform import Affine, Composite, Homography, Points, Transform
from regflow.datasets import packaged as realdata
from regflow.datasets.known_pairs import draw_motions, draw_partners, move_image
from regflow.datasets.modalities import make_linear_truth, move_linearly, read_bands
from regflow.datasets.subjects import draw_affine, simulate_t2
from regflow.datasets.volumes import load_volume
from regflow.methods.initialize import METHODS as LINEAR
from regflow.methods.initialize.planar import find_matrix
from regflow.methods.initialize.projective import preserves_orientation
from regflow.methods.refine import METHODS as DEFORMABLE
from regflow.methods.table import Method, list_methods_of_kind
from regflow.methods.weight_files import find_weight_file, read_tensors
from regflow.training.images import CLEAR_COLUMNS, count_learned_rows

CROP, CORNERS = 128, 32
"""Pixels of a crop, and by how much its corners move at most along each axis."""
LIMITS = {"linear": 3.0, "bands": 0.5, "fields": 1.5, "scene-fields": 0.5, "rigid": 3.0}
"""Mean error beyond which an answer is wrong: pixels of scenes, samples of volumes."""
SPACING_MM = 3.0
BANDS = ("B03", "B04", "B08")
ALONE = {"voxelmorph, network alone": ("voxelmorph", {"refinement": "none"})}
"""Rows of methods with other options than their defaults."""
MARKED, RATER_MM = 12, 1.0
"""Landmarks of a turned brain, and how well a rater finds them."""


@dataclass(frozen=True, eq=False)
class Case:
    """A pair of known truth.

    Attributes:
        name: of the table's group of rows.
        fixed: the fixed image.
        moving: the moving image.
        points: of the fixed image, and their partners.
        unit: world units of a pixel or sample.
        landmarks: given to the methods that they drive.
    """

    name: str
    fixed: Image
    moving: Image
    points: tuple[Points, Points]
    unit: float
    landmarks: LandmarkPairs | None = None


@dataclass(frozen=True)
class Answer:
    """What a method said of a pair: mean error in pixels or samples, whether its gate refused it, seconds."""

    error: float
    refused: bool
    cpu_s: float


def main() -> None:
    """Print a table for each question."""
    parser = arguments(__doc__)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--pairs", type=int, default=20, help="of each group of rows")
    parser.add_argument("--methods", nargs="+", help="only these")
    parser.add_argument("--add", action="store_true", help="keep the other rows of the last run's tables")
    options = parser.parse_args()
    path = OUT / "canon.json"
    results = read_json(path)["results"] if options.add and path.is_file() else {}
    for part in options.parts:
        rows = list(_rows(part, options))
        print(f"\n{part}")
        print_table(rows, CANON)
        results[part] = _replace_rows(results.get(part, []), rows)
    save("canon", results, options.threads)


def _replace_rows(old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the new rows in the place of those of the same case and method, the others as they were."""
    found = {(row["case"], row["method"]): row for row in (*old, *new)}
    cases = list(dict.fromkeys(case for case, _ in found))
    return sorted(found.values(), key=lambda row: cases.index(row["case"]))


def _rows(part: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield a row for each method and group of cases."""
    make, stage, kind, sought = PARTS[part]
    table = list_methods_of_kind({"initialize": LINEAR, "refine": DEFORMABLE}[stage], kind)
    rows = {name: (name, _options_of(row, sought)) for name, row in table.items()}
    rows |= {name: asked for name, asked in ALONE.items() if asked[0] in table}
    chosen = {name: asked for name, asked in rows.items() if not options.methods or name in options.methods}
    for name, cases in make(options.pairs):
        yield _summarize(part, name, "identity", [Answer(_error(case, None), True, 0.0) for case in cases])
        for title, (method, own) in chosen.items():
            found = [_ask(case, stage, kind, method, own, options) for case in cases]
            yield _summarize(part, name, title, found) | _weigh(table[method], cases[0].fixed.grid.ndim)


def _weigh(row: Method, ndim: int) -> dict[str, Any]:
    """Return the parameters of the network that a method asks, and the minutes of its training."""
    if ndim not in row.networks:
        return {}
    tensors, description = read_tensors(find_weight_file(row.networks[ndim]))
    parameters = sum(value.numel() for value in tensors.values())
    return {"parameters": parameters, "training_min": description["notes"]["seconds"] / 60}


def _options_of(row: Method, sought: str) -> dict[str, Any]:
    """Return what tells a linear method which kind of map to seek, where it can be told."""
    for option in ("model", "transform"):
        if sought in row.options.get(option, {}).get("enum", ()):
            return {option: sought}
    return {}


def _ask(
    case: Case, stage: str, kind: str, method: str, own: Mapping[str, Any], options: argparse.Namespace
) -> Answer:
    """Run a method by itself, with its gate."""
    settings = {**load_defaults(kind)[stage], "methods": [method], "options": {method: dict(own)}}
    started = time.process_time()
    try:
        transform, status = _STAGES[stage, kind](case, settings, options.threads)
    except (InputError, RegistrationError):
        return Answer(np.inf, True, time.process_time() - started)
    return Answer(_error(case, transform), status == "fail", time.process_time() - started)


def _align_scenes(case: Case, settings: Mapping[str, Any], threads: int) -> tuple[Transform, str]:
    from regflow.stages.rasters.initialize import align_scenes

    found = align_scenes(case.fixed, case.moving, settings, threads=threads)
    return found.transform, found.verdict.status


def _align_volumes(case: Case, settings: Mapping[str, Any], threads: int) -> tuple[Transform, str]:
    from regflow.stages.volumes.initialize import align_volumes

    found = align_volumes(case.fixed, case.moving, settings, threads=threads, landmarks=case.landmarks)
    return found.transform, found.verdict.status


def _refine_scenes(case: Case, settings: Mapping[str, Any], threads: int) -> tuple[Transform, str]:
    from regflow.stages.rasters.refine import refine_scene

    found = refine_scene(case.fixed, case.moving, Affine.identity(2), settings, threads=threads)
    return found.transform, found.ladder.verdict.status


def _refine_volumes(case: Case, settings: Mapping[str, Any], threads: int) -> tuple[Transform, str]:
    from regflow.stages.volumes.refine import deform_volumes

    found = deform_volumes(case.fixed, case.moving, Affine.identity(3), settings, threads=threads)
    return found.forward, found.ladder.verdict.status


_STAGES = {
    ("initialize", "rasters"): _align_scenes,
    ("initialize", "volumes"): _align_volumes,
    ("refine", "rasters"): _refine_scenes,
    ("refine", "volumes"): _refine_volumes,
}


def _error(case: Case, transform: Transform | None) -> float:
    """Return the mean distance to the truth; of no transform that of the identity."""
    fixed, moving = case.points
    found = fixed if transform is None else transform.apply(fixed)
    return float(np.linalg.norm(found - moving, axis=1).mean() / case.unit)


def _summarize(part: str, name: str, method: str, found: Sequence[Answer]) -> dict[str, Any]:
    errors = np.array([answer.error for answer in found])
    solved = errors <= LIMITS[part]
    gave = np.isfinite(errors)
    return {
        **{"case": name, "method": method, "pairs": len(found)},
        "error_median": float(np.median(errors[gave])) if gave.any() else None,
        "error_mean": float(errors[gave].mean()) if gave.any() else None,
        "solved": int(solved.sum()),
        "refused": sum(answer.refused for answer in found),
        "silent": sum(not good and not answer.refused for good, answer in zip(solved, found, strict=True)),
        "cpu_s": float(np.mean([answer.cpu_s for answer in found])),
    }


def linear_cases(count: int) -> Iterator[tuple[str, list[Case]]]:
    """Yield crops of which the corners were moved, by what was done to the moving one."""
    plane = _read_unseen_planes()["B04"]
    for name, change in (("plain", None), ("illumination", _relight), ("no texture", _smooth_out)):
        yield name, [_crop_pair(name, plane, change, seed) for seed in range(count)]


def _crop_pair(name: str, plane: NDArray[Any], change: Callable[..., Any] | None, seed: int) -> Case:
    rng = np.random.default_rng(seed)
    grid = Grid((CROP, CROP), np.eye(3))
    start = rng.integers(CORNERS, np.array(plane.shape) - CROP - CORNERS)
    window = (
        np.stack(np.meshgrid(*(np.arange(CROP),) * 2, indexing="xy"), axis=-1).reshape(-1, 2).astype(float)
    )
    square = np.array([[0, 0], [CROP - 1, 0], [0, CROP - 1], [CROP - 1, CROP - 1]], dtype=float)
    truth = _draw_view(square, rng)
    back = truth.inverse()

    def crop(points: Points) -> NDArray[np.float32]:
        where = (points + start[::-1])[:, ::-1].T
        return np.asarray(
            map_coordinates(plane, where, order=3, mode="mirror").reshape(CROP, CROP), np.float32
        )

    fixed, moving = crop(window), crop(back.apply(window))
    if change is not None:
        fixed, moving = change(fixed, moving, rng)
    images = (Image(part[None], grid) for part in (fixed, moving))
    return Case(name, *images, (square, truth.apply(square)), 1.0)


def _draw_view(square: Points, rng: np.random.Generator) -> Homography:
    """Move the corners of a square; views so steep that no gate would believe them are drawn anew."""
    while True:
        truth = _fit_homography(square, square + rng.uniform(-CORNERS, CORNERS, square.shape))
        if preserves_orientation(find_matrix(truth), square):
            return truth


def _fit_homography(source: Points, target: Points) -> Homography:
    """Return the map through four pairs of points."""
    rows = []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y, -u], [0, 0, 0, x, y, 1, -v * x, -v * y, -v]]
    matrix = np.linalg.svd(np.array(rows))[2][-1].reshape(3, 3)
    return Homography(matrix / matrix[2, 2])


def _relight(fixed: NDArray[Any], moving: NDArray[Any], rng: np.random.Generator) -> tuple[Any, Any]:
    """Give the moving crop another curve of brightness, a slope of light, and a shadow across it."""
    low, high = moving.min(), moving.max()
    scaled = ((moving - low) / max(high - low, 1e-6)) ** rng.uniform(0.4, 2.5)
    rows, columns = np.indices(moving.shape) / (CROP - 1.0)
    angle = rng.uniform(0, 2 * np.pi)
    slope = 1 + 0.6 * (np.cos(angle) * (columns - 0.5) + np.sin(angle) * (rows - 0.5))
    shadow = np.where(np.cos(angle) * rows - np.sin(angle) * columns > rng.uniform(-0.2, 0.3), 0.5, 1.0)
    lit = scaled * slope * gaussian_filter(shadow, 2.0)
    return fixed, (low + (high - low) * lit).astype(np.float32)


def _smooth_out(fixed: NDArray[Any], moving: NDArray[Any], rng: np.random.Generator) -> tuple[Any, Any]:
    """Leave both crops their coarse shapes, and noise of 1 % of what is left."""
    both = (gaussian_filter(part, 4.0) for part in (fixed, moving))
    return tuple((part + rng.normal(0, 0.01 * np.ptp(part), part.shape)).astype(np.float32) for part in both)


def band_cases(count: int) -> Iterator[tuple[str, list[Case]]]:
    """Yield windows of red and of near infrared, shifted, and scaled too."""
    planes = _read_unseen_planes()
    for name, scales in (("shifted", (1.0, 1.0)), ("scaled", (0.9, 1.1))):
        yield name, [_band_pair(name, planes, scales, seed) for seed in range(count)]


def _band_pair(
    name: str, planes: Mapping[str, NDArray[Any]], scales: tuple[float, float], seed: int, side: int = 192
) -> Case:
    rng = np.random.default_rng(seed)
    row, column = (int(rng.integers(0, n - side)) for n in planes["B04"].shape)
    window = (slice(row, row + side), slice(column, column + side))
    grid = Grid((side, side), np.eye(3))
    fixed = Image(planes["B04"][window].astype(np.float32)[None], grid)
    truth = make_linear_truth(grid, rng.uniform(-20, 20, 2), 0.0, float(rng.uniform(*scales)))
    moving = move_linearly(Image(planes["B08"][window].astype(np.float32)[None], grid), truth)
    corners = np.array([[0, 0], [side - 1, 0], [0, side - 1], [side - 1, side - 1]], dtype=float)
    return Case(name, fixed, moving, (corners, truth.apply(corners)), 1.0)


def volume_field_cases(count: int) -> Iterator[tuple[str, list[Case]]]:
    """Yield brains warped a little and far, in their own contrast and in another."""
    atlas = _read_brain("mni2009c")
    t1, other = _read_contrasts()
    for size in (3.0, 25.0):
        yield f"{size:g} mm", [_warped(f"{size:g} mm", atlas, atlas, size, seed) for seed in range(count)]
        name = f"{size:g} mm, other contrast"
        yield name, [_warped(name, t1, other, size, seed) for seed in range(count)]


def _warped(name: str, fixed: Image, shown: Image, size: float, seed: int) -> Case:
    (motion,) = draw_motions(fixed.grid, [], [size], seed)
    moving = move_image(shown, motion.back, None, 0.02 * float(np.ptp(shown.channel)), seed)
    unit = float(np.prod(fixed.grid.spacing) ** (1 / fixed.grid.ndim))
    return Case(name, fixed, moving, draw_partners(fixed, motion.back, seed), unit)


def scene_field_cases(count: int) -> Iterator[tuple[str, list[Case]]]:
    """Yield windows of bands warped a little and far."""
    planes = _read_planes()
    for size in (2.0, 8.0):
        for band in ("B04", "B08"):
            name = f"{size:g} px, B04 to {band}"
            yield name, [_warped_window(name, planes, band, size, seed) for seed in range(count)]


def _warped_window(
    name: str, planes: Mapping[str, NDArray[Any]], band: str, size: float, seed: int, side: int = 384
) -> Case:
    rng = np.random.default_rng(seed)
    row, column = (int(rng.integers(0, n - side)) for n in planes["B04"].shape)
    window = (slice(row, row + side), slice(column, column + side))
    grid = Grid((side, side), np.eye(3))
    fixed, shown = (Image(planes[one][window].astype(np.float32)[None], grid) for one in ("B04", band))
    return _warped(name, fixed, shown, size, seed)


def rigid_cases(count: int) -> Iterator[tuple[str, list[Case]]]:
    """Yield brains turned by 40 degrees and moved by 30 mm, in their own contrast and in another."""
    t1, other = _read_contrasts()
    for name, fixed, shown in (("same contrast", t1, t1), ("other contrast", t1, other)):
        yield name, [_turned(name, fixed, shown, seed) for seed in range(count)]


def _turned(name: str, fixed: Image, shown: Image, seed: int) -> Case:
    pose = draw_affine(fixed.grid.center, seed, 40.0, 30.0, scale=0.0, shear=0.0)
    # Room for what is turned out of the fixed grid's box.
    wide = Grid(
        tuple(n + 20 for n in fixed.grid.shape),
        fixed.grid.affine @ _shifted_by(-10, fixed.grid.ndim),
        fixed.grid.crs,
    )
    padded = [
        Image(np.pad(part.channel, 10)[None], wide, *(np.pad(each, 10) for each in (part.mask, part.labels)))
        for part in (fixed, shown)
    ]
    moving = move_image(padded[1], Composite((pose,)), None, 0.02 * float(np.ptp(shown.channel)), seed)
    labels = resample_array(padded[1].labels, wide, wide, pose, "nearest")
    moving = Image(moving.data, moving.grid, moving.mask, labels)
    unit = float(np.prod(fixed.grid.spacing) ** (1 / 3))
    points = draw_partners(padded[0], pose, seed)
    return Case(name, padded[0], moving, points, unit, _mark(points, seed))


def _mark(points: tuple[Points, Points], seed: int) -> LandmarkPairs:
    """Return some points with partners as a rater would find them."""
    rng, names = np.random.default_rng(seed), tuple(str(number) for number in range(MARKED))
    fixed, moving = (
        Landmarks(names, part[:MARKED] + rng.normal(0, RATER_MM, (MARKED, part.shape[1]))) for part in points
    )
    return LandmarkPairs(fixed, moving)


def _shifted_by(samples: int, ndim: int) -> NDArray[np.float64]:
    matrix = np.eye(ndim + 1)
    matrix[:ndim, ndim] = samples
    return matrix


def _read_brain(name: str) -> Image:
    image = coarsen_image(load_volume(name), SPACING_MM)
    return Image(image.data.astype(np.float32), image.grid, image.channel > 0.02 * image.channel.max())


def _read_contrasts() -> tuple[Image, Image]:
    """Return a brain, and the same with a T2-like contrast."""
    t1 = load_volume("icbm2009a")
    gray, white = (load_volume(f"icbm2009a-{tissue}").channel / np.float32(255) for tissue in ("gm", "wm"))
    coarse = [coarsen_image(image, SPACING_MM) for image in (t1, simulate_t2(t1, gray, white))]
    mask = coarse[0].channel > 0.02 * coarse[0].channel.max()
    labels = _label_tissues(coarse[0].grid, t1.grid, gray, white)
    fixed, other = (Image(image.data.astype(np.float32), image.grid, mask, labels) for image in coarse)
    return fixed, other


def _label_tissues(
    coarse: Grid, fine: Grid, gray: NDArray[np.float32], white: NDArray[np.float32]
) -> NDArray[np.int16]:
    """Return labels 1 and 2 of gray and white matter on one side, 3 and 4 on the other."""
    shares = [resample_aligned(part, fine, coarse) for part in (gray, white)]
    tissue = np.where(np.maximum(*shares) > 0.3, 1 + (shares[1] > shares[0]), 0)
    side = np.arange(coarse.shape[-1]) >= coarse.shape[-1] // 2
    return np.asarray(np.where(tissue > 0, tissue + 2 * side, 0), np.int16)


def _read_planes() -> dict[str, NDArray[Any]]:
    """Return the cloudless part of real bands."""
    planes, _ = read_bands({name: realdata.require_source(f"sentinel2-{name.lower()}") for name in BANDS})
    return {name: plane[:, :CLEAR_COLUMNS] for name, plane in planes.items()}


def _read_unseen_planes() -> dict[str, NDArray[Any]]:
    """Return their lower rows, from which no network of a single method has learned."""
    return {name: plane[count_learned_rows(len(plane)) :] for name, plane in _read_planes().items()}


PARTS: dict[str, tuple[Callable[[int], Iterator[tuple[str, list[Case]]]], str, str, str]] = {
    "linear": (linear_cases, "initialize", "rasters", "homography"),
    "bands": (band_cases, "initialize", "rasters", "similarity"),
    "fields": (volume_field_cases, "refine", "volumes", ""),
    "scene-fields": (scene_field_cases, "refine", "rasters", ""),
    "rigid": (rigid_cases, "initialize", "volumes", "rigid"),
}
"""What each question is asked of: its cases, stage, kind, and the map that linear methods are to seek."""

if __name__ == "__main__":
    main()
