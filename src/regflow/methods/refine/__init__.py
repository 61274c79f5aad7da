"""Refiners: deformable methods. One row per method; imports happen when one runs."""

from regflow.methods.matching.landmark_options import SPLINE_LANDMARKS
from regflow.methods.refine.dense_options import DENSE
from regflow.methods.refine.greedy_options import GREEDY
from regflow.methods.refine.learning_options import INSTANCE_OPTIMIZATION, VOXELMORPH
from regflow.methods.refine.segmentation_options import SEGMENTATION
from regflow.methods.refine.tie_point_options import TIE_POINTS
from regflow.methods.table import Method

_HERE = "regflow.methods.refine"

NO_DEFORMATION = "none"
"""Name of the row that leaves a linear transform as it is."""

ELASTIX_BSPLINE = {
    "spacing_mm": {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "description": "final spacing of the control points; null takes 6% of the fixed object's size, the "
        "diameter of a ball of its volume: 10 mm for a brain",
        "default": None,
    },
    "samples": {
        "type": "integer",
        "minimum": 100,
        "description": "image samples drawn for each iteration",
        "default": 5000,
    },
    "iterations": {
        "type": "integer",
        "minimum": 1,
        "description": "iterations per resolution",
        "default": 400,
    },
}

METHODS: dict[str, Method] = {
    "greedy": Method(
        f"{_HERE}.greedy:greedy",
        "Small smooth steps up the gradient of the local correlation, composed into a diffeomorphism.",
        "Avants et al., Medical Image Analysis 12(1):26-41, 2008; "
        "Yushkevich et al., Alzheimer's & Dementia 12(7):P126, 2016",
        GREEDY,
        gpu=True,
        compile_options=tuple(
            {"metric": metric, "iterations": [2, 2, 2]} for metric in GREEDY["metric"]["enum"]
        ),
    ),
    "voxelmorph": Method(
        f"{_HERE}.voxelmorph:voxelmorph",
        "A trained network (MONAI's VoxelMorphUNet) predicts a stationary velocity field; unless told "
        "otherwise, greedy diffeomorphic steps go on from there.",
        "Balakrishnan et al., IEEE Trans. Medical Imaging 38(8):1788-1800, 2019; "
        "Avants et al., Medical Image Analysis 12(1):26-41, 2008",
        VOXELMORPH,
        uses_weights=True,
        predict=f"{_HERE}.voxelmorph:predict_pairs",
        libraries=("monai.networks.nets",),
        gpu=True,
        compile_options=({"refinement": "none"},),
    ),
    "instance-optimization": Method(
        f"{_HERE}.instance_optimization:instance_optimization",
        "Adam on a stationary velocity field, for this pair alone.",
        "Balakrishnan et al., IEEE Trans. Medical Imaging 38(8):1788-1800, 2019",
        INSTANCE_OPTIMIZATION,
        uses_weights=True,
        gpu=True,
    ),
    "elastix-bspline": Method(
        f"{_HERE}.elastix_bspline:elastix_bspline",
        "Cubic B-splines and mutual information by elastix.",
        "Klein et al., IEEE Trans. Medical Imaging 29(1):196-205, 2010",
        ELASTIX_BSPLINE,
    ),
    "tie-points": Method(
        f"{_HERE}.tie_points:tie_points",
        "Windows matched by least squares over the scene, and a smoothing B-spline through those that hold.",
        "Gruen, South African J. Photogrammetry 14(3):175-187, 1985; "
        "Eilers & Marx, Statistical Science 11(2):89-121, 1996",
        TIE_POINTS,
        kinds=("rasters",),
    ),
    "dense": Method(
        f"{_HERE}.dense:dense",
        "A dense field, chunk by chunk with a halo, on top of the tie points' smooth one.",
        "Avants et al., Medical Image Analysis 12(1):26-41, 2008; "
        "Balakrishnan et al., IEEE Trans. Medical Imaging 38(8):1788-1800, 2019",
        DENSE,
        kinds=("rasters",),
        uses_weights=True,
    ),
    "landmarks": Method(
        f"{_HERE}.landmarks:landmarks",
        "A thin-plate spline through given pairs of landmarks; the images are not looked at.",
        "Bookstein, IEEE Trans. Pattern Analysis and Machine Intelligence 11(6):567-585, 1989",
        SPLINE_LANDMARKS,
        kinds=("volumes", "rasters"),
    ),
    "segmentation": Method(
        f"{_HERE}.segmentation:segmentation",
        "Greedy diffeomorphic steps that bring borders of both label maps together beside the intensities.",
        "Yushkevich et al., Alzheimer's & Dementia 12(7):P126, 2016; "
        "Maurer et al., IEEE Trans. Pattern Analysis and Machine Intelligence 25(2):265-270, 2003",
        SEGMENTATION,
        gpu=True,
    ),
    NO_DEFORMATION: Method(
        f"{_HERE}.none:none",
        "No deformation: the affine transform is the result.",
        kinds=("volumes", "rasters"),
    ),
}
