"""A method that goes on from the field of another one, in one row of a ladder."""

from collections.abc import Mapping
from typing import Any

from regflow.core.image import Image
from regflow.core.transform import Composite, Transform
from regflow.methods.context import RunContext
from regflow.methods.result import MethodResult
from regflow.methods.table import check_options


def refine_further(
    name: str, fixed: Image, moving: Image, start: Composite, options: Mapping[str, Any], context: RunContext
) -> Transform | MethodResult:
    """Let the method that the option ``refinement`` names go on from a field.

    Args:
        name: of the method that found the field, for messages.
        fixed: the fixed image.
        moving: the moving image.
        start: a displacement field, then the initial transform.
        options: ``refinement``, ``refinement_options`` and, where it may compute on a GPU, ``device``.
        context: of the run.

    Raises:
        SettingError: ``refinement_options`` are none of that method's.
        RegistrationError: that method finds nothing.
    """
    from regflow.methods.refine import METHODS

    chosen = options["refinement"]
    if chosen == "none":
        return start
    row = METHODS[chosen]
    check_options(chosen, row, options["refinement_options"], f"{name}: refinement_options")
    device = {"device": options["device"]} if row.gpu else {}
    completed = row.complete({**device, **options["refinement_options"]})
    return row.load()(fixed, moving, start, completed, context)
