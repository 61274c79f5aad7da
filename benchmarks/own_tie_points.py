"""Refine a pair of scenes from files to files: ``own_tie_points.py FIXED MOVING OUT THREADS``.

Beside the peers' runner, so that nothing of the benchmarks' own is loaded.
"""

import sys
from pathlib import Path

from regflow.core.files import write_json
from regflow.core.transform import Affine
from regflow.io.raster_transforms import write_raster_transform
from regflow.io.scenes import open_scene
from regflow.stages.rasters.refine import refine_scene, write_tie_points


def main(fixed: str, moving: str, out: str, threads: str) -> None:
    """Write ``transform.json``, ``displacement.tif``, ``tie_points.gpkg`` and ``steps.json``."""
    one, other, start = open_scene(fixed), open_scene(moving), Affine.identity(2)
    found = refine_scene(one, other, start, {"methods": ["tie-points"]}, threads=int(threads))
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    write_raster_transform(folder, found.transform, one.grid)
    if found.points is not None:
        write_tie_points(folder / "tie_points.gpkg", found.points, one.grid, start)
    write_json(folder / "steps.json", found.ladder.steps)


if __name__ == "__main__":
    main(*sys.argv[1:])
