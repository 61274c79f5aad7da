"""Options of the networks that see scenes as square crops: light, for the table and the schema."""

from typing import Any


def _define_options(cascade: int, seeks: str) -> dict[str, dict[str, Any]]:
    """Return the options of a row.

    Args:
        cascade: default of how often the network is asked.
        seeks: what ``model`` says.
    """
    return {
        "model": {"enum": ["affine", "homography"], "description": seeks, "default": "homography"},
        "cascade": {
            "type": "integer",
            "minimum": 1,
            "maximum": 8,
            "description": "how often the network is asked: each time about the moving scene as the answer "
            "before has moved it; the answer under which the scenes fit best is taken",
            "default": cascade,
        },
        "refine": {
            "enum": ["windows", "lucas-kanade", "none"],
            "description": "what refines the answer: small windows, which hold across contrasts, least "
            "squares, which want one contrast, or nothing",
            "default": "windows",
        },
        "weights": {
            "type": ["string", "null"],
            "description": "trained network: a .safetensors file, or the name of one in resources/weights; "
            "null takes the shipped one",
            "default": None,
        },
    }


_REFINED = "what the refinement may change in the network's answer"

HOMOGRAPHY_NET = _define_options(3, _REFINED)
GOTURN = _define_options(1, _REFINED)
DEEP_LK = {
    **_define_options(2, "what is sought"),
    "starts": {
        "enum": ["several", "one"],
        "description": "where the steps begin: at some shifts, rotations and sizes about the start, of which "
        "the answer under which the scenes fit best is taken, or at the start alone",
        "default": "several",
    },
}
