"""What the benchmarks share: the pairs, the peers, the figures, and where results go."""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.files import read_json, write_json, write_whole_directory
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.processor import DESCRIBED, read_processor_name
from regflow.core.resample import resample_array, to_sitk_image
from regflow.core.threads import count_cores
from regflow.core.transform import Transform
from regflow.datasets import packaged as realdata
from regflow.datasets import subjects as synthetic
from regflow.datasets.tissues import segment_tissues
from regflow.datasets.volumes import load_volume
from regflow.io.transforms import read_transform, write_transform
from regflow.metrics.jacobian import compute_determinant_map, compute_jacobian_figures, sample_displacement
from regflow.metrics.overlap import dice

HERE = Path(__file__).resolve().parent
OUT = HERE / "out"
PAIR_NAMES = ("colin27", "same-contrast", "other-contrast")
"""Colin27's brain to MNI152 NLin2009cAsym; that atlas to itself warped, shaded and noisy; ICBM152
2009a to itself warped, T2-like, shaded and noisy. All at 1 mm, skull-stripped. ``colin27-head`` is
the first with its skull."""


@dataclass(frozen=True)
class Pair:
    """Files of one benchmark pair; ``truth`` is None for the real one."""

    name: str
    fixed: Path
    moving: Path
    truth: Path | None
    fluid_is_bright: bool = False


def arguments(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--peers-python",
        default=os.environ.get("REGFLOW_PEERS_PYTHON"),
        help="Python of the environment that has the peers (README.md); default $REGFLOW_PEERS_PYTHON",
    )
    parser.add_argument("--keep-peers", action="store_true", help="take the peers' last results if any")
    return parser


def pair(name: str) -> Pair | None:
    """Write a pair's files once and return them; None when its data are not installed."""
    folder = OUT / "pairs" / name
    truth = None if name.startswith("colin27") else folder / "truth.h5"
    made = Pair(name, folder / "fixed.nii.gz", folder / "moving.nii.gz", truth, name == "other-contrast")
    if folder.is_dir():
        return made
    if name.startswith("colin27") and realdata.locate_source("colin27") is None:
        return None
    with write_whole_directory(folder) as part:
        _MAKERS[name](part)
    return made


def read_image(path: Path) -> Image:
    """Read a skull-stripped volume as float32 with its brain as mask."""
    import SimpleITK as sitk

    from regflow.core.resample import read_sitk_grid

    volume = sitk.ReadImage(str(path), sitk.sitkFloat32)
    data = sitk.GetArrayFromImage(volume)
    return Image(data[None], read_sitk_grid(volume), data > 0)


def write_image(path: Path, data: NDArray[Any], grid: Grid) -> None:
    """Write one channel as NIfTI."""
    import SimpleITK as sitk

    sitk.WriteImage(to_sitk_image(data, grid), str(path))


def figures(pair: Pair, transform: Transform) -> dict[str, float]:
    """Return what a transform is worth on a pair, inside the fixed brain.

    Tissue classes are segmented in each image by itself and warped to the nearest; the Dice of the
    three is averaged. The Jacobian is that of the whole transform.
    """
    fixed, moving = read_image(pair.fixed), read_image(pair.moving)
    assert fixed.mask is not None
    assert moving.mask is not None
    tissues = segment_tissues(moving.channel, moving.mask, pair.fluid_is_bright)
    warped = resample_array(tissues, moving.grid, fixed.grid, transform, "nearest")
    overlap = dice(segment_tissues(fixed.channel, fixed.mask), warped)
    displacement = sample_displacement(transform, fixed.grid)
    determinant = compute_determinant_map(displacement, fixed.grid)
    found = {
        "tissue_dice": float(np.mean(list(overlap.values()))),
        **{f"dice_{n}": overlap[k] for k, n in ((1, "fluid"), (2, "gray"), (3, "white"))},
        **compute_jacobian_figures(determinant, fixed.mask),
    }
    if pair.truth is not None:
        error = displacement - sample_displacement(read_transform(pair.truth), fixed.grid)
        lengths = np.linalg.norm(error, axis=0)[fixed.mask]
        found |= {"tre_mm_mean": float(lengths.mean()), "tre_mm_p95": float(np.percentile(lengths, 95))}
    return found


def run_peer(name: str, pair: Pair, options: argparse.Namespace) -> dict[str, Any] | None:
    """Run a peer on a pair in its own Python; None (and one line) when there is none.

    Returns:
        ``total`` and ``steps`` seconds, ``process`` seconds with start-up, and ``transform``, a path.
    """
    folder = OUT / "peers" / pair.name / name
    kept = folder / "run.json"
    if options.keep_peers and kept.is_file():
        return dict(read_json(kept))
    if not options.peers_python:
        print(f"{name}: skipped, no --peers-python (see benchmarks/README.md)")
        return None
    folder.mkdir(parents=True, exist_ok=True)
    command = [options.peers_python, str(HERE / "peers.py"), name, str(pair.fixed), str(pair.moving)]
    seconds, _ = timed_process([*command, str(folder), str(options.threads)], folder / "log.txt")
    found = {**json.loads((folder / "seconds.json").read_text(encoding="utf-8")), "process": seconds}
    found["transform"] = str(folder / "transform.h5")
    write_json(kept, found)
    return found


