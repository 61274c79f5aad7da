"""The demo of groups of images: a template, a series and a mosaic from real images of known truth.

``regflow demo --groups`` makes the data in a folder, runs ``regflow template``, ``regflow series`` and
``regflow mosaic`` in it as anybody would, and says how far each ended from the truth.
"""

import csv
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from regflow.core.files import write_whole_directory
from regflow.datasets import packaged as realdata
from regflow.datasets.scenes import write_scene
from regflow.datasets.subjects import Truth, draw_affine, draw_truth, make_subject, make_subject_grid
from regflow.datasets.tiles import cut_tiles, write_stage_table
from regflow.examples.rasters import DAYS, displace_grid, find_series_folder, read_band
from regflow.examples.volumes import load_example
from regflow.io.raster_transforms import read_raster_transform
from regflow.io.rasters import read_raster_header
from regflow.io.text_files import write_tsv
from regflow.io.transforms import read_transform, write_transform
from regflow.io.volumes import read_volume, write_volume

TEMPLATE_MM = 4.0
"""Spacing of the brains."""
TEMPLATE_PAIRS = 3
"""Warps that are drawn; each gives a brain, and its inverse another, so that their mean is the atlas."""
DATES = (
    *("LT50350322008142PAC01", "LT50350322008206PAC01", "LT50350322009192PAC01", "LT50350322009240PAC02"),
    *("LT50350322010195EDC00", "LT50350322010259PAC02", "LT50350322011166PAC01", "LT50350322011246PAC01"),
)
"""Clear Landsat dates of one place."""
DATE_SHIFT_M = 60.0
"""Standard deviation of the dates' shifts east and north."""
TILE_PX = 192
TILE_OVERLAP = 0.12
SEED = 7


@dataclass(frozen=True)
class GroupDemo:
    """One job on a group of images.

    Attributes:
        make: writes the images and the truth into a folder.
        words: of the command after ``regflow NAME``, typed where the images lie in ``data/NAME``.
        measure: the error in a sentence, from the folders of the data and of the results.
    """

    make: Callable[[Path], None]
    words: Sequence[str]
    measure: Callable[[Path, Path], str]


def make_brains(folder: Path) -> None:
    """Write brains that known warps made of an atlas, and ``truth/NAME.h5`` from a brain's to its points."""
    atlas = load_example("mni2009c", TEMPLATE_MM)
    sheet = []
    (folder / "truth").mkdir()
    for seed in range(TEMPLATE_PAIRS):
        pose = draw_affine(atlas.grid.center, seed, 5.0, 5.0, 0.04, 0.02)
        drawn = draw_truth(atlas.grid, seed, 6.0, 18.0, pose)
        for way, truth in (("there", drawn), ("back", Truth(drawn.backward, drawn.forward))):
            grid = make_subject_grid(atlas.grid, truth, TEMPLATE_MM)
            brain = make_subject(atlas, truth, grid, seed=10 * seed + len(way))
            name = f"brain-{seed}-{way}"
            write_volume(folder / f"{name}.nii.gz", np.rint(brain.channel).astype(np.int16), brain.grid)
            write_transform(folder / "truth" / f"{name}.h5", truth.backward)
            sheet.append([name, _spell_path(folder, f"{name}.nii.gz")])
    write_tsv(folder / "brains.tsv", ["sample", "moving"], sheet)


def measure_template(data: Path, results: Path) -> str:
    """Say how far the mean of all brains' known maps, by the found ones, lies from the template."""
    mask = read_volume(results / "template_mask.nii.gz")
    points = mask.grid.to_world(np.argwhere(mask.channel > 0)[::5, ::-1])
    names = sorted(path.stem for path in (data / "truth").glob("*.h5"))
    ends = [_follow(points, results / "transforms", data / "truth", name) for name in names]
    apart = np.linalg.norm(np.mean(ends, axis=0) - points, axis=1)
    return f"{len(names)} brains, {apart.mean():.2f} mm from the atlas they were made of (mean)"


def _follow(points: NDArray[np.float64], found: Path, truth: Path, name: str) -> NDArray[np.float64]:
    steps = [read_transform(folder / f"{name}.h5") for folder in (found, truth)]
    for step in steps:
        points = step.apply(points)
    return points


