"""What a row of a method table holds, and how a method's options are completed and checked."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from regflow.core.errors import RegistrationError, SettingError
from regflow.core.image import Image
from regflow.core.json_schema import fill_defaults
from regflow.core.names import nearest
from regflow.core.transform import Transform, reflects

Run = Callable[[Image, Image, Transform, Mapping[str, Any]], Transform]


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
    """

    target: str
    summary: str
    citation: str = ""
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    kinds: tuple[str, ...] = ("volumes",)
    variants: Mapping[str, "Method"] = field(default_factory=dict)

    def load(self) -> Run:
        """Import and return the function ``(fixed, moving, initial, options) -> Transform``."""
        module, _, name = self.target.partition(":")
        run: Run = getattr(importlib.import_module(module), name)
        return run

    def complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options with defaults filled in for what is not given; see :func:`check_options`."""
        return fill_defaults(self.options, given)


def of_kind(table: Mapping[str, Method], kind: str) -> dict[str, Method]:
    """Return the methods that serve one kind of image, ``volumes`` or ``rasters``, in the table's order."""
    chosen = {name: method.variants.get(kind, method) for name, method in table.items()}
    return {name: method for name, method in chosen.items() if kind in method.kinds}


def wants_gpu(table: Mapping[str, Method], kind: str, section: Mapping[str, Any]) -> bool:
    """Tell whether a ladder has a method that computes on a GPU where there is one.

    Those are the methods with an option ``device``, unless it says ``cpu``.

    Args:
        table: the stage's methods.
        kind: ``volumes`` or ``rasters``.
        section: the stage's section of the configuration: ``methods``, and ``options`` by method.
    """
    known = of_kind(table, kind)
    devices = (
        known[name].complete(section["options"].get(name, {})).get("device", "cpu")
        for name in section["methods"]
    )
    return any(device != "cpu" for device in devices)


def find_transform(
    method: Method, fixed: Image, moving: Image, initial: Transform, options: Mapping[str, Any]
) -> Transform:
    """Run a method of the stages initialize and refine; no mirror image of what it began with gets out.

    Raises:
        RegistrationError: the method found nothing, or a reflection, which no body and no ground undergoes.
    """
    found = method.load()(fixed, moving, initial, options)
    if reflects(found) != reflects(initial):
        raise RegistrationError("the transform found is a mirror image (its determinant is not above 0)")
    return found


def find(table: Mapping[str, Method], name: str, stage: str) -> Method:
    """Return a method by name.

    Raises:
        SettingError: the table has no such method; the message names the nearest one.
    """
    if name in table:
        return table[name]
    known = ", ".join(sorted(table))
    raise SettingError(
        f"{stage}: unknown method '{name}'; did you mean '{nearest(name, table)}'? Known methods: {known}"
    )


def check_options(name: str, method: Method, given: Mapping[str, Any], stage: str) -> None:
    """Refuse options that a method does not have.

    Raises:
        SettingError: one of them is unknown; the message names it and those there are.
    """
    unknown = sorted(set(given) - set(method.options))
    if unknown:
        known = ", ".join(method.options) or "none"
        raise SettingError(f"{stage}: {name} has no option '{unknown[0]}'; its options: {known}")
