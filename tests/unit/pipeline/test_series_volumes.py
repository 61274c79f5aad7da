"""Change of volume over sessions: a real head that shrinks in one place by known warps."""

import csv

import numpy as np
import pytest

import regflow as rf
from regflow.core.sampling import sample_channel
from regflow.core.transform import DisplacementField
from regflow.io.volumes import read_volume, write_volume
from regflow.metrics.jacobian import compute_determinant_map

AMOUNTS = (0.0, 0.06, 0.12, 0.18)
WIDTH_MM = 24.0
FAST = {"initialize": {"methods": ["mutual-information"]}}


def shrink(grid, center, amount):
    """Return the map by which tissue moves toward a place, and back, as fields on a grid."""
    points = grid.to_world(np.indices(grid.shape)[::-1].reshape(3, -1).T)

    def move(places):
        way = places - center
        near = np.exp(-(way**2).sum(axis=1) / (2 * WIDTH_MM**2))
        return -amount * near[:, None] * way

    back = points.copy()
    for _ in range(30):
        back = points - move(back)
    fields = [move(points), back - points]
    return [
        DisplacementField(np.ascontiguousarray(each.T.reshape(3, *grid.shape), np.float32), grid)
        for each in fields
    ]


@pytest.fixture(scope="module")
def measured(volume_file, tmp_path_factory):
    """Return the aligned sessions of a head that shrinks, and the true Jacobian of each."""
    place = tmp_path_factory.mktemp("sessions")
    image = read_volume(volume_file("mni6", 4.0))
    center = image.grid.center + np.array([20.0, -10.0, 5.0])
    truths = []
    for number, amount in enumerate(AMOUNTS):
        there, back = shrink(image.grid, center, amount)
        data = sample_channel(image.channel, image.grid, image.grid, back, "cubic")
        write_volume(place / f"s{number}.nii.gz", data, image.grid)
        truths.append(compute_determinant_map(there.vectors, image.grid))
    files = [place / f"s{number}.nii.gz" for number in range(len(AMOUNTS))]
    found = rf.align_series(
        files, onto="s0", deform=True, output=place / "out", config=FAST, threads=2, steps=[1], cutoff=20
    )
    return found, truths, center


@pytest.mark.slow
def test_the_table_and_the_maps_tell_how_a_place_shrank(measured):
    found, truths, center = measured
    with (found.folder / "volumes.tsv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert [row["image"] for row in rows] == ["s1", "s2", "s3"]
    changes = [float(row["change_percent"]) for row in rows]
    assert changes == sorted(changes, reverse=True)
    for row, truth in zip(rows, truths[1:], strict=True):
        jacobian = read_volume(found.folder / "jacobian" / row["image"] / "jacobian.nii.gz")
        points = jacobian.grid.to_world(np.indices(jacobian.grid.shape)[::-1].reshape(3, -1).T)
        near = (np.linalg.norm(points - center, axis=1) < WIDTH_MM / 2).reshape(jacobian.grid.shape)
        assert abs(jacobian.channel[near].mean() - truth[near].mean()) < 0.3 * (1 - truth[near].mean())


def test_scenes_have_no_change_of_volume():
    with pytest.raises(rf.InputError, match="deform"):
        rf.align_series({"a": np.eye(9), "b": np.eye(9)}, deform=True)
