"""Pairs of landmarks on disk: preprocess leaves them beside a moving image, for methods that they drive."""

from pathlib import Path

from regflow.core.files import read_json, write_json
from regflow.core.landmark_pairs import LandmarkPairs
from regflow.methods.result import LandmarkErrors
from regflow.metrics.distances import ErrorScale

LANDMARKS_FILE = "landmarks.json"


def write_landmark_pairs(folder: str | Path, pairs: LandmarkPairs | None) -> None:
    """Write ``landmarks.json``, in world coordinates; nothing where there are no landmarks."""
    if pairs is not None:
        write_json(Path(folder) / LANDMARKS_FILE, pairs.to_dict())


def read_landmark_pairs(folder: str | Path) -> LandmarkPairs | None:
    """Read the pairs that :func:`write_landmark_pairs` wrote; None where it had none."""
    path = Path(folder) / LANDMARKS_FILE
    return LandmarkPairs.from_dict(read_json(path)) if path.is_file() else None


def list_left_out_figures(errors: LandmarkErrors | None, scale: ErrorScale) -> dict[str, float]:
    """Return what landmarks say of a map of volumes that was fitted to them; nothing of other maps.

    Figures: ``left_out_rms_mm`` and ``left_out_max_mm``, distances of landmarks from where the fit of all
    others puts them; ``left_out_percent``, the former beyond one voxel, in percent of the object's radius;
    ``landmarks_used``; ``landmarks_outliers_percent`` of them that contradict the others.
    """
    if errors is None:
        return {}
    figures = errors.list_figures("mm")
    return {**figures, "left_out_percent": scale.to_percent(figures["left_out_rms_mm"])}
