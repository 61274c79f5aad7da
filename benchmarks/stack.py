"""Stacks of serial sections whose places are known.

A real brain is cut into sections, each turned, shifted, bent, brightened and noised by itself, some torn,
missing, mirrored, stained or out of order. Where tissue lies in the volume is compared with where it lies in
the brain, up to one turn and shift of the whole, in percent of the sections' diagonal: over all sound
sections, and for the slow part along the block, its shape. Coronal sections are nearly the same the wrong
side up; mirrored ones are therefore sagittal.
"""

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import regflow as rf
from benchmarks.common import OUT, arguments, print_table, save
from regflow.core.grid import Grid
from regflow.datasets.serial_sections import (
    CutSections,
    SectionFaults,
    measure_stack_error,
    simulate_sections,
)
from regflow.datasets.volumes import load_volume
from regflow.io.nifti import write_nifti
from regflow.io.raster_files import write_raster

COLUMNS = (
    *("case", "sections", "jitter_px", "warp_px", "mean_percent", "worst_percent", "shape_percent"),
    *("shape_worst_percent", "fitting_none", "misplaced", "mirrored", "stained", "seconds", "within"),
)
DAMAGES = {14: "torn", 27: "missing", 28: "missing", 52: "stained", 61: "torn"}
MIRRORED = {9: "mirrored", 20: "mirrored", 21: "mirrored", 40: "mirrored"}
CASES: dict[str, dict[str, Any]] = {
    "steady": {"rotation_deg": 1.0, "shift_px": 1.5, "warp_px": 1.0},
    "jittered": {"rotation_deg": 4.0, "shift_px": 4.0, "warp_px": 1.5},
    "damaged": {
        "rotation_deg": 1.0,
        "shift_px": 1.5,
        "warp_px": 1.0,
        "damages": DAMAGES,
        "swaps": ((33, 45),),
    },
    "mirrored": {"rotation_deg": 1.0, "shift_px": 1.5, "warp_px": 1.0, "damages": MIRRORED},
    "referenced": {"rotation_deg": 10.0, "shift_px": 10.0, "warp_px": 1.5},
}
REFERENCED = ("referenced",)
"""Cases in which the brain's own shape is given as a reference volume, coarser and turned."""
SOURCE = "mni6"
STEP = 2
CORONAL, SAGITTAL = (1, 32, 192), (2, 36, 146)
"""The axis of the volume along which it is cut, first and last millimeter."""
LIMIT_PERCENT, SHAPE_LIMIT_PERCENT = 0.5, 1.0


def main() -> None:
    """Print the figures; end with 1 when a limit is not kept."""
    parser = arguments(__doc__)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--step", type=int, default=STEP, help="millimeters between sections")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-deform", dest="deform", action="store_false")
    options = parser.parse_args()
    rows = []
    for case in options.cases:
        rows.append(measure_case(case, options))
        print_table(rows[-1:], COLUMNS)
    save("stack", {"rows": rows}, options.threads)
    if not all(row["within"] for row in rows):
        sys.exit(1)


def measure_case(case: str, options: Any) -> dict[str, Any]:
    """Return the row of a case."""
    faults = SectionFaults(**CASES[case])
    brain = load_brain(options.step, *(SAGITTAL if case == "mirrored" else CORONAL))
    cut = simulate_sections(brain, faults, seed=options.seed)
    folder = OUT / "stacks" / case
    shutil.rmtree(folder, ignore_errors=True)
    names = write_sections(folder / "sections", cut)
    more = {}
    if case in REFERENCED:
        more["reference"] = write_reference(folder / "reference.nii.gz", brain, options.step)
    started = time.perf_counter()
    found = rf.assemble_stack(
        folder / "sections",
        folder / "stack",
        pixel_size_um=1000,
        section_um=1000 * options.step,
        deform=options.deform,
        threads=options.threads,
        **more,
    )
    seconds = time.perf_counter() - started
    damaged = {number for number, damage in faults.damages.items() if damage in ("torn", "missing")}
    wrong = damaged | {number for pair in faults.swaps for number in pair}
    transforms = [
        None if number in wrong else rf.read_transform(found.folder / "transforms" / f"{name}.h5")
        for number, name in enumerate(names)
    ]
    errors = measure_stack_error(cut, transforms)
    figures = found.figures
    return {
        **{"case": case, "sections": len(names), "jitter_px": faults.shift_px, "warp_px": faults.warp_px},
        **errors,
        **{"fitting_none": int(figures["sections_fitting_none"]), "seconds": seconds},
        **{"misplaced": int(figures["sections_out_of_order"])},
        **{"mirrored": int(figures["sections_mirrored"]), "stained": int(figures["sections_stained"])},
        "within": errors["mean_percent"] <= LIMIT_PERCENT
        and errors["shape_worst_percent"] <= SHAPE_LIMIT_PERCENT,
    }


def load_brain(step: int, axis: int, first: int, last: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return planes of a real brain along an axis, ``(N, rows, columns)``, the top of the head up."""
    volume = np.asarray(load_volume(SOURCE).channel, np.float32)
    planes = np.moveaxis(volume, axis, 0)[:, ::-1]
    return np.ascontiguousarray(planes[first:last:step])


def write_sections(folder: Path, cut: CutSections) -> list[str]:
    """Write the pictures as TIFF of 8 bits, and return their names."""
    folder.mkdir(parents=True)
    names = [f"section{number:03d}" for number in range(len(cut.pictures))]
    for name, picture in zip(names, cut.pictures, strict=True):
        values = np.clip(np.rint(picture * 180 + 10), 0, 255).astype(np.uint8)
        write_raster(folder / f"{name}.tif", values[None], Grid(values.shape, np.eye(3)))
    return names


def write_reference(path: Path, brain: np.ndarray[Any, np.dtype[np.float32]], step: int) -> Path:
    """Write the brain as a volume of 2 mm whose axes lie a little askew."""
    angle = np.deg2rad(5.0)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
    small = np.ascontiguousarray(brain[:, ::2, ::2])
    write_nifti(
        path, small, Grid.from_geometry(small.shape, (2.0, 2.0, float(step)), (5.0, -8.0, 12.0), turn)
    )
    return path


if __name__ == "__main__":
    main()
