"""How sure a start is: right and wrong maps of generated pairs, and the probability that fits them.

Windows of Sentinel-2 bands, plain and made to look like other sensors', and slices of a head in the looks of
T1, T2, CT and PET are moved by known similarities. What the judge of maps
(:mod:`regflow.methods.initialize.agreement`) says of right maps is that of the truth moved by up to 2
pixels, and of what climbs of mutual information find. Wrong maps are the best that they find from 6 to 30
pixels beside the truth and between pictures of different places or heights: each was sought out for its
agreement, as the wrong maps that a gate meets have.

Printed are the coefficients of a logistic regression (ridge penalty 1), and how often maps of each
probability are right. The coefficients stand in that module.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize

from benchmarks.common import arguments, print_table, save
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine
from regflow.datasets import packaged as realdata
from regflow.datasets.modalities import MODALITIES, make_linear_truth, move_linearly, read_bands
from regflow.datasets.volumes import load_volume
from regflow.methods.initialize import METHODS
from regflow.methods.initialize.agreement import Agreement, AgreementJudge
from regflow.methods.initialize.hypotheses import HypothesisSearch
from regflow.methods.initialize.information_search import find_information_poses
from regflow.methods.initialize.planar import Matrix, masked_image
from regflow.methods.table import list_methods_of_kind

SIDE_PX = 288
CLOUDLESS_COLUMNS = 1000
RIGHT_PX, WRONG_PX = 3.0, 5.0
"""Mean errors up to which a map is right, and from which it is wrong."""
METHOD = "hypotheses"
CLIMBED = 6
"""Poses that are climbed from."""
LOOKS = ("t2", "ct", "pet")


@dataclass(frozen=True, eq=False)
class Case:
    """Two pictures, the map between them where they show one thing, and what they are.

    Attributes:
        name: of the looks.
        fixed: a picture.
        moving: a picture of the same thing.
        other: a picture of another thing in the same look.
        truth: from fixed to moving points.
    """

    name: str
    fixed: Image
    moving: Image
    other: Image
    truth: Affine


def main() -> None:
    """Print the coefficients and the table of probabilities."""
    options = _options()
    rows = []
    for case, rng in _list_cases(options.cases):
        rows += _judge(case, rng)
        for row in rows[-3:]:
            print(row, flush=True)
    table = np.array([[row["edges"], row["information"], row["right"]] for row in rows])
    coefficients = fit_logistic(describe(table[:, :2]), table[:, 2])
    chance = 1 / (1 + np.exp(-(np.c_[np.ones(len(rows)), describe(table[:, :2])] @ coefficients)))
    print("coefficients", coefficients.round(3).tolist())
    bins = np.digitize(chance, [0.02, 0.1, 0.5, 0.9, 0.98])
    told = [
        {
            "probability": f"{chance[bins == k].min():.3f} to {chance[bins == k].max():.3f}",
            "maps": int((bins == k).sum()),
            "right_percent": float(100 * table[bins == k, 2].mean()),
        }
        for k in range(6)
        if (bins == k).any()
    ]
    print_table(told, ["probability", "maps", "right_percent"])
    save("start_confidence", {"coefficients": coefficients.tolist(), "table": told, "rows": rows}, 1)


def describe(sigmas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what the regression sees of the judge's figures ``(N, 2)``."""
    return np.asarray(np.log1p(np.maximum(sigmas, 0)))


