"""Real volumes of installed packages, read."""

from dataclasses import replace

from regflow.core.image import Image
from regflow.datasets.packaged import SOURCES, require_source


def load_volume(name: str) -> Image:
    """Read a volume as ``(1, Z, Y, X)`` in the type it is stored in.

    Raises:
        InputError: its package is not installed.
    """
    from regflow.io.volumes import read_volume

    return replace(read_volume(require_source(name)), modality=SOURCES[name].modality)
