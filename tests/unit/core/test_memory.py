"""Memory is asked for before it is taken."""

import numpy as np
import pytest

from regflow.core import memory
from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.memory import check_room, measure_free_bytes
from regflow.core.resample import resample_aligned, resample_array
from regflow.core.transform import Affine
from regflow.io.volumes import read_volume, write_volume
from regflow.methods.preprocess.masks import close_gaps
from regflow.methods.refine.working import resample_both


def test_what_is_free_is_some_of_what_the_machine_has():
    free = measure_free_bytes()
    assert free is None or 0 < free < 1 << 50


def test_what_a_container_keeps_of_files_is_free(tmp_path, monkeypatch):
    for name, text in (("memory.max", "1000\n"), ("memory.current", "900\n")):
        (tmp_path / name).write_text(text)
    (tmp_path / "memory.stat").write_text("anon 300\ninactive_file 500\nactive_file 100\n")
    container = (str(tmp_path), "memory.max", "memory.current", "inactive_file")
    monkeypatch.setattr(memory, "_CONTAINERS", (container,))
    assert measure_free_bytes() == 600
    (tmp_path / "memory.max").write_text("max\n")
    assert measure_free_bytes() > 1000


def test_a_job_has_what_the_containers_around_it_leave(tmp_path, monkeypatch):
    """As Slurm makes them: a container for the job, and one in it for the step."""
    job = tmp_path / "slurm" / "job_7"
    for folder, limit, use in ((job, "800", "500"), (job / "step_0", "max", "450")):
        folder.mkdir(parents=True)
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{use}\n")
    (tmp_path / "cgroup").write_text("0::/slurm/job_7/step_0\n")
    container = (str(tmp_path), "memory.max", "memory.current", "inactive_file")
    monkeypatch.setattr(memory, "_CONTAINERS", (container,))
    monkeypatch.setattr(memory, "_MEMBERSHIP", str(tmp_path / "cgroup"))
    assert measure_free_bytes() == 300


def test_what_does_not_fit_is_refused_with_both_figures(monkeypatch):
    monkeypatch.setattr(memory, "measure_free_bytes", lambda: 2 * 10**9)
    check_room(1.9e9, "the image")
    with pytest.raises(
        InputError, match=r"the image would take 40 GB of memory and 2 GB are free; check size"
    ):
        check_room(40e9, "the image")


def test_where_nothing_is_known_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "measure_free_bytes", lambda: None)
    check_room(1e18, "the image")


@pytest.mark.parametrize("ending", ["nii", "nii.gz", "nrrd", "mha"])
def test_a_volume_that_does_not_fit_is_not_read(tmp_path, monkeypatch, ending):
    path = tmp_path / f"a.{ending}"
    write_volume(
        path, np.zeros((20, 20, 20), np.float32), Grid.from_geometry((20, 20, 20), (1, 1, 1), (0, 0, 0))
    )
    monkeypatch.setattr(memory, "measure_free_bytes", lambda: 1000)
    with pytest.raises(InputError, match=r"would take 6\.4e-05 GB"):
        read_volume(path)


def test_a_grid_that_does_not_fit_is_not_made(monkeypatch):
    small = Grid.from_geometry((10, 10, 10), (100, 100, 100), (0, 0, 0))
    fine = small.with_spacing(0.05)
    told = "a grid of 20000 x 20000 x 20000 samples would take"
    monkeypatch.setattr(memory, "measure_free_bytes", lambda: 64 * 10**9)
    data = np.zeros(small.shape, np.float32)
    with pytest.raises(InputError, match=told):
        resample_array(data, small, fine)
    with pytest.raises(InputError, match=told):
        resample_aligned(data, small, fine)
    with pytest.raises(InputError, match=told):
        resample_both(Image(data[None], small), Image(data[None], small), Affine.identity(3), fine)
    with pytest.raises(InputError, match="would take"):
        close_gaps(np.ones(small.shape, bool), fine, 2000.0)
