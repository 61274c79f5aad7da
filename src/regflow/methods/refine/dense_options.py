"""Options of the dense refiner: light, for the table and the schema."""

from typing import Any

DENSE: dict[str, dict[str, Any]] = {
    "engine": {
        "enum": ["greedy", "instance-optimization", "voxelmorph"],
        "description": "what finds the field of a chunk: greedy diffeomorphic steps, Adam on a VoxelMorph "
        "velocity field for this chunk alone, or a trained network's answer",
        "default": "greedy",
    },
    "engine_options": {
        "type": "object",
        "description": "options of that method, in place of this one's choices for scenes",
        "default": {},
    },
    "tie_points": {
        "type": ["object", "null"],
        "description": "options of the tie points whose smooth field is the start; null starts from the "
        "initial transform",
        "default": {},
    },
    "chunk_px": {
        "type": "integer",
        "minimum": 128,
        "maximum": 4096,
        "description": "side of the chunks that are refined by themselves, in pixels of the working grid",
        "default": 1024,
    },
    "halo_px": {
        "type": "integer",
        "minimum": 16,
        "maximum": 512,
        "description": "by how much chunks reach into each other; their fields are blended there",
        "default": 96,
    },
    "step_px": {
        "type": ["integer", "null"],
        "minimum": 1,
        "description": "distance of the field's samples; null is 4, or more where the field would not fit "
        "into memory",
        "default": None,
    },
}
