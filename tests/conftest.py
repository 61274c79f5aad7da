"""Real volumes for every test, at the spacing a test can afford.

Each is read and shrunk once per session. A volume whose package is not installed skips the test.
"""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from regflow.core.image import Image
from regflow.core.resample import coarsen_image, resample_array
from regflow.datasets import packaged as realdata
from regflow.datasets.volumes import load_volume

Volume = Callable[..., Image]
VolumeFile = Callable[..., Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what runs whole workflows: one of them begun last would run alone for minutes."""
    items.sort(key=lambda item: "workflow" not in item.path.parts)


@cache
def real_volume(name: str, spacing_mm: float | None = None) -> Image:
    """Read a source of regflow.datasets.packaged as float32 (label maps: int16), shrunk without aliasing.

    The brain templates carry their brain (samples above zero) as mask.
    """
    if realdata.locate_source(name) is None:
        pytest.skip(f"{realdata.SOURCES[name].package} is not installed")
    full = load_volume(name)
    drawn = full.modality is None and not name.endswith(("-gm", "-wm"))
    grid = full.grid if spacing_mm is None else full.grid.with_spacing(spacing_mm)
    if drawn:
        data = resample_array(full.channel.astype(np.int16), full.grid, grid, interpolation="nearest")
    else:
        whole = full.with_data(full.channel.astype(np.float32))
        data = (whole if spacing_mm is None else coarsen_image(whole, spacing_mm)).channel
    skull_stripped = full.modality is not None and name != "colin27"
    mask = data > 0.02 * data.max() if skull_stripped else None
    data.setflags(write=False)
    return Image(data[None], grid, mask, modality=full.modality)


@pytest.fixture(scope="session")
def volume() -> Volume:
    """``volume(name, spacing_mm=None) -> Image``: one of ``datasets.packaged``; do not write to it."""
    return real_volume


@pytest.fixture(scope="session")
def volume_file(tmp_path_factory: pytest.TempPathFactory) -> VolumeFile:
    """``volume_file(name, spacing_mm=None) -> Path``: the same as a NIfTI file; do not write to it."""
    import SimpleITK as sitk

    from regflow.core.resample import to_sitk_image

    folder = tmp_path_factory.mktemp("volumes")

    @cache
    def path_of(name: str, spacing_mm: float | None = None) -> Path:
        image = real_volume(name, spacing_mm)
        path = folder / f"{name}-{spacing_mm or 'full'}mm.nii.gz"
        sitk.WriteImage(to_sitk_image(image.channel, image.grid), str(path))
        return path

    return path_of


@pytest.fixture(scope="session")
def mni_4mm() -> Image:
    """MNI152 NLin2009cAsym brain at 4 mm, 49x58x49."""
    return real_volume("mni2009c", 4.0)


@pytest.fixture(scope="session")
def mni_3mm() -> Image:
    """MNI152 NLin2009cAsym brain at 3 mm."""
    return real_volume("mni2009c", 3.0)


@pytest.fixture(scope="session")
def mni_2mm() -> Image:
    """MNI152 NLin2009cAsym brain at 2 mm."""
    return real_volume("mni2009c", 2.0)


@pytest.fixture(scope="session")
def mni6_4mm() -> Image:
    """MNI152 NLin6Asym brain at 4 mm: another average of other heads, stored left to right."""
    return real_volume("mni6", 4.0)


@pytest.fixture(scope="session")
def icbm_4mm() -> Image:
    """ICBM152 2009a symmetric brain at 4 mm."""
    return real_volume("icbm2009a", 4.0)


@pytest.fixture(scope="session")
def colin_4mm() -> Image:
    """Colin27 at 4 mm, one real head with its skull; skips where mricron-data is not installed."""
    return real_volume("colin27", 4.0)


@pytest.fixture(scope="session")
def colin_brain_4mm() -> Image:
    """Colin27's brain at 4 mm; skips where mricron-data is not installed."""
    return real_volume("colin27-brain", 4.0)


@pytest.fixture(scope="session")
def nibabel_data() -> Path:
    """The folder of small real NIfTI files that comes with nibabel (anatomical.nii, example4d.nii.gz)."""
    spec = find_spec("nibabel")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "tests" / "data"
