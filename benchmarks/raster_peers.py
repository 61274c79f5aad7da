"""Run one peer on a pair of scenes, in the peers' own Python: ``raster_peers.py NAME FIXED MOVING OUT PX``.

Writes ``tie_points.csv`` (x and y in CRS units, dx and dy in CRS units from the fixed to the moving
scene) where the peer has tie points, the aligned scene, and ``seconds.json``.
"""

import json
import sys
import time
from pathlib import Path


def arosics(fixed: str, moving: str, out: Path, spacing: int) -> None:
    """AROSICS' local co-registration with windows of 256 pixels, and its corrected scene."""
    _adapt_gdal()
    from arosics import COREG_LOCAL

    local = COREG_LOCAL(
        fixed,
        moving,
        grid_res=spacing,
        window_size=(256, 256),
        max_shift=10,
        path_out=str(out / "aligned.tif"),
        fmt_out="GTIFF",
        nodata=(0, 0),
        calc_corners=False,
        footprint_poly_ref=None,
        progress=False,
        q=True,
        CPUs=2,
    )
    table = local.CoRegPoints_table
    seconds["tie_points"] = time.perf_counter() - started
    local.correct_shifts()
    found = table[table["X_SHIFT_M"] != -9999]
    # AROSICS' shifts are what is to be added to the moving scene's coordinates.
    rows = [
        (row.X_MAP, row.Y_MAP, -row.X_SHIFT_M, -row.Y_SHIFT_M, int(bool(row.OUTLIER)))
        for row in found.itertuples()
    ]
    lines = ["x,y,dx,dy,outlier", *(",".join(f"{value:.6f}" for value in row) for row in rows)]
    (out / "tie_points.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def coregix(fixed: str, moving: str, out: Path, spacing: int) -> None:
    """Run coregix' rigid alignment, which has no tie points."""
    from coregix import align_image_pair

    align_image_pair(
        moving_image_path=moving, fixed_image_path=fixed, output_image_path=str(out / "aligned.tif")
    )


def _adapt_gdal() -> None:
    """Give GDAL 3.6 the context managers that AROSICS expects of 3.8."""
    from contextlib import contextmanager

    from osgeo import gdal, ogr

    for kind in (gdal.Dataset, ogr.DataSource):
        if not hasattr(kind, "__enter__"):
            kind.__enter__ = lambda self: self
            kind.__exit__ = lambda self, *_: self.FlushCache() if hasattr(self, "FlushCache") else None
    if not hasattr(gdal, "config_options"):

        @contextmanager
        def config_options(options, thread_local=True):  # noqa: ANN001, ANN202
            before = {key: gdal.GetConfigOption(key) for key in options}
            for key, value in options.items():
                gdal.SetConfigOption(key, value)
            yield
            for key, value in before.items():
                gdal.SetConfigOption(key, value)

        gdal.config_options = config_options


if __name__ == "__main__":
    name, one, other, folder, px = sys.argv[1:]
    seconds: dict[str, float] = {}
    started = time.perf_counter()
    {"arosics": arosics, "coregix": coregix}[name](one, other, Path(folder), int(px))
    seconds["total"] = time.perf_counter() - started
    (Path(folder) / "seconds.json").write_text(json.dumps(seconds), encoding="utf-8")
