"""Refiners: deformable methods. One row per method; imports happen when one runs."""

from regflow.methods.elastix_options import METRIC
from regflow.methods.matching.landmark_options import SPLINE_LANDMARKS
from regflow.methods.refine.demons_options import DEMONS
from regflow.methods.refine.dense_options import DENSE
from regflow.methods.refine.field_options import make_learned_row
from regflow.methods.refine.flow_options import OPTICAL_FLOW
from regflow.methods.refine.greedy_options import GREEDY
from regflow.methods.refine.learning_options import INSTANCE_OPTIMIZATION, VOXELMORPH
from regflow.methods.refine.search_options import DISCRETE, GRAPH, TRANSPORT, make_search_row
from regflow.methods.refine.segmentation_options import SEGMENTATION
from regflow.methods.refine.tie_point_options import TIE_POINTS
from regflow.methods.refine.weights_files import SHIPPED
from regflow.methods.table import Method

_HERE = "regflow.methods.refine"

NO_DEFORMATION = "none"
"""Name of the row that leaves a linear transform as it is."""

ELASTIX_BSPLINE = {
    "metric": METRIC,
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
        networks=SHIPPED,
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
        networks=SHIPPED,
        gpu=True,
    ),
    "discrete": make_search_row(
        f"{_HERE}.discrete:discrete",
        (
            "For motion beyond what a gradient sees: self-similarities compared at every displacement of a "
            "window, smooth fields coupled to the best, there and back; then another method goes on.",
            "Steinbruecker et al., ICCV 2009, 1609-1614; Heinrich et al., WBIR 2014, 51-61",
        ),
        DISCRETE,
        further=True,
        compile_options=({"refinement": "none"},),
    ),
    "keypoint-graph": make_search_row(
        f"{_HERE}.keypoint_graph:keypoint_graph",
        (
            "Keypoints of both images matched as a graph, whose neighbors must move alike, and a smooth "
            "field through them.",
            "Leordeanu and Hebert, ICCV 2005, 1482-1489; Hansen and Heinrich, IEEE Trans. Medical Imaging "
            "40(9):2246-2257, 2021",
        ),
        GRAPH,
        further=False,
    ),
    "optimal-transport": make_search_row(
        f"{_HERE}.optimal_transport:optimal_transport",
        (
            "Keypoints of both images matched softly by unbalanced optimal transport, and a smooth field "
            "through them.",
            "Cuturi, NIPS 2013; Chizat et al., Mathematics of Computation 87(314):2563-2609, 2018",
        ),
        TRANSPORT,
        further=False,
    ),
    "demons": Method(
        f"{_HERE}.demons:demons",
        "Demons' forces between images of one contrast, level by level, each update a small diffeomorphism.",
        "Thirion, Medical Image Analysis 2(3):243-260, 1998; "
        "Vercauteren et al., NeuroImage 45(1):S61-S72, 2009",
        DEMONS,
        kinds=("volumes", "rasters"),
    ),
    "unet": make_learned_row(
        "unet",
        "A U-Net answers with the displacement; one's own pairs teach it by similarity and smoothness alone, "
        "without labels or truth.",
        "Ronneberger et al., MICCAI 2015, 234-241; "
        "Balakrishnan et al., IEEE Trans. Medical Imaging 38(8):1788-1800, 2019",
    ),
    "dirnet": make_learned_row(
        "dirnet",
        "A small network answers with the control points of a cubic B-spline; local correlation teaches it.",
        "de Vos et al., DLMIA 2017, 204-212; de Vos et al., Medical Image Analysis 52:128-143, 2019",
    ),
    "quicksilver": make_learned_row(
        "quicksilver",
        "Networks predict initial momenta patch by patch, and correct them once; geodesic shooting makes a "
        "diffeomorphism of them.",
        "Yang et al., NeuroImage 158:378-396, 2017",
    ),
    "agent-modes": make_learned_row(
        "agent-modes",
        "An agent takes steps along the modes of a statistical deformation model, each time the one that a "
        "trained network values most; for comparison.",
        "Krebs et al., MICCAI 2017, 344-352",
    ),
    "elastix-bspline": Method(
        f"{_HERE}.elastix_bspline:elastix_bspline",
        "Cubic B-splines and mutual information by elastix.",
        "Klein et al., IEEE Trans. Medical Imaging 29(1):196-205, 2010",
        ELASTIX_BSPLINE,
    ),
    "optical-flow": Method(
        f"{_HERE}.optical_flow:optical_flow",
        "Every pixel followed from one frame of a time lapse to the next, for small motion.",
        "Zach et al., DAGM 2007, 214-223; Kroeger et al., ECCV 2016, 471-488",
        OPTICAL_FLOW,
        kinds=("rasters",),
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
        networks=SHIPPED,
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
