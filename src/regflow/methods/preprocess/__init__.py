"""The tables of preprocessing functions, and the part of the configuration's schema they make.

A row's function is ``(image, reference, options, context) -> Image``: it gets the moving (or fixed) image
and, for a moving image, the preprocessed fixed image as reference, and returns the image with
other samples or another mask. ``options`` arrive complete. A row whose ``target`` is empty leaves the
image as it is.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

from regflow.core.image import Image
from regflow.methods.context import RunContext
from regflow.methods.table import Method, find_method

Filter = Callable[[Image, Image | None, Mapping[str, Any], RunContext], Image]

_HERE = "regflow.methods.preprocess"
_NONE = Method("", "Leave the image as it is.")

MASKS = {
    "auto": Method(
        "",
        "The given mask; else from the atlas for a whole head; else the foreground.",
        choose=f"{_HERE}.masks:choose_method",
    ),
    "given": Method(f"{_HERE}.masks:given_mask", "Use the mask that came with the image."),
    "foreground": Method(
        f"{_HERE}.masks:foreground",
        "Tell the object from the background: what differs from a constant background, else Otsu's "
        "threshold with morphology.",
        "Otsu, IEEE Trans. Syst. Man Cybern. 9(1):62-66, 1979",
        {
            "threshold": {
                "type": ["number", "null"],
                "description": "intensity above which a sample is foreground; null finds one (Otsu)",
                "default": None,
            },
            "opening_mm": {
                "type": ["number", "null"],
                "minimum": 0,
                "description": "radius of the opening that cuts off thin or small things (a bed, a coil); "
                "null takes 2% of the object's size, the diameter of a ball of its volume: 4 mm for a head",
                "default": None,
            },
            "closing_mm": {
                "type": ["number", "null"],
                "minimum": 0,
                "description": "radius of the closing that bridges dark gaps in a thresholded image; null "
                "takes 4% of the object's size",
                "default": None,
            },
        },
    ),
    "atlas": Method(
        f"{_HERE}.atlas_mask:atlas",
        "Carry the fixed image's mask over by a coarse registration, then fit it to the image's edges.",
        "",
        {
            "initializer": {
                "type": "string",
                "description": "method of the initialize stage that finds the coarse affine",
                "default": "mutual-information",
            },
            "refine_mm": {
                "type": ["number", "null"],
                "minimum": 0,
                "description": "how far the carried mask's border may retreat to the organ's edge, for "
                "instance from the skull; 0 keeps it as carried; null takes 5% of the organ's size: 8 mm "
                "for a brain",
                "default": None,
            },
            "margin_mm": {
                "type": "number",
                "minimum": 0,
                "description": "dilation of the mask at the end",
                "default": 0.0,
            },
            "strip": {
                "type": "boolean",
                "description": "blank the image outside the mask where the fixed image is blank outside "
                "its own (a skull-stripped template)",
                "default": True,
            },
        },
        registers=True,
    ),
    "none": Method(f"{_HERE}.masks:full_mask", "Every sample may steer the registration."),
}

BIAS = {
    "n4": Method(
        f"{_HERE}.bias:n4",
        "Divide by the smooth multiplicative field that N4 finds inside the mask.",
        "Tustison et al., IEEE Trans. Med. Imaging 29(6):1310-1320, 2010",
        {
            "sample_mm": {
                "type": ["number", "null"],
                "exclusiveMinimum": 0,
                "description": "spacing to which the image is shrunk to find the field; null takes 2.5% of "
                "the mask's size: 4 mm for a brain",
                "default": None,
            },
            "iterations": {
                "type": "array",
                "items": {"type": "integer", "minimum": 1},
                "minItems": 1,
                "description": "most iterations per fitting level; each level halves the spacing of the "
                "spline's control points",
                "default": [50, 50, 30],
            },
            "convergence": {
                "type": "number",
                "exclusiveMinimum": 0,
                "description": "change of the field at which a level ends",
                "default": 0.001,
            },
        },
    ),
    "none": _NONE,
}

DENOISE = {
    "none": _NONE,
    "curvature": Method(
        f"{_HERE}.denoise:curvature",
        "Smooth along level sets (curvature flow).",
        "Sethian, Level Set Methods and Fast Marching Methods, Cambridge, 1999",
        {
            "iterations": {
                "type": "integer",
                "minimum": 1,
                "description": "steps of the flow",
                "default": 5,
            },
            "time_step": {
                "type": "number",
                "exclusiveMinimum": 0,
                "maximum": 0.125,
                "description": "step size; stable up to 1/16 in 3-D and 1/8 in 2-D",
                "default": 0.0625,
            },
        },
    ),
    "median": Method(
        f"{_HERE}.denoise:median",
        "Replace each sample by the median around it.",
        "",
        {
            "radius": {
                "type": "integer",
                "minimum": 1,
                "description": "half width of the box, in samples",
                "default": 1,
            }
        },
    ),
    "nlm": Method(
        f"{_HERE}.denoise:nonlocal_means",
        "Average samples whose patches look alike (non-local means).",
        "Coupe et al., IEEE Trans. Med. Imaging 27(4):425-441, 2008",
        {
            "strength": {
                "type": "number",
                "exclusiveMinimum": 0,
                "description": "multiple of the estimated noise up to which patches count as alike",
                "default": 1.0,
            },
            "search": {
                "type": "integer",
                "minimum": 1,
                "description": "half width of the search box, in samples",
                "default": 2,
            },
            "patch": {
                "type": "integer",
                "minimum": 0,
                "description": "half width of a patch, in samples",
                "default": 1,
            },
        },
    ),
}

INTENSITY = {
    "percentile": Method(
        f"{_HERE}.intensity:percentile",
        "Bring two percentiles inside the mask to 0 and 1 and clip what lies beyond.",
        "",
        {
            "low": {
                "type": "number",
                "minimum": 0,
                "maximum": 100,
                "description": "percentile that becomes 0",
                "default": 0.5,
            },
            "high": {
                "type": "number",
                "minimum": 0,
                "maximum": 100,
                "description": "percentile that becomes 1",
                "default": 99.5,
            },
            "window": {
                "type": ["array", "null"],
                "items": {"type": "number"},
                "minItems": 2,
                "maxItems": 2,
                "description": "intensities to use instead of the two percentiles, as [-100, 200] for CT",
                "default": None,
            },
        },
    ),
    "zscore": Method(
        f"{_HERE}.intensity:zscore", "Subtract the mean and divide by the standard deviation inside the mask."
    ),
    "histogram": Method(
        f"{_HERE}.intensity:histogram",
        "Match the quantiles inside the mask to the fixed image's (same contrast only); the fixed image "
        "itself is scaled by percentile.",
        "Nyul et al., IEEE Trans. Med. Imaging 19(2):143-150, 2000",
        {
            "quantiles": {
                "type": "integer",
                "minimum": 2,
                "description": "matched quantiles, evenly spaced",
                "default": 101,
            }
        },
    ),
    "none": _NONE,
}

TABLES: dict[str, dict[str, Method]] = {
    "mask": MASKS,
    "denoise": DENOISE,
    "bias": BIAS,
    "intensity": INTENSITY,
}
"""The switchable steps in the order in which they run, after orientation and resampling."""

_DEFAULTS = {"mask": "auto", "denoise": "none", "bias": "n4", "intensity": "percentile"}
_SUMMARIES = {
    "mask": "which samples may steer the registration",
    "denoise": "noise reduction, before the bias field because noise is even there",
    "bias": "correction of the receive coil's smooth shading, inside the mask",
    "intensity": "robust normalization of the intensities, inside the mask",
}


def load_filter(kind: str, name: str) -> Filter | None:
    """Import and return a step's function; None when the step leaves the image as it is.

    Raises:
        InputError: the table has no such method; the message names the nearest one.
    """
    method = find_method(TABLES[kind], name, f"preprocess: {kind}")
    return cast(Filter, method.load()) if method.target else None


def complete_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``preprocess`` settings with defaults for everything that is not given."""
    full: dict[str, Any] = {"orient": True, "spacing_mm": None, **settings}
    for kind, table in TABLES.items():
        given = settings.get(kind, {})
        options = given.get("options", {})
        full[kind] = {
            "method": given.get("method", _DEFAULTS[kind]),
            "options": {
                name: method.complete(options.get(name, {}))
                for name, method in table.items()
                if method.options
            },
        }
    return full


