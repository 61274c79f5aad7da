"""Representations: what of a scene's samples the methods compare, and the schema of ``preprocess``.

A row's function is ``(values, valid, options) -> values``: it gets a window ``(C, h, w)`` float32 that
is wider than wanted by the row's margin on each side, with its validity, and returns the same window.
Each of its results may depend on samples within the margin alone, so that windows agree with the
whole. The row ``intensity`` has no function: the samples stay as they are.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from regflow.core.json_schema import define_option, define_section
from regflow.methods.table import Method, find_method

Represent = Callable[[NDArray[np.float32], NDArray[np.bool_], Mapping[str, Any]], NDArray[np.float32]]

Margin = Callable[[Mapping[str, Any]], int]

_HERE = "regflow.methods.representation"

METHODS: dict[str, Method] = {
    "intensity": Method("", "Compare the samples as they are.", kinds=("rasters",)),
    "gradient": Method(
        f"{_HERE}.gradient:gradient",
        "Compare the strength of edges, whatever side is brighter.",
        options={
            "sigma": {
                "type": "number",
                "exclusiveMinimum": 0,
                "maximum": 16,
                "description": "smoothing before the differences, in working pixels",
                "default": 1.5,
            }
        },
        kinds=("rasters",),
    ),
    "phase-congruency": Method(
        f"{_HERE}.phase_congruency:phase_congruency",
        "Compare where structures of all sizes agree in phase: edges and lines by their shape, "
        "whatever their contrast.",
        "Kovesi, Videre 1(3):1-26, 1999; Freeman and Adelson, IEEE TPAMI 13(9):891-906, 1991",
        {
            "scales": {
                "type": "integer",
                "minimum": 2,
                "maximum": 5,
                "description": "sizes of structures, each twice the last",
                "default": 3,
            },
            "orientations": {
                "type": "integer",
                "minimum": 2,
                "maximum": 12,
                "description": "directions in which phases are compared",
                "default": 6,
            },
            "noise": {
                "type": "number",
                "minimum": 0,
                "description": "energy, in parts of the average around, that counts as noise",
                "default": 0.5,
            },
        },
        kinds=("rasters",),
    ),
}


def load_representation(name: str) -> tuple[Represent, Margin]:
    """Import a representation's function and the one that tells its margin in samples.

    Raises:
        InputError: the table has no such method; the message names the nearest one.
    """
    import importlib

    method = find_method(METHODS, name, "preprocess: representation")
    margin: Margin = importlib.import_module(method.target.partition(":")[0]).find_margin
    return cast(Represent, method.load()), margin


def define_preprocess_schema() -> dict[str, Any]:
    """Return the JSON schema of the configuration's ``preprocess`` section."""
    options = {
        name: define_section(method.summary, **method.options)
        for name, method in METHODS.items()
        if method.options
    }
    return define_section(
        "the working scenes that steer the registration, never the products",
        spacing=define_option(
            ["number", "null"],
            None,
            "spacing of the working scenes in units of the fixed scene's CRS, finer ones are averaged; "
            "null takes the coarser of the two scenes'",
            exclusiveMinimum=0,
        ),
        overview=define_option(
            "integer",
            1024,
            "longest side in pixels of the copies that the initialize stage sees",
            minimum=64,
            maximum=16384,
        ),
        weights=define_option(
            ["array", "null"],
            None,
            "one number per band to match on, whose sum of products is compared; null takes the mean",
            items={"type": "number"},
            minItems=1,
        ),
        height=define_option(
            ["number", "null"],
            None,
            "height of the ground in meters above the ellipsoid, for scenes with RPCs; null takes the "
            "middle height the RPCs are made for",
        ),
        dem=define_option(["string", "null"], None, "raster of heights, for scenes with RPCs"),
        representation=define_section(
            "what of the samples is compared",
            method={
                "enum": list(METHODS),
                "description": "; ".join(f"{name}: {m.summary.rstrip('.')}" for name, m in METHODS.items()),
                "default": "intensity",
            },
            options=define_section("each method's own options, by its name", **options),
        ),
    )
