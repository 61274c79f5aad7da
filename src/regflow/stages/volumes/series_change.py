"""How volume changed between the first session of a series and another one: a map and its figures.

Source of the measure: Ashburner and Friston, NeuroImage 11(6):805-821, 2000, whose Jacobian determinants
integrate to volumes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from regflow.core.errors import InputError, RegistrationError, SettingError
from regflow.core.files import read_json, write_json
from regflow.core.gate import Verdict
from regflow.core.grid import Grid
from regflow.core.sampling import sample_channel
from regflow.core.transform import Affine, compose_transforms
from regflow.io.transforms import write_transform
from regflow.io.volumes import write_volume
from regflow.metrics.jacobian import compute_determinant_map, sample_displacement
from regflow.stages.volumes.refine import deform_volumes
from regflow.stages.volumes.working import read_working

JACOBIAN_FILE, CHANGE_TRANSFORM, CHANGE_RECORD = "jacobian.nii.gz", "transform.h5", "change.json"
MASK_SHARE = 0.5


def measure_volume_change(
    folder: str | Path,
    *,
    images: tuple[str | Path, str | Path],
    poses: tuple[Affine, Affine],
    grid: Grid,
    settings: Mapping[str, Any],
    threads: int = 1,
) -> None:
    """Deform the first session to another one, and write by how much every place grew or shrank.

    Writes ``jacobian.nii.gz`` on the common grid, 1 where volume stayed, ``transform.h5`` from the first to
    the other session's points, and ``change.json``. Where nothing was found, only the latter, which says why.

    Args:
        folder: to write into.
        images: folders of the first session's working image, and of the other one's.
        poses: of both, from their own to the common world.
        grid: the common one.
        settings: the complete configuration of volumes.
        threads: most threads to use; no result depends on it.

    Raises:
        SettingError: an unknown method or option.
    """
    folder = Path(folder)
    fixed, moving = (read_working(path) for path in images)
    start = Affine(np.linalg.inv(poses[1].matrix) @ poses[0].matrix)
    try:
        found = deform_volumes(
            fixed, moving, start, settings["refine"], threads=threads, seed=settings["seed"]
        )
    except SettingError:
        raise
    except (InputError, RegistrationError) as error:
        write_json(folder / CHANGE_RECORD, {"verdict": Verdict("fail", str(error)).to_dict()})
        return
    pull = poses[0].inverse()
    whole = compose_transforms(pull, found.forward)
    scale = abs(float(np.linalg.det(pull.linear)))
    jacobian = compute_determinant_map(sample_displacement(whole, grid), grid) / np.float32(scale)
    inside = np.ones(fixed.grid.shape, bool) if fixed.mask is None else fixed.mask
    mask = sample_channel(inside.astype(np.float32), fixed.grid, grid, pull) > MASK_SHARE
    write_volume(folder / JACOBIAN_FILE, jacobian.astype(np.float32), grid)
    write_transform(folder / CHANGE_TRANSFORM, found.forward)
    figures = _summarize_change(jacobian, mask, float(np.prod(grid.spacing)) / scale)
    write_json(folder / CHANGE_RECORD, {"verdict": found.ladder.verdict.to_dict(), "figures": figures})


def read_volume_change(folder: str | Path) -> dict[str, Any]:
    """Return the verdict's ``status`` and ``reason``, and the figures of :func:`measure_volume_change`."""
    content = read_json(Path(folder) / CHANGE_RECORD)
    verdict = Verdict.from_dict(content["verdict"])
    return {"verdict": verdict.status, **content.get("figures", {}), "reason": verdict.reason}


def _summarize_change(jacobian: Any, mask: Any, sample_mm3: float) -> dict[str, float]:
    """Return volumes of the first session's mask in milliliters, before and after, and the change."""
    values = np.asarray(jacobian[mask], np.float64)
    if not len(values):
        return {}
    before = len(values) * sample_mm3 / 1000
    low, high = np.percentile(values, (1, 99))
    return {
        "volume_first_ml": round(before, 6),
        "volume_ml": round(before * float(values.mean()), 6),
        "change_percent": round(100 * (float(values.mean()) - 1), 6),
        "jacobian_1_percentile": round(float(low), 6),
        "jacobian_99_percentile": round(float(high), 6),
    }
