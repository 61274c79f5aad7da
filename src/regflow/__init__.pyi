from regflow.api import apply_transform, compare, detect_changes, read_transform, register
from regflow.core.errors import InputError, RegistrationError
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.transform import Affine, Composite, DisplacementField, Homography, Transform
from regflow.pipeline.compare import ComparisonResult
from regflow.pipeline.mosaic import MosaicResult, stitch_mosaic
from regflow.pipeline.results import ChangeResult, RegistrationResult
from regflow.pipeline.series_objects import SeriesResult, align_series
from regflow.pipeline.stack import assemble_stack
from regflow.pipeline.stack_products import StackResult
from regflow.pipeline.template import TemplateResult
from regflow.pipeline.template_objects import build_template

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

__version__: str
