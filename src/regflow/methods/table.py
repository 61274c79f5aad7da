"""What a row of a method table holds, and how a method's options are completed and checked."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regflow.core.errors import RegistrationError, SettingError
from regflow.core.image import Image
from regflow.core.json_schema import fill_defaults
from regflow.core.names import find_nearest_name
from regflow.core.transform import Transform, is_reflecting
from regflow.methods.context import Pair, Prediction, RunContext
from regflow.methods.result import MethodResult

RunMethod = Callable[[Image, Image, Transform, Mapping[str, Any], RunContext], Transform | MethodResult]
"""A method of the stages initialize and refine: fixed, moving, initial transform, options, context."""

PredictPairs = Callable[[Sequence[Pair], Mapping[str, Any], RunContext, int], list[Prediction]]
"""Asks a network about several pairs: the pairs, the method's options, the context, most pairs at a time."""

ChooseMethod = Callable[[Image, Image | None], tuple[str, str]]
"""Names the row to take for an image, given the fixed one (None for the fixed itself), and the reason."""


@dataclass(frozen=True)
class Method:
    """One row of a table of methods.

    Attributes:
        target: ``"package.module:function"``, imported when the method first runs, so that a job
            pays only for the libraries it uses.
        summary: one sentence for the documentation and the report's methods paragraph.
        citation: the paper or tool behind it; empty when there is none.
        options: JSON schema properties of its options, each with ``description`` and ``default``.
        kinds: the kinds of image it serves: ``volumes``, ``rasters``.
        variants: by kind, the row that stands in its place where function or options differ.
        networks: by dimensions of the images, the name in ``resources/weights`` of the trained network that
            it asks where its option ``weights`` names none; its results depend on the file. Empty where none
            is shipped.
        predict: ``"package.module:function"`` that asks its network about several pairs at once, see
            :data:`PredictPairs`; the answers then come in by the context. Empty where there is none.
        libraries: modules that the function imports when it runs, and which take seconds: a stage may import
            them beside other work.
        gpu: whether it computes on a GPU where there is one, unless its option ``device`` says ``cpu``.
        choose: ``"package.module:function"`` that names, from the image and the fixed one, the row to take
            in this one's place, and the reason. Empty where this one is to be taken.
        registers: of a preprocessing step, whether it registers with the finished fixed image.
        aligns_mirror: whether the mirror image of a moving image is aligned by it, to see whether it fits
            better: with the options ``orientations`` and ``samples_across``, in two and three dimensions.
        compile_options: what of its options to give to runs that meet all of the kernels that no other method
            compiles, one run each, on small volumes; empty where it has no kernels of its own.
    """

    target: str
    summary: str
    citation: str = ""
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    kinds: tuple[str, ...] = ("volumes",)
    variants: Mapping[str, "Method"] = field(default_factory=dict)
    networks: Mapping[int, str] = field(default_factory=dict)
    predict: str = ""
    libraries: tuple[str, ...] = ()
    gpu: bool = False
    choose: str = ""
    registers: bool = False
    aligns_mirror: bool = False
    compile_options: tuple[Mapping[str, Any], ...] = ()

    @property
    def modules(self) -> list[str]:
        """The modules that its functions are imported from."""
        return [name.partition(":")[0] for name in (self.target, self.predict, self.choose) if name]

    def load(self) -> RunMethod:
        """Import and return the function ``(fixed, moving, initial, options, context)``."""
        run: RunMethod = _imported(self.target)
        return run

    def load_predict(self) -> PredictPairs | None:
        """Import and return the function that asks about several pairs; None where there is none."""
        return _imported(self.predict) if self.predict else None

    def load_choose(self) -> ChooseMethod | None:
        """Import and return the function that chooses another row; None where there is none."""
        return _imported(self.choose) if self.choose else None

    def complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options with defaults filled in for what is not given; see :func:`check_options`."""
        return fill_defaults(self.options, given)


def _imported(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def list_methods_of_kind(table: Mapping[str, Method], kind: str) -> dict[str, Method]:
    """Return the methods that serve one kind of image, ``volumes`` or ``rasters``, in the table's order."""
    chosen = {name: method.variants.get(kind, method) for name, method in table.items()}
    return {name: method for name, method in chosen.items() if kind in method.kinds}


def wants_gpu(table: Mapping[str, Method], kind: str, section: Mapping[str, Any]) -> bool:
    """Tell whether a ladder has a method that computes on a GPU where there is one.

    Args:
        table: the stage's methods.
        kind: ``volumes`` or ``rasters``.
        section: the stage's section of the configuration: ``methods``, and ``options`` by method.
    """
    known = list_methods_of_kind(table, kind)
    return any(
        known[name].gpu and known[name].complete(section["options"].get(name, {}))["device"] != "cpu"
        for name in section["methods"]
    )


def run_method(
    method: Method,
    fixed: Image,
    moving: Image,
    initial: Transform,
    options: Mapping[str, Any],
    context: RunContext,
) -> MethodResult:
    """Run a method of the stages initialize and refine; no mirror image of what it began with gets out.

    Raises:
        RegistrationError: the method found nothing, or a reflection, which no body and no ground undergoes.
    """
    found = method.load()(fixed, moving, initial, options, context)
    result = found if isinstance(found, MethodResult) else MethodResult(found)
    if is_reflecting(result.transform) != is_reflecting(initial):
        raise RegistrationError("the transform found is a mirror image (its determinant is not above 0)")
    return result


def find_method(table: Mapping[str, Method], name: str, stage: str) -> Method:
    """Return a method by name.

    Raises:
        SettingError: the table has no such method; the message names the nearest one.
    """
    if name in table:
        return table[name]
    known = ", ".join(sorted(table))
    near = find_nearest_name(name, table)
    raise SettingError(f"{stage}: unknown method '{name}'; did you mean '{near}'? Known methods: {known}")


def check_options(name: str, method: Method, given: Mapping[str, Any], stage: str) -> None:
    """Refuse options that a method does not have.

    Raises:
        SettingError: one of them is unknown; the message names it and those there are.
    """
    unknown = sorted(set(given) - set(method.options))
    if unknown:
        known = ", ".join(method.options) or "none"
        raise SettingError(f"{stage}: {name} has no option '{unknown[0]}'; its options: {known}")
