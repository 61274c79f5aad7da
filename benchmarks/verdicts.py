"""How far verdicts can be trusted: results known to be good or bad, and what regflow says of each.

Good results come from the whole chain (initialize, refine, assess) on images moved by a known map: a
result is good when it lies within `GOOD` of the truth, bad when it is farther than `BAD`, and is not
counted in between. Each right result is then spoiled in every way of `SPOILERS`, and what comes of that
is judged by the same gates and the same assessment, as if methods had found it. No truth is shown to
the gates.

A bad result that passes is silent; a good one that fails is a false alarm. Volumes are brains at 3 mm
(T1, and T2-like to T1), scenes are windows of Sentinel-2 bands and of bands made to look like other
sensors'.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import count, islice
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from benchmarks.common import arguments, print_table, save
from regflow.core.errors import RegistrationError
from regflow.core.gate import Verdict, find_worst_verdict
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.resample import coarsen_image
from regflow.core.transform import Affine, Composite, DisplacementField, Transform
from regflow.datasets import packaged as realdata
from regflow.datasets import subjects as synthetic
from regflow.datasets.modalities import MODALITIES, make_linear_truth, read_bands
from regflow.datasets.scenes import draw_waves, move_scene
from regflow.datasets.volumes import load_volume
from regflow.methods.result import MethodResult

SPACING_MM = 3.0
"""Of the volumes: what an overview of a head has."""
SIDE_PX = 384
"""Of the scenes' windows."""
CLOUDLESS_COLUMNS = 1000
"""Of the Sentinel-2 scene, from the left."""
GOOD = {"volumes": (1.5, 4.0), "rasters": (0.6, 2.0)}
"""Largest mean and 95th percentile of the error of a good result: mm, pixels."""
BAD = {"volumes": (4.0, 8.0), "rasters": (2.0, 4.0)}
"""A result whose mean or 95th percentile is above these is bad."""
MOST_FALSE_ALARMS = 0.02
POINTS = 4000
COLUMNS = ["kind", "result", "counted", "pass", "warn", "fail", "wrongly_judged", "percent"]


@dataclass(frozen=True, eq=False)
class Case:
    """Two images and the map that brings them together.

    Attributes:
        name: what is shown in them.
        fixed: the fixed image, with its mask.
        moving: the moving image, with its mask.
        truth: fixed to moving world points.
        seed: of what is drawn for it.
    """

    name: str
    fixed: Image
    moving: Image
    truth: Transform
    seed: int


@dataclass(frozen=True, eq=False)
class Result:
    """What came of a case.

    Attributes:
        kind: ``volumes`` or ``rasters``.
        made: how: ``chain``, or what spoiled it.
        case: the case's name.
        errors: distances to the truth: mm, pixels; infinite without a transform.
        verdict: of the whole.
        initial: fixed to moving, after initialization.
        final: fixed to moving, the result.
    """

    kind: str
    made: str
    case: str
    errors: NDArray[np.float64]
    verdict: Verdict
    initial: Transform | None = None
    final: Transform | None = None

    @property
    def good(self) -> bool | None:
        """Whether the result is good or bad; None in between."""
        found = float(self.errors.mean()), float(np.percentile(self.errors, 95))
        if all(value <= most for value, most in zip(found, GOOD[self.kind], strict=True)):
            return True
        return (
            False if any(value > least for value, least in zip(found, BAD[self.kind], strict=True)) else None
        )


Spoiler = Callable[[Case, Transform, Transform, np.random.Generator], tuple[Transform, Transform]]
"""From a case, its initial and its final transform to wrong ones."""


def main() -> None:
    """Print a table per kind; end with 1 when a bad result passed or too many good ones failed."""
    options = _options()
    rows: list[dict[str, Any]] = []
    told: list[str] = []
    with ProcessPoolExecutor(len(options.kinds), mp_context=get_context("spawn")) as pool:
        for found, lines in pool.map(_rows_of_kind, options.kinds, [options] * len(options.kinds)):
            rows += found
            told += lines
            print_table(rows, COLUMNS)
            save("verdicts", {"rows": rows, "wrongly_judged": told}, options.threads)
    if any(row["over"] for row in rows):
        raise SystemExit(1)


