"""Which network of VoxelMorph is taken; light, for the workflow's rules."""

from pathlib import Path

from regflow.core.errors import RegistrationError
from regflow.methods.weight_files import SUFFIX, find_weight_file

SHIPPED = {2: "scenes2d", 3: "volumes3d"}
"""Name of the network in ``resources/weights`` that is taken when none is named, by dimensions."""


def find_weights(name: str | None, ndim: int | None = None) -> Path:
    """Return the file of a network, given its path or its name in ``resources/weights``.

    Args:
        name: path or name; None for the shipped network of ``ndim``.
        ndim: of the images.

    Raises:
        RegistrationError: none is named or the file is missing, so that a ladder goes on.
    """
    name = name or SHIPPED.get(ndim or 0)
    if not name:
        raise RegistrationError(
            f"no network of {ndim} dimensions is shipped; set refine.options.voxelmorph.weights to a "
            f"{SUFFIX} file, or take voxelmorph out of refine.methods"
        )
    return find_weight_file(name)
