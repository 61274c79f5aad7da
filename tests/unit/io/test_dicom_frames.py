"""Multi-frame DICOM: volumes are told apart, ordered by position, and every frame has its own scaling."""

import numpy as np
import pytest
from dicom_files import Plane, write_frames

from regflow.core.errors import InputError
from regflow.io.volumes import read_header, read_series, read_volume

STORED = np.random.default_rng(0).integers(0, 1000, (2, 6, 4, 5)).astype(np.uint16)
"""Two volumes of six slices."""


def interleaved(scales=((None, None),) * 6, kinds=("M", "FIELD_MAP")):
    """Return the frames of both volumes slice by slice, as scanners write them."""
    return [
        Plane(STORED[v, z], 2.5 * z, stack=str(v + 1), kind=kinds[v], scale=scales[z][v])
        for z in range(6)
        for v in range(2)
    ]


def test_two_stacks_are_told_apart_by_index_and_name(tmp_path):
    path = write_frames(tmp_path / "a.dcm", interleaved())
    for index, name in enumerate(("M", "FIELD_MAP")):
        for volume in (index, str(index), name):
            image = read_volume(path, volume)
            assert np.array_equal(image.channel, STORED[index])
            assert np.allclose(image.grid.spacing, (0.9, 1.1, 2.5))
            assert np.allclose(image.grid.origin, (-10, 20, 0))
    header = read_header(path)
    assert (header.volumes, header.names, header.dtype) == (2, ("M", "FIELD_MAP"), np.uint16)
    assert np.array_equal(np.stack(list(read_series(path))), STORED)
    asked = "holds 2 volumes: 0 'M', 1 'FIELD_MAP'; name one of a moving file \\(0 to 1\\)"
    with pytest.raises(InputError, match=asked):
        read_volume(path)
    with pytest.raises(InputError, match="has no volume 'PHASE'; name one from 0 to 1: 0 'M', 1 'FIELD_MAP'"):
        read_volume(path, "PHASE")


def test_a_folder_with_one_file_of_several_volumes_takes_their_names(tmp_path):
    write_frames(tmp_path / "a.dcm", interleaved())
    assert np.array_equal(read_volume(tmp_path, "FIELD_MAP").channel, STORED[1])
    with pytest.raises(InputError, match="holds 2 volumes"):
        read_volume(tmp_path)


@pytest.mark.parametrize(
    "scales",
    [
        [((1.0, 0.0), (0.5, -100.0))] * 6,
        [((0.1 * (z + 1), 3.0), (2.0, -z)) for z in range(6)],
    ],
)
def test_every_frame_has_its_own_scaling(tmp_path, scales):
    path = write_frames(tmp_path / "a.dcm", interleaved(scales))
    for v in range(2):
        expected = [STORED[v, z] * scales[z][v][0] + scales[z][v][1] for z in range(6)]
        image = read_volume(path, v)
        assert np.allclose(image.channel, expected, atol=1e-4)
        assert image.channel.dtype == read_header(path, v).dtype


def test_frames_stored_from_top_to_bottom_lie_where_they_say(tmp_path):
    planes = [Plane(STORED[0, z], 2.5 * z) for z in reversed(range(6))]
    image = read_volume(write_frames(tmp_path / "a.dcm", planes))
    assert np.array_equal(image.channel, STORED[0])
    assert np.allclose(image.grid.to_world((0, 0, 5)), (-10, 20, 12.5))


def test_b_values_make_volumes(tmp_path):
    planes = [Plane(STORED[v, z], 2.0 * z, b_value=1000.0 * v) for v in range(2) for z in range(6)]
    path = write_frames(tmp_path / "a.dcm", planes)
    assert read_header(path).names == ("b 0.0", "b 1000.0")
    assert np.array_equal(read_volume(path, "b 1000.0").channel, STORED[1])


def test_stacks_on_different_grids_are_no_series(tmp_path):
    planes = [Plane(STORED[v, z], 2.5 * z + 40 * v, str(v)) for v in range(2) for z in range(6)]
    path = write_frames(tmp_path / "a.dcm", planes)
    assert np.allclose(read_volume(path, 1).grid.origin, (-10, 20, 40))
    assert np.allclose(read_header(path, 1).grid.origin, (-10, 20, 40))
    with pytest.raises(InputError, match="lie on different grids"):
        list(read_series(path))


def test_frames_that_nothing_tells_apart_and_missing_ones_are_told(tmp_path):
    twice = [Plane(STORED[v, z], 2.5 * z) for v in range(2) for z in range(6)]
    with pytest.raises(InputError, match="nothing tells them apart"):
        read_volume(write_frames(tmp_path / "a.dcm", twice))
    gap = [Plane(STORED[0, z], 2.5 * z) for z in (0, 1, 2, 4, 5)]
    with pytest.raises(InputError, match="1 of the slices seem to be missing"):
        read_volume(write_frames(tmp_path / "b.dcm", gap))


def test_a_damaged_header_is_told(tmp_path):
    path = write_frames(tmp_path / "a.dcm", [Plane(STORED[0, z], 2.5 * z) for z in range(6)])
    raw = path.read_bytes()
    place = raw.index(b"\x28\x00\x00\x01US")  # bits allocated
    path.write_bytes(raw[:place] + b"\x28\x00\x00\x01\x55\x00" + raw[place + 6 :])
    with pytest.raises(InputError, match="DICOM header is damaged"):
        read_volume(path)
