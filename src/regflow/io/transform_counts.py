"""Whether a transform file holds as many numbers as its transforms have parameters.

ITK takes that for granted: of a file that is cut off it reads past the end of what is there, which gives
other transforms or ends the process.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from regflow.core.errors import InputError
from regflow.io.text_files import parse_number, read_text

_REMEDY = "write it as ITK .h5 or .tfm again"
_OF_ANY_DIMENSION = ("AffineTransform", "ScaleTransform", "TranslationTransform")
_OF_ONE = (
    "ComposeScaleSkewVersor3DTransform",
    "Euler2DTransform",
    "Euler3DTransform",
    "ScaleSkewVersor3DTransform",
    "ScaleVersor3DTransform",
    "Similarity2DTransform",
    "Similarity3DTransform",
    "VersorRigid3DTransform",
    "VersorTransform",
)
_FIELD = "DisplacementFieldTransform"


class _TransformPart(NamedTuple):
    """What a file says of one transform: ``Euler3DTransform_double_3_3``, and its numbers."""

    kind: str
    parameters: int
    fixed: list[float]


def refuse_incomplete(path: Path) -> None:
    """Refuse an ITK transform file, text or HDF5, whose numbers are too few, too many or no numbers.

    Files of other formats are left to ITK.

    Raises:
        InputError: naming the file and the transform.
    """
    ending = path.suffix.lower()
    if ending in (".tfm", ".txt"):
        parts = list(_parts_of_text(path))
    elif ending in (".h5", ".hdf5"):
        parts = list(_parts_of_hdf5(path))
    else:
        return
    for part in parts:
        name, _, rest = part.kind.partition("_")
        wanted = _expected(name, rest.rpartition("_")[2], part.fixed)
        if wanted is not None and not (part.parameters in wanted[0] and len(part.fixed) in wanted[1]):
            raise InputError(
                f"{path}: its {name} has {part.parameters} parameters, but {wanted[0][-1]} belong to it, and "
                f"{len(part.fixed)} fixed ones, to which {wanted[1][-1]} belong; {_REMEDY}"
            )


def _expected(name: str, dimension: str, fixed: list[float]) -> tuple[range, range] | None:
    """Return how many parameters and fixed ones a transform may have; None for kinds that ITK checks."""
    import SimpleITK as sitk

    ndim = int(dimension) if dimension in ("2", "3") else None
    if name == _FIELD and ndim is not None:
        sizes = np.array(fixed[:ndim])
        samples = int(sizes.prod()) if np.isfinite(sizes).all() and (sizes >= 1).all() else 0
        return _exactly(samples * ndim), _exactly(ndim * (3 + ndim))
    if name not in _OF_ONE and not (name in _OF_ANY_DIMENSION and ndim is not None):
        return None
    model = getattr(sitk, name)(*([ndim] if name in _OF_ANY_DIMENSION else []))
    most = len(model.GetFixedParameters())
    # Older files end with the center, before what later versions of ITK add.
    return _exactly(model.GetNumberOfParameters()), range(min(most, model.GetDimension()), most + 1)


def _exactly(count: int) -> range:
    return range(count, count + 1)


def _parts_of_text(path: Path) -> Iterator[_TransformPart]:
    kind = ""
    counts: dict[str, list[float]] = {}
    for line in [*read_text(path, _REMEDY).splitlines(), "Transform:"]:
        key, _, rest = line.partition(":")
        if key == "Transform":
            if kind:
                yield _TransformPart(
                    kind, len(counts.get("Parameters", [])), counts.get("FixedParameters", [])
                )
            kind, counts = rest.strip(), {}
        elif key in ("Parameters", "FixedParameters"):
            counts[key] = _numbers(path, rest)


def _numbers(path: Path, text: str) -> list[float]:
    try:
        return [parse_number(word) for word in text.split()]
    except ValueError as error:
        raise InputError(f"{path}: a parameter is not a number ({error}); {_REMEDY}") from error


def _parts_of_hdf5(path: Path) -> Iterator[_TransformPart]:
    import h5py

    try:
        with h5py.File(path, "r") as store:
            for group in store["TransformGroup"].values():
                kind = group["TransformType"][()][0]
                parameters, fixed = (_dataset(group, name) for name in ("Parameters", "FixedParameters"))
                listed = [] if fixed is None else np.asarray(fixed[()], dtype=np.float64).ravel().tolist()
                yield _TransformPart(_text(kind), 0 if parameters is None else int(parameters.size), listed)
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a transform that ITK wrote ({error}); {_REMEDY}") from error


def _dataset(group: Any, name: str) -> Any:
    """Return a dataset of numbers; ITK before 4.9 misspelled their names."""
    return next((group[start + name] for start in ("Transform", "Tranform") if start + name in group), None)


def _text(kind: Any) -> str:
    return kind.decode("ascii", "replace") if isinstance(kind, bytes) else str(kind)
