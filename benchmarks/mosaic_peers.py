"""Place tiles by one peer, in the peers' own Python: ``mosaic_peers.py NAME TILES THREADS``.

TILES is JSON: the tiles' paths, their rows and columns, and the positions ``(x, y)`` that the stage states.
The last line printed is JSON, too: the positions found, and what finding them and making the picture took.
"""

import json
import sys
import time
from pathlib import Path

import dask
import numpy as np
import tifffile
from numpy.typing import NDArray

Positions = NDArray[np.float64]


def multiview_stitcher(paths: list[str], places: list[list[int]], stated: Positions) -> Positions:
    """Return positions by phase correlation in the overlaps and a global solve, with a blended picture."""
    from multiview_stitcher import fusion, msi_utils, registration
    from multiview_stitcher import spatial_image_utils as images

    views = []
    for path, (x, y) in zip(paths, stated, strict=True):
        place = {"scale": {"y": 1.0, "x": 1.0}, "translation": {"y": float(y), "x": float(x)}}
        view = images.get_sim_from_array(
            tifffile.imread(path)[None], dims=["c", "y", "x"], transform_key="stage", **place
        )
        views.append(msi_utils.get_msim_from_sim(view, scale_factors=[]))
    found = registration.register(
        views,
        reg_channel_index=0,
        transform_key="stage",
        new_transform_key="found",
        pre_registration_pruning_method="keep_axis_aligned",
    )
    views = [msi_utils.get_sim_from_msim(view) for view in views]
    fusion.fuse(views, transform_key="found", output_chunksize=512).data.compute()
    moves = [np.asarray(move.isel(t=0) if "t" in move.dims else move) for move in found]
    return stated + np.array([[move[1, 2], move[0, 2]] for move in moves])


def m2stitch(paths: list[str], places: list[list[int]], stated: Positions) -> Positions:
    """Return MIST's positions, in whole pixels; it makes no picture."""
    import m2stitch as stitch

    rows, columns = zip(*places, strict=True)
    guess = np.rint(stated[:, ::-1]).astype(int)
    images = np.stack([tifffile.imread(path) for path in paths])
    table, _ = stitch.stitch_images(
        images, list(rows), list(columns), position_initial_guess=guess, ncc_threshold=0.1
    )
    # Its x runs along the rows' axis.
    return table[["y_pos", "x_pos"]].to_numpy(float)


PEERS = {"multiview-stitcher": multiview_stitcher, "m2stitch": m2stitch}


def main(name: str, tiles: str, threads: str) -> None:
    """Print the positions and what they took."""
    paths, places, stated = json.loads(Path(tiles).read_text(encoding="utf-8"))
    started, busy = time.perf_counter(), time.process_time()
    with dask.config.set(scheduler="threads", num_workers=int(threads)):
        positions = PEERS[name](paths, places, np.array(stated, float))
    spent = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - busy}
    print(json.dumps({**spent, "positions": positions.tolist()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
