"""Registration of medical volumes and satellite rasters, from a sample sheet to a report.

``import regflow as rf`` costs next to nothing: each name is loaded when it is first used.

>>> import regflow as rf
>>> rf.Affine.identity(3).apply([[1.0, 2.0, 3.0]])
array([[1., 2., 3.]])
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PLACES = {
    "register": "api",
    "compare": "api",
    "apply_transform": "api",
    "detect_changes": "api",
    "align_series": "pipeline.series_objects",
    "build_template": "pipeline.template_objects",
    "read_transform": "api",
    "stitch_mosaic": "pipeline.mosaic",
    "assemble_stack": "pipeline.stack",
    "StackResult": "pipeline.stack_products",
    "MosaicResult": "pipeline.mosaic",
    "RegistrationResult": "pipeline.results",
    "ChangeResult": "pipeline.results",
    "ComparisonResult": "pipeline.compare",
    "SeriesResult": "pipeline.series_objects",
    "TemplateResult": "pipeline.template",
    "Grid": "core.grid",
    "Image": "core.image",
    "Transform": "core.transform",
    "Affine": "core.transform",
    "Homography": "core.transform",
    "DisplacementField": "core.transform",
    "Composite": "core.transform",
    "InputError": "core.errors",
    "RegistrationError": "core.errors",
}
"""Module of each public name, as in ``__init__.pyi``."""

__all__ = [
    "Affine",
    "ChangeResult",
    "ComparisonResult",
    "Composite",
    "DisplacementField",
    "Grid",
    "Homography",
    "Image",
    "InputError",
    "MosaicResult",
    "RegistrationError",
    "RegistrationResult",
    "SeriesResult",
    "StackResult",
    "TemplateResult",
    "Transform",
    "align_series",
    "apply_transform",
    "assemble_stack",
    "build_template",
    "compare",
    "detect_changes",
    "read_transform",
    "register",
    "stitch_mosaic",
]


def __getattr__(name: str) -> Any:
    """Load a public name."""
    if name not in _PLACES:
        raise AttributeError(f"module 'regflow' has no attribute '{name}'")
    value = getattr(import_module(f"regflow.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