def timed_process(command: list[str], log: Path, accepted: tuple[int, ...] = (0,)) -> tuple[float, int]:
    """Run a command to its end; return its wall seconds and its peak resident memory in bytes.

    Raises:
        RuntimeError: it ended with a code that is not accepted; its log's last lines are quoted.
    """
    spent = spent_by(command, log, accepted)
    return spent["seconds"], int(spent["peak_gb"] * 1e9)


def spent_by(command: list[str], log: Path, accepted: tuple[int, ...] = (0,)) -> dict[str, float]:
    """Run a command to its end; return ``seconds`` on the wall, ``cpu_seconds`` and ``peak_gb``.

    Raises:
        RuntimeError: it ended with a code that is not accepted; its log's last lines are quoted.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    report = log.with_suffix(".spent.json")
    with log.open("w") as stream:
        runner = [sys.executable, "-I", "-S", str(HERE / "spent.py"), str(report)]
        code = subprocess.run(
            [*runner, *command], stdout=stream, stderr=subprocess.STDOUT, check=False
        ).returncode
    if code not in accepted:
        tail = "\n".join(log.read_text(encoding="utf-8").splitlines()[-15:])
        raise RuntimeError(f"{' '.join(command)} ended with {code}:\n{tail}")
    return dict(read_json(report))


def compare_pairs(
    name: str,
    compare: Callable[[Pair, argparse.Namespace], list[dict[str, Any]]],
    columns: list[str],
    options: argparse.Namespace,
) -> None:
    """Print a table of ``compare``'s rows for every pair there is, and save them as ``name``."""
    results = {}
    for each in PAIR_NAMES:
        made = pair(each)
        if made is None:
            print(f"{each}: skipped, install mricron-data")
            continue
        results[each] = compare(made, options)
        print(f"\n{each}")
        print_table(results[each], columns)
    save(name, results, options.threads)


def save(name: str, results: Any, threads: int) -> None:
    """Write results with the machine they come from to ``benchmarks/out/NAME.json``."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    machine = {
        "cpu": read_processor_name(),
        "amx": _has_amx(),
        "cores": count_cores(),
        "threads": threads,
        "load_at_end": load,
        "python": platform.python_version(),
        "system": platform.system(),
    }
    write_json(OUT / f"{name}.json", {"machine": machine, "results": results})
    print(f"written: {OUT / f'{name}.json'}")


def print_table(rows: list[dict[str, Any]], columns: list[str]) -> None:
    """Print rows of a table."""
    cells = [columns] + [[text_of(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[k]) for line in cells) for k in range(len(columns))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def text_of(value: Any) -> str:
    """Return a cell of a table: numbers with three decimals, a dash for none."""
    if isinstance(value, float):
        return f"{value:.3f}"
    return "-" if value is None else str(value)


def _colin27(folder: Path, moving: str) -> None:
    for name, target in (("mni2009c", "fixed"), (moving, "moving")):
        image = load_volume(name)
        write_image(folder / f"{target}.nii.gz", image.channel.astype(np.float32), image.grid)


def _same_contrast(folder: Path) -> None:
    _write_subject(folder, load_volume("mni2009c"), None, seed=1)


def _other_contrast(folder: Path) -> None:
    t1 = load_volume("icbm2009a")
    gray, white = (load_volume(f"icbm2009a-{tissue}").channel / np.float32(255) for tissue in ("gm", "wm"))
    _write_subject(folder, t1, synthetic.simulate_t2(t1, gray, white), seed=2)


def _write_subject(folder: Path, fixed: Image, contrast: Image | None, seed: int) -> None:
    truth = synthetic.draw_truth(fixed.grid, seed)
    grid = synthetic.make_subject_grid(fixed.grid, truth)
    subject = synthetic.make_subject(contrast or fixed, truth, grid, seed=seed)
    write_image(folder / "fixed.nii.gz", fixed.channel.astype(np.float32), fixed.grid)
    write_image(folder / "moving.nii.gz", subject.channel, subject.grid)
    write_transform(folder / "truth.h5", truth.forward)


_MAKERS = {
    "colin27": partial(_colin27, moving="colin27-brain"),
    "colin27-head": partial(_colin27, moving="colin27"),
    "same-contrast": _same_contrast,
    "other-contrast": _other_contrast,
}


def _has_amx() -> bool:
    """Tell whether the processor has units for matrices of bfloat16, by which networks are faster."""
    return DESCRIBED.is_file() and "amx_bf16" in DESCRIBED.read_text(encoding="utf-8")
