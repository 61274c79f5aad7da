"""The pairs of known truth of a comparison: from a pair's images and what the default ladder made of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.extent import measure_ball_diameter
from regflow.core.files import write_whole_directory
from regflow.core.image import Image
from regflow.datasets.known_pairs import (
    choose_window,
    crop_image,
    draw_motions,
    draw_partners,
    fit_contrast,
    measure_noise,
    move_image,
    write_known_pair,
)
from regflow.pipeline.comparison import OWN, PAIRS, ComparedPair, ComparisonSettings
from regflow.pipeline.pair_options import make_scene_pair
from regflow.pipeline.trial import PARTS

MOVED, WARPED = (0.03, 0.12), (0.03, 0.08)
"""Default sizes of the motions of volumes, of the object's diameter: 5, 20, 5 and 13 mm of a brain's."""
MOVED_PX, WARPED_PX = (3.0, 30.0), (2.0, 6.0)
"""Those of scenes, in pixels."""


@dataclass(frozen=True, eq=False)
class ShownImage:
    """A fixed image and what the moving one shows of it.

    Attributes:
        image: one channel, float32, its mask the foreground; of a scene a window of it.
        contrast: intensities of it and of the moving image there; None where that is not known.
        noise: of the moving image.
    """

    image: Image
    contrast: tuple[NDArray[np.float32], NDArray[np.float32]] | None
    noise: float


def make_known_pairs(
    how: ComparisonSettings,
    shown: ShownImage,
    sizes: Mapping[str, Sequence[float] | None],
    seed: int,
) -> list[ComparedPair]:
    """Write the pairs of known truth of a comparison.

    Args:
        how: the comparison.
        shown: the fixed image, with contrast and noise of the moving one.
        sizes: ``moved`` and ``warped``: how far, mm or pixels; None for parts of the object's size.
        seed: of directions, deformations and noise.

    Returns:
        The pairs, one for each size.
    """
    fixed, grid = shown.image, shown.image.grid
    if grid.ndim == 3:
        size = measure_ball_diameter(fixed.mask, grid)
        usual = {"moved": [_rounded(part * size) for part in MOVED]}
        usual["warped"] = [_rounded(part * size) for part in WARPED]
    else:
        usual = {"moved": list(MOVED_PX), "warped": list(WARPED_PX)}
    chosen = {name: list(given) if (given := sizes[name]) is not None else usual[name] for name in usual}
    pairs = []
    for number, motion in enumerate(draw_motions(grid, chosen["moved"], chosen["warped"], seed)):
        moving = move_image(fixed, motion.back, shown.contrast, shown.noise, seed + number)
        points = draw_partners(fixed, motion.back, seed)
        folder = how.folder / PAIRS / motion.name.replace(" ", "-")
        with write_whole_directory(folder) as part:
            write_known_pair(part, fixed, moving, points)
        names = ("fixed.nii.gz", "moving.nii.gz") if grid.ndim == 3 else ("fixed.tif", "moving.tif")
        files = [str(folder / name) for name in (*names, "truth.npz")]
        pairs.append(ComparedPair(motion.name, motion.kind, files[0], files[1], {}, files[2]))
    return pairs


def make_own_pair(fixed: str, moving: str, given: Mapping[str, Any]) -> ComparedPair:
    """Return the user's pair, with what is said of it."""
    known = {
        name: value for name, value in given.items() if name in PARTS and value not in (None, (), [], {})
    }
    return ComparedPair(OWN, "own", fixed, moving, known)


def _rounded(length: float) -> float:
    """Return a length with one digit that counts."""
    return float(f"{length:.1g}")


def read_fixed_image(kind: str, own: ComparedPair, warped: Path | None) -> ShownImage:
    """Return the fixed image with its foreground, and the moving one's contrast and noise.

    Args:
        kind: ``volumes`` or ``rasters``.
        own: the user's pair.
        warped: the moving image on the fixed one, by the default ladder; None leaves the contrast unknown.
    """
    fixed, other = _READERS[kind](own, warped)
    inside = np.ones(fixed.grid.shape, bool) if fixed.mask is None else fixed.mask
    if other is None:
        return ShownImage(fixed, None, measure_noise(fixed.channel, inside))
    both = inside if other.mask is None else inside & other.mask
    contrast = fit_contrast(fixed.channel, other.channel, both)
    return ShownImage(fixed, contrast, measure_noise(other.channel, both))


def _read_volumes(own: ComparedPair, warped: Path | None) -> tuple[Image, Image | None]:
    from regflow.io.volumes import read_labels, read_volume
    from regflow.methods.context import RunContext
    from regflow.methods.preprocess.masks import foreground

    image = read_volume(own.fixed)
    image = image.with_data(image.data[:1].astype(np.float32))
    if mask := own.given.get("fixed_mask"):
        image = image.with_mask(np.asarray(read_labels(mask)[0]) > 0)
    else:
        no_options = {"threshold": None, "closing_mm": None, "opening_mm": None}
        image = foreground(image, None, no_options, RunContext())
    if warped is None:
        return image, None
    other = read_volume(warped)
    return image, replace(other, data=other.data[:1].astype(np.float32))


def _read_scenes(own: ComparedPair, warped: Path | None) -> tuple[Image, Image | None]:
    """Return a window of the fixed scene, and what the moving one shows there."""
    from regflow.core.blocks import load_block
    from regflow.io.rasters import read_raster_header
    from regflow.io.scenes import open_view
    from regflow.stages.rasters.views import describe_working_view

    sample = make_scene_pair(own.fixed, own.moving, dict.fromkeys(PARTS) | dict(own.given))
    scene = sample.fixed.scene
    whole = load_block(open_view(describe_working_view(scene, read_raster_header(scene.image))))
    seen = np.ones(whole.grid.shape, bool) if whole.mask is None else whole.mask
    fixed = crop_image(whole, choose_window(seen))
    if warped is None:
        return fixed, None
    product = replace(sample.scene, image=str(warped), mask=None, nodata="file", scaling=())
    shown = load_block(open_view(describe_working_view(product, read_raster_header(warped))))
    index = np.rint(shown.grid.to_index(fixed.grid.to_world(_all_indices(fixed.grid.shape)))).astype(int)
    inside = ((index >= 0) & (index < np.array(shown.grid.size))).all(axis=1)
    values, mask = np.zeros(len(index), np.float32), np.zeros(len(index), bool)
    columns, rows = index[inside].T
    values[inside] = shown.channel[rows, columns]
    mask[inside] = True if shown.mask is None else shown.mask[rows, columns]
    shape = fixed.grid.shape
    return fixed, Image(values.reshape(1, *shape), fixed.grid, mask.reshape(shape))


def _all_indices(shape: Sequence[int]) -> NDArray[np.float64]:
    rows, columns = np.indices(shape)
    return np.stack([columns.ravel(), rows.ravel()], axis=1).astype(float)


_READERS = {"volumes": _read_volumes, "rasters": _read_scenes}