def define_preprocess_schema() -> dict[str, Any]:
    """Return the JSON schema of the configuration's ``preprocess`` section."""
    properties: dict[str, Any] = {
        "orient": {
            "type": "boolean",
            "description": "turn the array's axes to run nearest to left, posterior, superior; "
            "no sample changes",
            "default": True,
        },
        "spacing_mm": {
            "type": ["number", "array", "null"],
            "exclusiveMinimum": 0,
            "items": {"type": "number", "exclusiveMinimum": 0},
            "minItems": 2,
            "maxItems": 3,
            "description": "spacing of the working grid, one number or [x, y, z]; null keeps the fixed "
            "image's own, and the moving image's own where it is not finer than that",
            "default": None,
        },
    }
    for kind, table in TABLES.items():
        properties[kind] = _kind_schema(kind, table)
    return {
        "type": "object",
        "description": "what is done to the working copies that steer the registration, "
        "never to the products",
        "additionalProperties": False,
        "properties": properties,
        "default": {},
    }


def _kind_schema(kind: str, table: Mapping[str, Method]) -> dict[str, Any]:
    options = {
        name: {
            "type": "object",
            "description": method.summary,
            "additionalProperties": False,
            "properties": {key: dict(entry) for key, entry in method.options.items()},
            "default": {},
        }
        for name, method in table.items()
        if method.options
    }
    return {
        "type": "object",
        "description": _SUMMARIES[kind],
        "additionalProperties": False,
        "properties": {
            "method": {
                "enum": list(table),
                "description": "; ".join(f"{name}: {method.summary}" for name, method in table.items()),
                "default": _DEFAULTS[kind],
            },
            "options": {
                "type": "object",
                "description": "each method's own options, by its name",
                "additionalProperties": False,
                "properties": options,
                "default": {},
            },
        },
        "default": {},
    }
