"""Tiles of known places, cut from a picture: errors of the stage, uneven light, noise."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regflow.core.grid import Grid
from regflow.io.raster_files import write_raster

MARGIN = 4


@dataclass(frozen=True, eq=False)
class CutTiles:
    """Tiles on disk.

    Attributes:
        names: of the files.
        true: ``(N, 2)`` positions ``(x, y)`` of their first pixels.
        stated: ``(N, 2)`` positions as the stage has them.
        empty: ``(N,)`` which hold nothing but background.
    """

    names: list[str]
    true: NDArray[np.float64]
    stated: NDArray[np.float64]
    empty: NDArray[np.bool_]


def cut_tiles(
    folder: Path,
    picture: NDArray[np.float32],
    *,
    side: int,
    overlap: float,
    stage_px: float = 4.0,
    noise: float = 0.0,
    falloff: float = 0.0,
    empty: float = 0.0,
    fractions: bool = True,
    seed: int = 0,
) -> CutTiles:
    """Cut tiles ``r001_c002.tif`` from a picture.

    Args:
        folder: for the tiles.
        picture: ``(rows, columns)``.
        side: of a tile in pixels.
        overlap: of neighbors as a part of a tile.
        stage_px: standard deviation of the stage's error.
        noise: of the samples.
        falloff: how much darker corners are than the middle.
        empty: part of the tiles that hold background alone.
        fractions: whether tiles lie between pixels.
        seed: of all that is random.
    """
    from scipy.ndimage import shift

    rng = np.random.default_rng(seed)
    step = side * (1 - overlap)
    edge = MARGIN + 4 * stage_px
    counts = [int((size - 2 * edge - side) // step) + 1 for size in picture.shape]
    place = np.linspace(-1, 1, side)
    light = 1 - falloff * (place[:, None] ** 2 + place[None] ** 2) / 2
    background = float(np.percentile(picture, 5))
    names, true, stated, blank = [], [], [], []
    folder.mkdir(parents=True, exist_ok=True)
    for row in range(counts[0]):
        for column in range(counts[1]):
            wanted = edge + step * np.array([column, row])
            lies = wanted + np.clip(rng.normal(0, stage_px, 2), -3.5 * stage_px, 3.5 * stage_px)
            lies = lies if fractions else np.rint(lies)
            whole = np.floor(lies).astype(int)
            window = [slice(start - MARGIN, start + side + MARGIN) for start in whole[::-1]]
            values = picture[window[0], window[1]]
            if fractions:
                values = shift(values, -(lies - whole)[::-1], order=5, mode="nearest")
            samples = values[MARGIN:-MARGIN, MARGIN:-MARGIN].astype(np.float64)
            is_empty = rng.uniform() < empty
            samples = np.full_like(samples, background) if is_empty else samples
            samples = samples * light + rng.normal(0, noise, samples.shape)
            name = f"r{row:03d}_c{column:03d}.tif"
            stored = np.clip(np.rint(samples), 0, 65535).astype(np.uint16)
            write_raster(folder / name, stored[None], Grid(stored.shape, np.eye(3)))
            names.append(name)
            true.append(lies)
            stated.append(wanted)
            blank.append(is_empty)
    return CutTiles(names, np.array(true), np.array(stated), np.array(blank))


def write_stage_table(path: Path, tiles: CutTiles) -> None:
    """Write the stage's positions as CSV."""
    rows = zip(tiles.names, tiles.stated.tolist(), strict=True)
    lines = ["tile,x,y", *(f"{name},{x},{y}" for name, (x, y) in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure_position_error(
    tiles: CutTiles, found: dict[str, tuple[float, float]], kept: NDArray[np.bool_]
) -> float:
    """Return the root mean square error of positions in pixels, but for a common shift."""
    difference = np.array([found[name] for name in tiles.names])[kept] - tiles.true[kept]
    return float(np.sqrt(np.mean((difference - difference.mean(axis=0)) ** 2)))