def make_dates(folder: Path) -> None:
    """Write Landsat dates whose georeference is moved by known meters, their sheet, and ``truth.tsv``."""
    moves = np.random.default_rng(SEED).normal(0, DATE_SHIFT_M, (len(DATES), 2)).round(1)
    sheet, truth = [], []
    for scene, move in zip(DATES, moves.tolist(), strict=True):
        source = find_series_folder(scene)
        name = f"landsat-{scene[DAYS]}"
        near_infrared, grid = read_band(source / f"{scene}_b4.tif")
        fmask, _ = read_band(source / f"{scene}_fmask.tif")
        moved, _ = displace_grid(grid, (move[0], move[1]))
        write_scene(folder / f"{name}.tif", {"nir": near_infrared}, moved, nodata=-9999, dtype="int16")
        write_scene(folder / f"{name}_fmask.tif", {"fmask": fmask}, moved, dtype="uint8")
        day = np.datetime64(f"{scene[9:13]}-01-01") + int(scene[13:16]) - 1
        files = [_spell_path(folder, f"{name}{part}.tif") for part in ("", "_fmask")]
        sheet.append([name, *files, str(day)])
        truth.append([name, *move])
    write_tsv(folder / "dates.tsv", ["sample", "moving", "moving_mask", "date"], sheet)
    write_tsv(folder / "truth.tsv", ["sample", "east_m", "north_m"], truth)


def measure_series(data: Path, results: Path) -> str:
    """Say how far the dates' shifts spread about the known ones, which holds the archive's own offsets."""
    rows = _read_rows(data / "truth.tsv")
    header = read_raster_header(data / f"{rows[0]['sample']}.tif")
    assert header.grid is not None
    center = header.grid.center[None]
    left = []
    for row in rows:
        moved = read_raster_transform(results / "aligned" / row["sample"]).apply(center) - center
        left.append(moved[0] - [float(row["east_m"]), float(row["north_m"])])
    spread = np.linalg.norm(np.array(left) - np.mean(left, axis=0), axis=1)
    pixels = np.sqrt((spread**2).mean()) / header.grid.spacing.min()
    return f"{len(rows)} dates, {pixels:.2f} px from the known shifts (root mean square)"


def make_tiles(folder: Path) -> None:
    """Write tiles of a real band as a stage with errors would take them, its table and ``truth.tsv``."""
    band, _ = read_band(realdata.require_source("sentinel2-b04"))
    tiles = cut_tiles(
        folder, band, side=TILE_PX, overlap=TILE_OVERLAP, noise=20.0, falloff=0.2, empty=0.03, seed=SEED
    )
    write_stage_table(folder / "stage.csv", tiles)
    rows = zip(tiles.names, tiles.true.tolist(), strict=True)
    write_tsv(folder / "truth.tsv", ["tile", "x_px", "y_px"], [[name, *place] for name, place in rows])


def measure_mosaic(data: Path, results: Path) -> str:
    """Say how far the linked tiles lie from their true places, but for a common shift."""
    true = {row["tile"]: _read_place(row) for row in _read_rows(data / "truth.tsv")}
    linked = [row for row in _read_rows(results / "tiles.tsv") if row["linked"] == "yes"]
    left = np.array([_read_place(row) - true[row["tile"]] for row in linked])
    pixels = float(np.sqrt(np.mean((left - left.mean(axis=0)) ** 2)))
    told = f"{pixels:.2f} px from their true places (root mean square)"
    return f"{len(linked)} of {len(true)} tiles with texture in common, {told}"


def _spell_path(folder: Path, name: str) -> str:
    """Return a file of a group as it is typed where the commands run, above ``data``."""
    return f"data/{folder.name}/{name}"


def _read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def _read_place(row: dict[str, str]) -> NDArray[np.float64]:
    return np.array([float(row["x_px"]), float(row["y_px"])])


GROUPS = {
    "template": GroupDemo(
        make_brains, ("data/template/brains.tsv", "--spacing-mm", f"{TEMPLATE_MM:g}"), measure_template
    ),
    "series": GroupDemo(
        make_dates, ("data/series/dates.tsv", "--bands", "nir", "--mask-values", "2-4,255"), measure_series
    ),
    "mosaic": GroupDemo(make_tiles, ("--table", "data/mosaic/stage.csv"), measure_mosaic),
}
"""By the command's name."""


def build_group_data(folder: Path) -> None:
    """Make the images of all groups below ``data/``, whole or not at all.

    Raises:
        InputError: a package with the images is not installed.
    """
    with write_whole_directory(folder / "data") as data:
        for name, group in GROUPS.items():
            (data / name).mkdir()
            group.make(data / name)


def run_groups(folder: Path) -> int:
    """Run each command in a folder that has the data, and say what came out; return the exit code."""
    code = 0
    told = []
    for name, group in GROUPS.items():
        results = folder / "results" / name
        command = ["regflow", name, *group.words, "-o", f"results/{name}"]
        click.echo(f"$ {' '.join(command)}")
        ended = subprocess.run([sys.executable, "-m", *command], cwd=folder, check=False).returncode
        code = code or ended
        if not ended:
            told.append(
                f"{name}: {group.measure(folder / 'data' / name, results)}; {results / 'report.html'}"
            )
    click.echo("\n".join(told))
    return code
