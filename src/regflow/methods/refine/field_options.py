"""Rows of the methods that ask a small network for a displacement, importable without torch."""

from typing import Any

from regflow.methods.table import Method

NETWORKS: dict[str, dict[int, str]] = {
    "unet": {2: "unet-2d"},
    "dirnet": {2: "dirnet-2d"},
    "quicksilver": {2: "quicksilver-2d"},
    "agent-modes": {2: "agent-modes-2d"},
}
"""By method and dimensions, the network in ``resources/weights``, where one comes along."""
ARCHITECTURE_OF: dict[str, str] = {
    "unet": "field-unet",
    "dirnet": "control-points",
    "quicksilver": "momenta",
    "agent-modes": "mode-values",
}
LEARNED_FIELD: dict[str, dict[str, Any]] = {
    "weights": {
        "type": ["string", "null"],
        "description": "trained network: a .safetensors file, or the name of one in resources/weights; null "
        "takes the shipped one of the images' dimensions, where there is one",
        "default": None,
    },
}


def make_learned_row(method: str, summary: str, citation: str) -> Method:
    """Return the row of a method that asks a small network for a displacement."""
    return Method(
        f"regflow.methods.refine.learned_fields:{method.replace('-', '_')}",
        summary,
        citation,
        LEARNED_FIELD,
        kinds=("volumes", "rasters"),
        networks=NETWORKS[method],
    )
