"""One brain, warped in known ways that have the identity for their mean: its template is the brain itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regflow.core.image import Image
from regflow.core.resample import resample_array
from regflow.core.transform import Composite, Transform
from regflow.datasets.subjects import draw_warp
from regflow.io.volumes import write_volume


@dataclass(frozen=True, eq=False)
class WarpedCohort:
    """Images of one atlas.

    Attributes:
        atlas: the brain.
        files: the images' files by name.
        back: from the images' to the atlas's points, by name.
    """

    atlas: Image
    files: Mapping[str, str]
    back: Mapping[str, Transform]

    def measure_template_error(self, found: Mapping[str, Transform]) -> float:
        """Return how far the template's points lie from the atlas's, by the mean of all images, in mm.

        The distance is taken inside the atlas's mask.

        Args:
            found: from the template's to the images' points, by name.
        """
        points = self.atlas.grid.to_world(np.argwhere(self.atlas.mask)[::5, ::-1])
        ends = [self.back[name].apply(transform.apply(points)) for name, transform in found.items()]
        return float(np.linalg.norm(np.mean(ends, axis=0) - points, axis=1).mean())


def make_warped_cohort(
    atlas: Image, folder: Path, pairs: int = 2, amplitude_mm: float = 8.0, smoothness_mm: float = 20.0
) -> WarpedCohort:
    """Warp an atlas by velocities and by their negatives, and write the images."""
    files: dict[str, str] = {}
    back: dict[str, Transform] = {}
    for seed in range(pairs):
        both = draw_warp(atlas.grid, amplitude_mm, smoothness_mm, seed)
        for name, inverse in ((f"there-{seed}", both[1]), (f"back-{seed}", both[0])):
            values = resample_array(atlas.channel, atlas.grid, atlas.grid, inverse, "cubic")
            files[name] = str(folder / f"{name}.nii.gz")
            write_volume(files[name], np.clip(values, 0, None), atlas.grid)
            back[name] = Composite((inverse,))
    return WarpedCohort(atlas, files, back)