def _rows_of_kind(kind: str, options: argparse.Namespace) -> tuple[list[dict[str, Any]], list[str]]:
    """Return a kind's rows, and a line on each result that was judged wrongly, printed as it comes."""
    results, told = [], []
    for result in _results(kind, options):
        results.append(result)
        if _wrongly_judged(result):
            told.append(_told(result))
            print(told[-1], flush=True)
    return list(_rows(kind, results)), told


def _results(kind: str, options: argparse.Namespace) -> Iterator[Result]:
    """Yield results until as many good and bad ones as asked for are counted."""
    wanted = {True: options.good, False: options.bad}
    spoilers = SPOILERS[kind]
    threads = max(1, options.threads // len(options.kinds))
    for case in CASES[kind]():
        right = _chain(kind, case, threads)
        yield right
        wanted = _counted(wanted, right)
        if right.good:
            rng = np.random.default_rng(case.seed)
            each = max(1, -(-options.bad // options.good))
            for name in islice(_cycle(list(spoilers), case.seed * each), each):
                spoiled = _spoiled(kind, name, case, right, rng, threads)
                yield spoiled
                wanted = _counted(wanted, spoiled)
        if all(left <= 0 for left in wanted.values()):
            return


def _cycle(names: Sequence[str], first: int) -> Iterator[str]:
    return (names[number % len(names)] for number in count(first))


def _counted(wanted: dict[bool, int], found: Result) -> dict[bool, int]:
    return wanted if found.good is None else {**wanted, found.good: wanted[found.good] - 1}


def _rows(kind: str, results: Sequence[Result]) -> Iterator[dict[str, Any]]:
    makers = sorted({each.made for each in results})
    parts: list[tuple[str, bool, list[Result]]] = [
        ("good", True, [each for each in results if each.good is True]),
        ("bad", False, [each for each in results if each.good is False]),
    ]
    parts += [
        (f"bad: {made}", False, [each for each in results if each.good is False and each.made == made])
        for made in makers
    ]
    for name, good, some in parts:
        wrong = sum(map(_wrongly_judged, some))
        share = wrong / len(some) if some else 0.0
        yield {
            "kind": kind,
            "result": name,
            "counted": len(some),
            **{
                status: sum(each.verdict.status == status for each in some)
                for status in ("pass", "warn", "fail")
            },
            "wrongly_judged": wrong,
            "percent": 100 * share,
            "over": share > MOST_FALSE_ALARMS if good else wrong > 0,
        }


def _wrongly_judged(result: Result) -> bool:
    """Tell a silent pass, or a false alarm."""
    return result.verdict.status == {True: "fail", False: "pass", None: ""}[result.good]


def _told(result: Result) -> str:
    return (
        f"{result.kind}, {result.case}, {result.made}: mean error {result.errors.mean():.2f}, "
        f"{result.verdict.status}: {result.verdict.reason}"
    )


def _chain(kind: str, case: Case, threads: int) -> Result:
    """Register a case as a sample of a study would be."""
    try:
        initial, final, verdict = {"volumes": _register_volumes, "rasters": _register_scenes}[kind](
            case, threads
        )
    except RegistrationError as error:
        return Result(kind, "chain", case.name, np.array([np.inf]), Verdict("fail", str(error)))
    return Result(kind, "chain", case.name, _errors(kind, case, final), verdict, initial, final)


def _spoiled(
    kind: str, name: str, case: Case, right: Result, rng: np.random.Generator, threads: int
) -> Result:
    """Judge what is left of a right result when it was spoiled."""
    assert right.initial is not None
    assert right.final is not None
    initial, final = SPOILERS[kind][name](case, right.initial, right.final, rng)
    judge = {"volumes": _judge_volumes, "rasters": _judge_scenes}[kind]
    try:
        verdict = judge(case, initial, final, threads)
    except RegistrationError as error:
        verdict = Verdict("fail", str(error))
    return Result(kind, name, case.name, _errors(kind, case, final), verdict)


def _errors(kind: str, case: Case, found: Transform) -> NDArray[np.float64]:
    """Return distances to the truth inside the fixed mask: mm, fixed pixels."""
    mask = case.fixed.mask
    assert mask is not None
    inside = np.argwhere(mask)
    points = case.fixed.grid.to_world(inside[:: max(1, len(inside) // POINTS), ::-1])
    unit = 1.0 if kind == "volumes" else float(case.fixed.grid.spacing.max())
    return np.asarray(np.linalg.norm(found.apply(points) - case.truth.apply(points), axis=1) / unit)


def _register_volumes(case: Case, threads: int) -> tuple[Transform, Transform, Verdict]:
    from regflow.config.loading import load_defaults
    from regflow.stages.volumes.assess import RegisteredVolumes, assess_pair
    from regflow.stages.volumes.initialize import align_volumes
    from regflow.stages.volumes.refine import deform_volumes

    settings = load_defaults()
    start = align_volumes(case.fixed, case.moving, settings["initialize"], threads=threads)
    refined = deform_volumes(case.fixed, case.moving, start.transform, settings["refine"], threads=threads)
    earlier = {"initialize": start.verdict, "refine": refined.ladder.verdict}
    pair = RegisteredVolumes(
        case.fixed, case.moving, start.transform, refined.forward, refined.inverse, earlier=earlier
    )
    return start.transform, refined.forward, assess_pair(pair, settings["assess"], threads=threads).verdict


def _judge_volumes(case: Case, initial: Transform, final: Transform, threads: int) -> Verdict:
    from regflow.config.loading import load_defaults
    from regflow.stages.volumes import initialize, refine
    from regflow.stages.volumes.assess import RegisteredVolumes, assess_pair

    start = Affine.identity(3)
    begun, _ = initialize.VolumeStartEvaluator(case.fixed, case.moving, start, {}, threads)(
        MethodResult(initial)
    )
    doubted = begun.status != "pass"
    bent, _ = refine.VolumeRefinementEvaluator(case.fixed, case.moving, initial, {}, doubted=doubted)(
        MethodResult(final)
    )
    if find_worst_verdict([begun, bent]).status == "fail":
        return find_worst_verdict([begun, bent])
    earlier = {"initialize": begun, "refine": bent}
    pair = RegisteredVolumes(case.fixed, case.moving, initial, final, final.inverse(), earlier=earlier)
    return assess_pair(pair, load_defaults()["assess"], threads=threads).verdict


def _register_scenes(case: Case, threads: int) -> tuple[Transform, Transform, Verdict]:
    from regflow.config.loading import load_defaults
    from regflow.stages.rasters.assess import RegisteredScenes, assess_scene
    from regflow.stages.rasters.initialize import align_scenes
    from regflow.stages.rasters.refine import refine_scene

    settings = load_defaults("rasters")
    start = align_scenes(case.fixed, case.moving, settings["initialize"], threads=threads)
    refined = refine_scene(case.fixed, case.moving, start.transform, settings["refine"], threads=threads)
    earlier = {"initialize": start.verdict, "refine": refined.ladder.verdict}
    pair = RegisteredScenes(case.fixed, case.moving, start.transform, refined.transform, earlier=earlier)
    verdict = assess_scene(pair, settings["assess"], threads=threads).verdict
    return start.transform, refined.transform, verdict


def _judge_scenes(case: Case, initial: Transform, final: Transform, threads: int) -> Verdict:
    from regflow.config.loading import load_defaults
    from regflow.stages.rasters import initialize, refine
    from regflow.stages.rasters.assess import RegisteredScenes, assess_scene

    begun, _ = initialize.SceneStartEvaluator(case.fixed, case.moving, Affine.identity(2), {})(
        MethodResult(initial)
    )
    bent, _ = refine.SceneRefinementEvaluator(case.fixed, case.moving, initial, {})(MethodResult(final))
    if find_worst_verdict([begun, bent]).status == "fail":
        return find_worst_verdict([begun, bent])
    pair = RegisteredScenes(
        case.fixed, case.moving, initial, final, earlier={"initialize": begun, "refine": bent}
    )
    return assess_scene(pair, load_defaults("rasters")["assess"], threads=threads).verdict


def _brains() -> Iterator[Case]:
    """Yield brains warped by up to 8 mm, turned by up to 30 degrees and moved by up to 40 mm."""
    t1 = _brain("mni2009c")
    t2 = _brain("icbm2009a")
    gray, white = (_tissue(name) for name in ("icbm2009a-gm", "icbm2009a-wm"))
    sources = {"T1 to T1": (t1, t1), "T2-like to T1": (t2, synthetic.simulate_t2(t2, gray, white))}
    for seed in count():
        name = list(sources)[seed % len(sources)]
        fixed, source = sources[name]
        rng = np.random.default_rng(seed)
        degrees, shift = rng.uniform(0, 30), rng.uniform(0, 40)
        pose = synthetic.draw_affine(fixed.grid.center, seed, float(degrees), float(shift))
        truth = synthetic.draw_truth(fixed.grid, seed, float(rng.uniform(2, 8)), affine=pose)
        grid = synthetic.make_subject_grid(fixed.grid, truth, SPACING_MM)
        yield Case(name, fixed, synthetic.make_subject(source, truth, grid, seed=seed), truth.forward, seed)


def _brain(name: str) -> Image:
    """Return a brain with nothing around it: a blurred background is not quite zero."""
    image = load_volume(name)
    data = image.channel.astype(np.float32)
    brain = coarsen_image(Image(data[None], image.grid, data > 0.02 * data.max(), modality="T1w"), SPACING_MM)
    return brain.with_data(np.where(brain.mask, brain.channel, 0))


def _tissue(name: str) -> NDArray[np.float32]:
    image = load_volume(name)
    scaled = image.with_data(image.channel / np.float32(255))
    return np.asarray(coarsen_image(scaled, SPACING_MM).channel, np.float32)


def _windows() -> Iterator[Case]:
    """Yield windows of bands, moved by up to 20 pixels and 4 degrees and bent by up to 2 pixels."""
    names = ("B03", "B04", "B08", "B11")
    planes, grid = read_bands({n: realdata.require_source(f"sentinel2-{n.lower()}") for n in names})
    plain = {f"{moving} to {fixed}": (fixed, moving) for fixed, moving in (("B04", "B08"), ("B03", "B04"))}
    pairs = [*plain, *MODALITIES]
    for seed in count():
        rng = np.random.default_rng(seed)
        name = pairs[seed % len(pairs)]
        row, column = rng.integers(0, (grid.shape[0] - SIDE_PX, CLOUDLESS_COLUMNS - SIDE_PX))
        cut = slice(row, row + SIDE_PX), slice(column, column + SIDE_PX)
        window = {band: plane[cut] for band, plane in planes.items()}
        place = Grid((SIDE_PX, SIDE_PX), grid.affine @ _shifted(column, row), grid.crs)
        if name in plain:
            fixed, values = (window[band] for band in plain[name])
        else:
            fixed, values = window[MODALITIES[name][0]], MODALITIES[name][1](window, rng)
        way = rng.uniform(0, 2 * np.pi)
        shift = rng.uniform(0, 20) * np.array([np.cos(way), np.sin(way)])
        linear = make_linear_truth(place, shift, rng.uniform(-4, 4), rng.uniform(0.97, 1.03))
        waves = draw_waves(place, float(rng.uniform(0.2, 2.0)), SIDE_PX / 2, seed)
        truth = Composite((waves, linear))
        moved = move_scene(values, place, truth, place, noise=0.02 * float(np.std(values)), seed=seed)
        seen = np.isfinite(moved)
        moving = Image(np.where(seen, moved, 0)[None].astype(np.float32), place, seen)
        yield Case(name, Image(fixed[None], place, np.ones(place.shape, bool)), moving, truth, seed)


def _shifted(column: int, row: int) -> NDArray[np.float64]:
    return np.array([[1.0, 0.0, column], [0.0, 1.0, row], [0.0, 0.0, 1.0]])


def _turned_brain(
    case: Case, initial: Transform, final: Transform, rng: np.random.Generator
) -> tuple[Transform, Transform]:
    axis = rng.normal(size=3)
    turn = Rotation.from_rotvec(axis / np.linalg.norm(axis) * np.deg2rad(rng.uniform(8, 180)))
    return _before(Affine.from_parts(turn.as_matrix(), np.zeros(3), _middle(case.fixed)), initial, final)


def _shifted_image(
    case: Case, initial: Transform, final: Transform, rng: np.random.Generator
) -> tuple[Transform, Transform]:
    """Move a result by a part of what the fixed image shows: 5 to 40 percent, at least 3 pixels."""
    ndim = case.fixed.grid.ndim
    way = rng.normal(size=ndim)
    extent = float((np.array(case.fixed.grid.size) * case.fixed.grid.spacing).mean())
    shift = way / np.linalg.norm(way) * rng.uniform(0.05, 0.4) * extent
    return _before(Affine.from_parts(np.eye(ndim), shift, np.zeros(ndim)), initial, final)


def _scaled_image(
    case: Case, initial: Transform, final: Transform, rng: np.random.Generator
) -> tuple[Transform, Transform]:
    ndim = case.fixed.grid.ndim
    factor = rng.uniform(1.15, 1.5) ** rng.choice([-1, 1])
    return _before(
        Affine.from_parts(factor * np.eye(ndim), np.zeros(ndim), _middle(case.fixed)), initial, final
    )


def _mirrored_image(
    case: Case, initial: Transform, final: Transform, rng: np.random.Generator
) -> tuple[Transform, Transform]:
    ndim = case.fixed.grid.ndim
    flip = np.diag([-1.0, *[1.0] * (ndim - 1)])
    return _before(Affine.from_parts(flip, np.zeros(ndim), _middle(case.fixed)), initial, final)


def _turned_scene(
    case: Case, initial: Transform, final: Transform, rng: np.random.Generator
) -> tuple[Transform, Transform]:
    turn = make_linear_truth(case.fixed.grid, (0, 0), rng.uniform(3, 20) * rng.choice([-1, 1]))
    return _before(turn, initial, final)


def _bent_brain(
    case: Case, initial: Transform, final: Transform, rng: np.random.Generator
) -> tuple[Transform, Transform]:
    """Bend the final result alone, smoothly and without folds."""
    warp, _ = synthetic.draw_warp(case.fixed.grid, rng.uniform(14, 20), 18.0, int(rng.integers(1 << 30)))
    return initial, Composite((warp, initial))


def _bent_scene(
    case: Case, initial: Transform, final: Transform, rng: np.random.Generator
) -> tuple[Transform, Transform]:
    grid = case.fixed.grid
    waves = _waves(grid, rng.uniform(5, 8), int(rng.integers(1 << 30)))
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.size)), axis=-1).reshape(-1, 2)
    points = grid.to_world(index)
    vectors = (waves.apply(points) - points).T.reshape(2, *grid.shape).astype(np.float32)
    return initial, Composite((DisplacementField(vectors, grid), initial))


def _waves(grid: Grid, amplitude: float, seed: int) -> Transform:
    """Draw a field; again where it is too steep to be inverted."""
    while True:
        try:
            return draw_waves(grid, amplitude, SIDE_PX / 4, seed)
        except ValueError:
            seed += 1


def _before(wrong: Affine, initial: Transform, final: Transform) -> tuple[Transform, Transform]:
    """Put an error before both transforms; a linear one stays one affine map."""
    first = (
        Affine(initial.matrix @ wrong.matrix) if isinstance(initial, Affine) else Composite((wrong, initial))
    )
    return first, Composite((wrong, final))


def _middle(image: Image) -> NDArray[np.float64]:
    assert image.mask is not None
    return np.asarray(image.grid.to_world(np.argwhere(image.mask).mean(axis=0)[::-1]))


SPOILERS: dict[str, dict[str, Spoiler]] = {
    "volumes": {
        "turned": _turned_brain,
        "shifted": _shifted_image,
        "scaled": _scaled_image,
        "mirrored": _mirrored_image,
        "bent": _bent_brain,
    },
    "rasters": {
        "turned": _turned_scene,
        "shifted": _shifted_image,
        "scaled": _scaled_image,
        "mirrored": _mirrored_image,
        "bent": _bent_scene,
    },
}
CASES: dict[str, Callable[[], Iterator[Case]]] = {"volumes": _brains, "rasters": _windows}


def _options() -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--kinds", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--good", type=int, default=250, help="good results of each kind")
    parser.add_argument("--bad", type=int, default=250, help="bad results of each kind")
    return parser.parse_args()


if __name__ == "__main__":
    main()
