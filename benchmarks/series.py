"""A series against pairs: clear Landsat dates moved by known shifts, all together and each to one date.

The dates are those of ``benchmarks.dates`` that Fmask calls clear. The series is aligned twice by the job of
``regflow series`` with its default configuration: as the archive has it, and with every date moved by a
random shift of up to 4 pixels. Two results are held against each other:

- *pairs*: the registration of each date to one date, the clearest, as the job itself measured it;
- *series*: the map between the same two dates that follows from all links.

``repeatability`` is the error against the known shifts less what the same way finds without them, because
nobody knows how exactly the archive registered two dates; ``own`` is that. ``closure`` is how far three
measured registrations are from closing, before anything is solved.
"""

import logging
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import arguments, print_table, save
from benchmarks.dates import GROUPS, Date, draw_shift, fill_masked, read_date
from regflow.core.image import Image
from regflow.core.transform import Transform
from regflow.datasets import packaged as realdata
from regflow.datasets.modalities import make_linear_truth, move_linearly
from regflow.pipeline.series_objects import SeriesResult, align_series
from regflow.stages.series_link import read_link

log = logging.getLogger(__name__)

CLOSURE_PX = 0.05
BANDS = ("b3", "b4", "b5")
Array = NDArray[np.float64]


def main() -> None:
    """Print both ways beside each other; end with 1 where the series is no better, or loops stay open."""
    parser = arguments(__doc__)
    parser.add_argument("--every", type=int, default=1, help="only every so many-th clear date")
    parser.add_argument("--bands", default=["b4"], nargs="+", choices=BANDS, help="what is matched on")
    parser.add_argument("--steps", type=int, nargs="+", help="places apart that dates are linked over")
    options = parser.parse_args()
    dates = [_read_bands(name, options.bands) for name in realdata.find_landsat_series()]
    dates = [date for date in dates if date.group == GROUPS[0]][:: options.every]
    truth = {date.name: _draw_truth(date, number) for number, date in enumerate(dates)}
    still = {date.name: _fill_bands(date.image) for date in dates}
    moved = {name: _move_bands(image, truth[name]) for name, image in still.items()}
    with TemporaryDirectory() as place:
        runs = [
            run(images, Path(place) / name, options, options.threads)
            for name, images in (("still", still), ("moved", moved))
        ]
        hub = find_hub(runs[0][0])
        errors = {way: measure_errors(way, runs, truth, hub) for way in ("pairs", "series")}
        figures = [summarize(way, *errors[way]) for way in errors]
        closures = [_summarize_closures(result, seconds) for result, seconds in runs]
    print_table(figures, list(figures[0]))
    print_table(closures, list(closures[0]))
    save("series", {"hub": hub, "ways": figures, "runs": closures}, options.threads)
    better = figures[1]["repeatability_px_median"] <= figures[0]["repeatability_px_median"]
    if not better or max(row["closure_px_median"] for row in closures) > CLOSURE_PX:
        raise SystemExit(1)


def run(
    images: Mapping[str, Image], folder: Path, options: Namespace, threads: int
) -> tuple[SeriesResult, float]:
    """Align a series; also return the seconds it took."""
    began = time.perf_counter()
    bands = list(range(1, len(options.bands) + 1))
    found = align_series(images, output=folder, steps=options.steps, bands=bands, threads=threads)
    seconds = time.perf_counter() - began
    log.info("%s: %s", folder.name, found.figures)
    return found, seconds


def find_hub(result: SeriesResult) -> str:
    """Return the date that most others were registered to."""
    names = [row[end] for row in result.links for end in ("first", "second")]
    return max(sorted(set(names)), key=names.count)


def measure_errors(
    way: str, runs: list[tuple[SeriesResult, float]], truth: Mapping[str, Transform], hub: str
) -> tuple[Array, Array]:
    """Return by date the error less what is found without known shifts, and that: ``(N,)`` pixels."""
    own, strict = (_find_shifts(way, result, hub) for result, _ in runs)
    names = sorted(own.keys() & strict.keys())
    added = {name: _measure_shift(truth[name]) - _measure_shift(truth[hub]) for name in names}
    less = [np.linalg.norm(strict[name] - own[name] - added[name]) for name in names]
    return np.array(less), np.array([np.linalg.norm(own[name]) for name in names])


def summarize(way: str, less: Array, own: Array) -> dict[str, Any]:
    """Return one line of the table."""
    return {
        "way": way,
        "dates": len(less),
        "repeatability_px_median": float(np.median(less)),
        "repeatability_px_rms": float(np.sqrt((less**2).mean())),
        "repeatability_px_95": float(np.percentile(less, 95)),
        "repeatability_px_largest": float(less.max()),
        "own_px_median": float(np.median(own)),
    }


def _summarize_closures(result: SeriesResult, seconds: float) -> dict[str, Any]:
    closures = np.array([row["closure_px"] for row in result.closures])
    return {
        "run": result.folder.name,
        "links": len(result.links),
        "dropped": result.figures["links_dropped"],
        "left_out": result.figures["images_left_out"],
        "triples": len(closures),
        "closure_px_median": float(np.median(closures)),
        "closure_px_95": float(np.percentile(closures, 95)),
        "residual_px_rms": result.figures["residual_rms_px"],
        "seconds": seconds,
    }


def _find_shifts(way: str, result: SeriesResult, hub: str) -> dict[str, Array]:
    """Return the shift from the hub to each date in pixels, at the middle of the scene."""
    if way == "series":
        shifts = {name: _measure_shift(transform) for name, transform in result.transforms.items()}
        return {name: shift - shifts[hub] for name, shift in shifts.items() if name != hub}
    found = {}
    for row in result.links:
        if hub in (row["first"], row["second"]):
            link = read_link(result.folder / "steps" / "links" / f"{row['first']}--{row['second']}")
            if link.is_usable and link.transform is not None:
                forward = row["first"] == hub
                shift = _measure_shift(link.transform)
                found[row["second" if forward else "first"]] = shift if forward else -shift
    return found


def _measure_shift(transform: Transform) -> Array:
    middle = np.zeros((1, 2))
    return np.asarray((transform.apply(middle) - middle)[0] / PIXEL_M)


def _read_bands(name: str, bands: Sequence[str]) -> Date:
    """Read a date with all its bands as channels."""
    dates = [read_date(name, band) for band in bands]
    data = np.concatenate([date.image.data for date in dates])
    return replace(dates[0], image=Image(data, dates[0].image.grid, dates[0].image.mask))


def _fill_bands(image: Image) -> Image:
    filled = [fill_masked(band).data for band in _split_bands(image)]
    return Image(np.concatenate(filled), image.grid, image.mask)


def _move_bands(image: Image, truth: Transform) -> Image:
    moved = [move_linearly(band, truth) for band in _split_bands(image)]
    return Image(np.concatenate([band.data for band in moved]), moved[0].grid, moved[0].mask)


def _split_bands(image: Image) -> list[Image]:
    return [Image(band[None], image.grid, image.mask) for band in image.data]


def _draw_truth(date: Date, seed: int) -> Transform:
    return make_linear_truth(date.image.grid, draw_shift(np.random.default_rng(seed)))


PIXEL_M = 30.0

if __name__ == "__main__":
    main()
