"""The section ``series`` of a configuration: which images of a series are linked, and what they go onto."""

from regflow.core.json_schema import Schema, define_option, define_section

MODELS = {"rasters": ("translation", "similarity", "affine"), "volumes": ("rigid", "affine")}
"""Kinds of maps by kind of images, the default first."""
MEAN = "mean"
MOTIONS = ("remove", "smooth")


def define_series_schema(kind: str) -> Schema:
    """Return the JSON schema of the section for a kind of images."""
    deform = define_option(
        "boolean",
        False,
        "also deform the first session to each other one, as refine says, and measure by how much "
        "volume changed",
    )
    return define_section(
        "images of one place or subject over time: regflow series",
        steps={
            "type": ["array", "null"],
            "items": {"type": "integer", "minimum": 1},
            "minItems": 1,
            "description": "how many places apart images are registered to one another; null: all pairs of "
            "up to 8 images, else 1, 2 and 4",
            "default": None,
        },
        hub=define_option(
            "boolean",
            True,
            "also register all images to the one of which most is valid",
        ),
        model={
            "enum": list(MODELS[kind]),
            "description": "of the map of each image",
            "default": MODELS[kind][0],
        },
        onto=define_option(
            "string",
            MEAN,
            "name of the image that all others are brought onto; mean: the middle of all",
        ),
        motion={
            "enum": list(MOTIONS),
            "description": "remove: all images come to lie on one another; smooth: jitter is removed, and "
            "slow motion kept",
            "default": MOTIONS[0],
        },
        motion_width=define_option(
            "number",
            3.0,
            "of smooth motion: standard deviation of the weights of the images around each, in images",
            exclusiveMinimum=0,
        ),
        cutoff=define_option(
            "number",
            4.0,
            "residual in units of its uncertainty from which a link contradicts the others and is dropped",
            exclusiveMinimum=0,
        ),
        **({"deform": deform} if kind == "volumes" else {}),
    )
