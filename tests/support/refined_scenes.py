"""Scenes as the stages before refine leave them."""

import numpy as np
from known_scenes import fixed

from regflow.core.gate import Verdict
from regflow.datasets.scenes import write_scene
from regflow.io.raster_transforms import write_raster_transform
from regflow.io.rasters import read_raster_header
from regflow.io.scenes import describe_view
from regflow.stages.rasters.working import WorkingScene, write_working
from regflow.stages.shell import make_outcome, run_stage_work

SETTINGS = {"methods": ["tie-points"], "options": {"tie-points": {"spacing_px": 40.0}}}


def prepare(folder, image):
    """Write a scene and what preprocess would leave of it."""
    write_scene(
        folder / "scene.tif", {"red": np.where(image.mask, image.channel, np.nan)}, image.grid, nodata=0
    )
    view = describe_view(read_raster_header(folder / "scene.tif"))

    def work(part):
        working = WorkingScene(view)
        write_working(part, working, working.load_overview())
        return make_outcome(Verdict("pass", "fine"))

    run_stage_work("preprocess", "s", folder / "prepared", [], work)
    return str(folder / "prepared")


def initialized(folder, transform):
    def work(part):
        write_raster_transform(part, transform, fixed().grid)
        return make_outcome(Verdict("pass", "fine"))

    run_stage_work("initialize", "s", folder, [], work)
    return str(folder)