def fit_logistic(features: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return intercept and coefficients; both classes weigh alike, and a ridge penalty of 1 holds."""
    design = np.c_[np.ones(len(features)), features]
    weights = np.where(right > 0, 0.5 / right.mean(), 0.5 / (1 - right.mean()))

    def loss(coefficients: NDArray[np.float64]) -> float:
        sign = np.where(right > 0, -1.0, 1.0)
        return float(
            (weights * np.logaddexp(0, sign * (design @ coefficients))).sum()
            + 0.5 * (coefficients[1:] ** 2).sum()
        )

    return np.asarray(minimize(loss, np.zeros(design.shape[1])).x)


def _judge(case: Case, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Yield what is said of a right map, of those that are found, and of one between unlike things."""
    fixed, moving, other = (masked_image(image, "moving") for image in (case.fixed, case.moving, case.other))
    judge = AgreementJudge(fixed, moving)
    yield _row(case, "truth", judge(_beside(case, rng, 0, 2).matrix), right=True)
    for origin, image, start in (
        ("sought", moving, None),
        ("beside the truth", moving, _beside(case, rng, 6, 30).matrix),
        ("another thing", other, None),
    ):
        search = _search(fixed, image, start)
        error = _measure(case, Affine(search.best.matrix)) if image is moving else np.inf
        if not RIGHT_PX < error < WRONG_PX:
            yield _row(case, origin, search.judge(search.best.matrix), right=bool(error <= RIGHT_PX))


def _search(fixed: Image, moving: Image, start: Matrix | None) -> HypothesisSearch:
    """Climb from a map, or from the most promising ones by mutual information."""
    options = list_methods_of_kind(METHODS, "rasters")[METHOD].complete({})
    search = HypothesisSearch(fixed, moving, AgreementJudge(fixed, moving), options, 0)
    poses = [pose.matrix for pose in find_information_poses(fixed, moving, np.eye(3))[:CLIMBED]]
    search.add_map("start", np.eye(3))
    for matrix in poses if start is None else [start]:
        search.optimize_map(search.add_map("climb", matrix))
    return search


def _row(case: Case, origin: str, agreement: Agreement, *, right: bool) -> dict[str, Any]:
    figures = {"edges": agreement.edges, "information": agreement.information}
    return {"case": case.name, "origin": origin, **figures, "right": right}


def _beside(case: Case, rng: np.random.Generator, near: float, far: float) -> Affine:
    """Return the truth, moved by some pixels."""
    way = rng.uniform(0, 2 * np.pi)
    step = make_linear_truth(case.fixed.grid, rng.uniform(near, far) * np.array([np.cos(way), np.sin(way)]))
    return Affine(case.truth.matrix @ step.matrix)


def _measure(case: Case, found: Any) -> float:
    """Return the mean error in pixels over the picture's middle."""
    rows, columns = case.fixed.grid.shape
    x, y = np.meshgrid(np.linspace(0.25, 0.75, 7) * columns, np.linspace(0.25, 0.75, 7) * rows)
    points = np.stack([x.ravel(), y.ravel()], axis=-1)
    return float(np.linalg.norm(found.apply(points) - case.truth.apply(points), axis=1).mean())


def _list_cases(count: int) -> Iterator[tuple[Case, np.random.Generator]]:
    """Yield cases of both kinds in turn."""
    scenes, slices = _SceneCases(), _SliceCases()
    for seed in range(count):
        rng = np.random.default_rng(seed)
        yield (scenes, slices)[seed % 2](seed // 2, rng), rng


def _draw_truth(grid: Grid, rng: np.random.Generator) -> Affine:
    way, far = rng.uniform(0, 2 * np.pi), rng.uniform(0, 25)
    shift = far * np.array([np.cos(way), np.sin(way)])
    return make_linear_truth(grid, shift, rng.uniform(-8, 8), rng.uniform(0.93, 1.07))


def _picture(plane: NDArray[Any]) -> Image:
    values = np.asarray(plane, np.float32)
    return Image(values[None], Grid(values.shape, np.eye(3)), np.ones(values.shape, bool))


def _moved(picture: Image, truth: Affine) -> Image:
    """Return a picture moved, black where it has nothing."""
    moved = move_linearly(picture, truth)
    assert moved.mask is not None
    return _picture(np.where(moved.mask, moved.channel, 0))


class _SceneCases:
    """Windows of bands."""

    def __init__(self) -> None:
        names = ("B03", "B04", "B08", "B11")
        self._planes, self._grid = read_bands(
            {n: realdata.require_source(f"sentinel2-{n.lower()}") for n in names}
        )

    def __call__(self, number: int, rng: np.random.Generator) -> Case:
        name = list(MODALITIES)[number % len(MODALITIES)]
        band, make = MODALITIES[name]
        here, there = (self._window(rng) for _ in (0, 1))
        truth = _draw_truth(Grid((SIDE_PX, SIDE_PX), np.eye(3)), rng)
        moving, other = (_moved(_picture(make(part, rng)), truth) for part in (here, there))
        return Case(name, _picture(here[band]), moving, other, truth)

    def _window(self, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        row, column = rng.integers(0, (self._grid.shape[0] - SIDE_PX, CLOUDLESS_COLUMNS - SIDE_PX))
        cut = slice(row, row + SIDE_PX), slice(column, column + SIDE_PX)
        return {band: plane[cut] for band, plane in self._planes.items()}


class _SliceCases:
    """Axial slices of a brain in other looks."""

    def __init__(self) -> None:
        self._t1 = load_volume("icbm2009a").channel.astype(np.float32)
        self._gray, self._white = (
            load_volume(f"icbm2009a-{tissue}").channel.astype(np.float32) / 255 for tissue in ("gm", "wm")
        )

    def __call__(self, number: int, rng: np.random.Generator) -> Case:
        look = LOOKS[number % len(LOOKS)]
        middle = len(self._t1) // 2
        here, there = middle + rng.integers(-25, 0), middle + rng.integers(15, 40)
        planes = [self._paint(int(height), look, rng) for height in (here, there)]
        fixed = _picture(_framed(self._t1[int(here)], rng))
        truth = _draw_truth(fixed.grid, rng)
        moving, other = (_moved(_picture(plane), truth) for plane in planes)
        return Case(f"{look} to t1", fixed, moving, other, truth)

    def _paint(self, height: int, look: str, rng: np.random.Generator) -> NDArray[Any]:
        gray, white = self._gray[height], self._white[height]
        brain = self._t1[height] > 0
        fluid = np.where(brain, np.clip(1 - gray - white, 0, 1), 0)
        shares = {"t2": (1.0, 0.6, 0.35), "ct": (0.4, 0.62, 0.58), "pet": (0.1, 1.0, 0.3)}[look]
        painted = shares[0] * fluid + shares[1] * gray + shares[2] * white
        blur = {"t2": 0.6, "ct": 0.8, "pet": rng.uniform(2.0, 4.0)}[look]
        if look == "pet":
            painted = painted * (1 + 0.3 * gaussian_filter(rng.normal(size=painted.shape), 12) * 12)
        return _framed(gaussian_filter(painted, blur), rng)


def _framed(plane: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """Return a plane with a dark frame and noise."""
    values = np.pad(np.asarray(plane, np.float64), 24) / max(float(np.max(plane)), 1e-9)
    return np.maximum(values + rng.normal(0, 0.01, values.shape), 0) * 255


def _options() -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--cases", type=int, default=240, help="generated pairs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
