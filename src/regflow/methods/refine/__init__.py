"""Refiners: deformable methods. One row per method; imports happen when one runs."""

from regflow.methods.refine.learning_options import INSTANCE_OPTIMIZATION, VOXELMORPH
from regflow.methods.table import Method

_HERE = "regflow.methods.refine"

METHODS: dict[str, Method] = {
    "greedy": Method(f"{_HERE}.greedy:greedy", "Compositive diffeomorphic updates along analytic forces."),
    "voxelmorph": Method(
        f"{_HERE}.voxelmorph:voxelmorph",
        "A trained network (MONAI's VoxelMorphUNet) predicts a stationary velocity field.",
        "Balakrishnan et al., IEEE Trans. Medical Imaging 38(8):1788-1800, 2019",
        VOXELMORPH,
    ),
    "instance-optimization": Method(
        f"{_HERE}.instance_optimization:instance_optimization",
        "Adam on a stationary velocity field, for this pair alone.",
        "Balakrishnan et al., IEEE Trans. Medical Imaging 38(8):1788-1800, 2019",
        INSTANCE_OPTIMIZATION,
    ),
    "none": Method(f"{_HERE}.none:none", "No deformation: the affine transform is the result."),
}
