"""Initializers: rigid and affine starts. One row per method; imports happen when one runs."""

from typing import Any

from regflow.methods.elastix_options import METRIC
from regflow.methods.initialize.learned_crops_options import DEEP_LK, GOTURN, HOMOGRAPHY_NET
from regflow.methods.initialize.lucas_kanade_options import LUCAS_KANADE, LUCAS_KANADE_SCENES
from regflow.methods.initialize.robust import ESTIMATORS
from regflow.methods.matching.graph_options import KEYPOINT_GRAPH
from regflow.methods.matching.landmark_options import LINEAR_LANDMARKS, LINEAR_LANDMARKS_SCENES
from regflow.methods.table import Method

_HERE = "regflow.methods.initialize"

WEIGHTS: dict[str, Any] = {
    "type": ["string", "null"],
    "description": "trained network: a .safetensors file, or the name of one in resources/weights; null "
    "takes the shipped one",
    "default": None,
}

OWN_WEIGHTS: dict[str, Any] = {
    "type": ["string", "null"],
    "description": "trained network of your own: a .safetensors file (regflow train, task landmarks)",
    "default": None,
}

MODEL: dict[str, Any] = {
    "enum": ["auto", "translation", "similarity", "affine", "homography"],
    "description": "what the windows may change when they refine the map; translation: nothing else is "
    "sought before either; auto: a translation, similarity or affine map, as they demand, and without "
    "georeference also a homography",
    "default": "auto",
}

POSES: dict[str, dict[str, Any]] = {
    "rotation_degrees": {
        "type": "number",
        "minimum": 0,
        "maximum": 180,
        "description": "largest rotation either way that is sought, on top of the georeference",
        "default": 180,
    },
    "scale": {
        "type": "number",
        "minimum": 1,
        "maximum": 4,
        "description": "largest factor of size either way that is sought, on top of the georeference",
        "default": 1.3,
    },
}


ACROSS: dict[str, Any] = {
    "type": "integer",
    "minimum": 64,
    "description": "most pixels along the fixed image's longest side",
    "default": 1024,
}

LINEAR = ("rigid", "similarity", "affine")
LINEAR_CHOICE = (
    "what is sought: rigid (rotation and shift), similarity (one scale besides) or affine (stretch and "
    "shear as well), the latter two after a rigid search"
)
_STARTS: dict[str, Any] = {
    "type": "array",
    "items": {"type": "number"},
    "minItems": 1,
    "description": "rotations to start from",
    "default": [0, -10, 10, -20, 20],
}
_BINS: dict[str, Any] = {
    "type": "integer",
    "minimum": 8,
    "description": "bins of the joint histogram",
    "default": 32,
}

ELASTIX: dict[str, dict[str, Any]] = {
    "transform": {
        "enum": list(LINEAR),
        "description": LINEAR_CHOICE,
        "default": "affine",
    },
    "metric": METRIC,
    "samples": {
        "type": "integer",
        "minimum": 100,
        "description": "samples of the fixed image, at least, that each iteration compares; on a grid",
        "default": 30000,
    },
    "iterations": {
        "type": "integer",
        "minimum": 1,
        "description": "most iterations per resolution",
        "default": 250,
    },
    "maps": {
        "type": "array",
        "items": {"type": "string"},
        "description": "elastix parameter files to run instead of regflow's, in order",
        "default": [],
    },
}

_LUCAS_KANADE_SOURCES = (
    "Lucas and Kanade, IJCAI 1981; Baker and Matthews, Int. J. Computer Vision 56(3):221-255, 2004"
)

_LANDMARK_SOURCES = (
    "Umeyama, IEEE Trans. Pattern Analysis and Machine Intelligence 13(4):376-380, 1991; "
    "Rousseeuw and Van Driessen, Data Mining and Knowledge Discovery 12:29-45, 2006"
)

_FEATURE_OPTIONS: dict[str, dict[str, Any]] = {
    "count": {
        "type": "integer",
        "minimum": 50,
        "description": "most keypoints in each image, drawn evenly from tiles",
        "default": 3000,
    },
    "across": {
        "type": "integer",
        "minimum": 64,
        "description": "most pixels along the fixed image's longest side in which keypoints are sought",
        "default": 1024,
    },
    "ratio": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 1,
        "description": "a partner must be nearer than this part of the second nearest's distance; 1: no test",
        "default": 0.85,
    },
    "estimator": {
        "enum": list(ESTIMATORS),
        "description": "how a map is found among wrong matches",
        "default": "magsac++",
    },
    "threshold_px": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "largest residual in pixels of a match that supports a map",
        "default": 3.0,
    },
    "sure_inliers": {
        "type": "integer",
        "minimum": 1,
        "description": "with fewer matches that fit, inverted contrast is tried as well",
        "default": 25,
    },
    "model": MODEL,
}


def _features(summary: str, citation: str, function: str, **defaults: float) -> Method:
    """Return a row of a keypoint method, with its own defaults."""
    options = _list_feature_options(**defaults)
    return Method(f"{_HERE}.features.matching:{function}", summary, citation, options, ("rasters",))


def _list_feature_options(**defaults: float) -> dict[str, dict[str, Any]]:
    return {
        name: {**schema, "default": defaults.get(name, schema["default"])}
        for name, schema in _FEATURE_OPTIONS.items()
    }


METHODS: dict[str, Method] = {
    "header": Method(
        f"{_HERE}.header:header",
        "Trust the headers, or lay the centers of both fields of view on each other.",
        options={
            "centers": {
                "type": "boolean",
                "description": "lay the centers of the grids on each other instead of trusting the headers",
                "default": False,
            }
        },
        variants={
            "rasters": Method(
                f"{_HERE}.header:header",
                "Trust the georeference.",
                options={
                    "centers": {
                        "type": "boolean",
                        "description": "lay the centers of the scenes on each other instead",
                        "default": False,
                    }
                },
                kinds=("rasters",),
            )
        },
    ),
    "phase-correlation": Method(
        f"{_HERE}.phase_correlation:phase_correlation",
        "Translation by phase correlation, coarse over all shifts and fine by coherent phases.",
        "Kuglin and Hines, Proc. Int. Conf. Cybernetics and Society, 163-165, 1975",
        {"model": MODEL},
        kinds=("rasters",),
    ),
    "gradient-correlation": Method(
        f"{_HERE}.gradient_correlation:gradient_correlation",
        "Translation by correlating the gradients of whole scenes of like contrast, within their masks.",
        "Argyriou and Vlachos, Electronics Letters 39(13):980-982, 2003",
        {"model": MODEL},
        kinds=("rasters",),
    ),
    "edge-correlation": Method(
        f"{_HERE}.edge_correlation:edge_correlation",
        "Correlate directions of edges over rotations, scales and all shifts, whatever the contrast.",
        "Fitch et al., Orientation correlation, BMVC 2002",
        {
            "edges": {
                "enum": ["sobel", "canny"],
                "description": "all gradients by their local strength, or the thin lines of Canny's detector",
                "default": "sobel",
            },
            **POSES,
            "model": MODEL,
        },
        kinds=("rasters",),
    ),
    "fourier-mellin": Method(
        f"{_HERE}.fourier_mellin:fourier_mellin",
        "Rotation and scale from log-polar spectra, then the shift.",
        "Reddy and Chatterji, IEEE Trans. Image Processing 5(8):1266-1271, 1996",
        {"model": MODEL},
        kinds=("rasters",),
    ),
    "ecc": Method(
        f"{_HERE}.ecc:ecc",
        "Climb the enhanced correlation coefficient from where the georeference is.",
        "Evangelidis and Psarakis, IEEE Trans. Pattern Analysis and Machine Intelligence 30(10), 2008",
        {
            "model": {
                "enum": ["translation", "rigid", "affine", "homography"],
                "description": "what is sought",
                "default": "affine",
            },
            "across": ACROSS,
            "iterations": {
                "type": "integer",
                "minimum": 1,
                "description": "iterations at each spacing",
                "default": 100,
            },
        },
        kinds=("rasters",),
    ),
    "lucas-kanade": Method(
        f"{_HERE}.lucas_kanade:lucas_kanade",
        "Least squares between images of one contrast, coarse to fine, from a start that is near: exact to a "
        "hundredth of a sample.",
        _LUCAS_KANADE_SOURCES,
        LUCAS_KANADE,
        compile_options=({},),
        variants={
            "rasters": Method(
                f"{_HERE}.lucas_kanade:lucas_kanade",
                "Least squares between scenes of one contrast, coarse to fine, from a start that is near: "
                "exact to a hundredth of a pixel.",
                _LUCAS_KANADE_SOURCES,
                LUCAS_KANADE_SCENES,
                kinds=("rasters",),
            )
        },
    ),
    "sift": _features("Match SIFT keypoints.", "Lowe, Int. J. Computer Vision 60(2):91-110, 2004", "sift"),
    "surf": _features(
        "Match SURF keypoints.", "Bay et al., Computer Vision and Image Understanding 110(3), 2008", "surf"
    ),
    "orb": _features("Match ORB keypoints.", "Rublee et al., ICCV 2011", "orb"),
    "akaze": _features("Match AKAZE keypoints.", "Alcantarilla et al., BMVC 2013", "akaze"),
    "brisk": _features("Match BRISK keypoints.", "Leutenegger et al., ICCV 2011", "brisk"),
    "fast-brief": _features(
        "Match FAST corners by BRIEF, which knows neither rotation nor scale.",
        "Rosten and Drummond, ECCV 2006; Calonder et al., ECCV 2010",
        "fast_brief",
    ),
    "harris": _features(
        "Match Harris corners by SIFT's descriptor.",
        "Harris and Stephens, Alvey Vision Conference, 1988",
        "harris",
    ),
    "xfeat": _features(
        "Match XFeat's learned keypoints, which hold across sensors.",
        "Potje et al., XFeat, CVPR 2024",
        "xfeat",
        ratio=1.0,
    ),
    "spectral-descriptor": Method(
        f"{_HERE}.features.patch_methods:spectral_descriptor",
        "Match Harris corners of visible bands and of near infrared by two networks, of which the second was "
        "taught the answers of the first.",
        "Mishchuk et al., Working hard to know your neighbor's margins, NeurIPS 2017; "
        "Hinton et al., Distilling the Knowledge in a Neural Network, arXiv:1503.02531, 2015",
        {
            "near_infrared": {
                "enum": ["moving", "fixed", "neither", "both", "unknown"],
                "description": "which image shows near infrared, the other one a visible band; unknown: the "
                "moving one, the fixed one and neither are tried in this order",
                "default": "unknown",
            },
            **_list_feature_options(ratio=1.0),
            "sure_inliers": {
                **_FEATURE_OPTIONS["sure_inliers"],
                "description": "with fewer matches that fit, the next answer to `near_infrared` is tried",
            },
            "weights": WEIGHTS,
        },
        ("rasters",),
        networks={2: "spectral-descriptor"},
        libraries=("torch",),
    ),
    "landmarks": Method(
        f"{_HERE}.landmarks:landmarks",
        "A linear map through given pairs of landmarks; the images are not looked at.",
        _LANDMARK_SOURCES,
        LINEAR_LANDMARKS,
        variants={
            "rasters": Method(
                f"{_HERE}.landmarks:landmarks",
                "A linear map through given pairs of points; the scenes are not looked at.",
                f"{_LANDMARK_SOURCES}; Hartley and Zisserman, Multiple View Geometry, 2nd ed., 2003",
                LINEAR_LANDMARKS_SCENES,
                kinds=("rasters",),
            )
        },
    ),
    "segmentation": Method(
        f"{_HERE}.segmentation:segmentation",
        "Lay the structures of both label maps on each other, by their centers and then by their borders.",
        "Umeyama, IEEE Trans. Pattern Analysis and Machine Intelligence 13(4):376-380, 1991; "
        "Maurer et al., IEEE Trans. Pattern Analysis and Machine Intelligence 25(2):265-270, 2003",
        {
            "model": {"enum": list(LINEAR), "description": "what is sought", "default": "affine"},
            "across": {
                "type": "integer",
                "minimum": 16,
                "description": "most samples along a label map's longest side",
                "default": 96,
            },
        },
    ),
    "landmark-net": Method(
        f"{_HERE}.landmark_net:landmark_net",
        "A linear map through landmarks that a network of your own finds in both images.",
        f"Payer et al., Medical Image Analysis 54:207-219, 2019; {_LANDMARK_SOURCES}",
        {"weights": OWN_WEIGHTS, **LINEAR_LANDMARKS},
        variants={
            "rasters": Method(
                f"{_HERE}.landmark_net:landmark_net",
                "A linear map through landmarks that a network of your own finds in both scenes.",
                f"Payer et al., Medical Image Analysis 54:207-219, 2019; {_LANDMARK_SOURCES}",
                {"weights": OWN_WEIGHTS, **LINEAR_LANDMARKS_SCENES},
                kinds=("rasters",),
            )
        },
    ),
    "agent-rigid": Method(
        f"{_HERE}.agent_rigid:agent_rigid",
        "An agent takes one small rotation or shift after another, each time the one that a trained network "
        "values most; for comparison.",
        "Liao et al., An artificial agent for robust image registration, AAAI 2017",
        {
            "weights": WEIGHTS,
            "moves": {
                "type": "integer",
                "minimum": 1,
                "description": "most moves",
                "default": 100,
            },
        },
        networks={2: "agent-rigid-2d", 3: "agent-rigid-3d"},
        kinds=("volumes", "rasters"),
    ),
    "moments": Method(
        f"{_HERE}.moments:moments",
        "Lay the centers of mass of both masks on each other.",
        options={
            "axes": {
                "type": "boolean",
                "description": "turn the principal axes of the masks onto each other as well",
                "default": False,
            }
        },
    ),
    "mutual-information": Method(
        f"{_HERE}.mutual_information:mutual_information",
        "Rigid then affine by Mattes mutual information, from many starting rotations.",
        "Mattes et al., IEEE Trans. Medical Imaging 22(1):120-128, 2003",
        {
            "transform": {
                "enum": list(LINEAR),
                "description": LINEAR_CHOICE,
                "default": "affine",
            },
            "orientations": {
                "enum": ["all", "near", "header"],
                "description": "starting orientations: all there are, those within 60 degrees of the "
                "header's, or the header's alone",
                "default": "all",
            },
            "starts": {
                "type": "integer",
                "minimum": 1,
                "description": "most promising starting poses that are optimized at the coarsest spacing",
                "default": 16,
            },
            "samples_across": {
                "type": "array",
                "items": {"type": "integer", "minimum": 8},
                "minItems": 1,
                "description": "samples along the longest side of the fixed mask, for the search and for "
                "each finer step; never more than the image has",
                "default": [24, 48, 96],
            },
            "engine": {
                "enum": ["compiled", "simpleitk"],
                "description": "what climbs from the best start: regflow's compiled Mattes kernels, or "
                "SimpleITK's Mattes metric on one thread",
                "default": "compiled",
            },
            "bins": _BINS,
        },
        aligns_mirror=True,
        compile_options=({},),
        variants={
            "rasters": Method(
                f"{_HERE}.mattes:mutual_information",
                "Similarity then affine by SimpleITK's Mattes mutual information, from several rotations.",
                "Mattes et al., IEEE Trans. Medical Imaging 22(1):120-128, 2003",
                {
                    "model": {
                        "enum": ["translation", "similarity", "affine", "homography"],
                        "description": "what is sought at the finer spacings; homography: affine, and "
                        "then what windows ask for",
                        "default": "affine",
                    },
                    "refine": {
                        "type": "boolean",
                        "description": "let windows, by the directions of edges, refine what was found",
                        "default": True,
                    },
                    "starts_degrees": _STARTS,
                    "bins": _BINS,
                    "across": ACROSS,
                },
                kinds=("rasters",),
            )
        },
    ),
    "hypotheses": Method(
        f"{_HERE}.hypotheses:hypotheses",
        "Let XFeat in several representations and mutual information propose maps, and one judge of edges "
        "and information choose: for pairs of unlike sensors.",
        "Potje et al., XFeat, CVPR 2024; Mattes et al., IEEE Trans. Medical Imaging 22(1):120-128, 2003",
        {
            "count": {**_FEATURE_OPTIONS["count"], "default": 2000},
            "across": {**ACROSS, "default": 640},
            "threshold_px": _FEATURE_OPTIONS["threshold_px"],
            "bins": _BINS,
            "kept": {
                "type": "integer",
                "minimum": 1,
                "description": "best hypotheses that windows and mutual information improve",
                "default": 3,
            },
            "model": MODEL,
        },
        kinds=("rasters",),
    ),
    "elastix": Method(
        f"{_HERE}.elastix:elastix",
        "Rigid then affine by elastix with regflow's parameter maps.",
        "Klein et al., IEEE Trans. Medical Imaging 29(1):196-205, 2010",
        ELASTIX,
        variants={
            "rasters": Method(
                f"{_HERE}.elastix_rasters:elastix",
                "Rigid then affine by elastix with regflow's parameter maps.",
                "Klein et al., IEEE Trans. Medical Imaging 29(1):196-205, 2010",
                {**ELASTIX, "across": {**ACROSS, "default": 512}},
                kinds=("rasters",),
            )
        },
    ),
    "keypoint-graph": Method(
        f"{_HERE}.keypoint_graph:keypoint_graph",
        "An affine map from keypoints matched as a graph, whose neighbors must move alike.",
        "Leordeanu and Hebert, ICCV 2005, 1482-1489; Hansen and Heinrich, IEEE Trans. Medical Imaging "
        "40(9):2246-2257, 2021",
        {**KEYPOINT_GRAPH, "across": {**ACROSS, "default": 512}},
        kinds=("rasters",),
    ),
    "homography-net": Method(
        f"{_HERE}.learned_crops:homography_net",
        "Ask a small network, taught by crops moved in known ways, where four corners have gone.",
        "DeTone et al., Deep Image Homography Estimation, arXiv:1606.03798, 2016",
        HOMOGRAPHY_NET,
        kinds=("rasters",),
        libraries=("torch",),
    ),
    "homography-net-unsupervised": Method(
        f"{_HERE}.learned_crops:homography_net_unsupervised",
        "Ask the same network, taught by nothing but how well crops fit once they are moved.",
        "Nguyen et al., IEEE Robotics and Automation Letters 3(3):2346-2353, 2018",
        HOMOGRAPHY_NET,
        kinds=("rasters",),
        libraries=("torch",),
    ),
    "goturn": Method(
        f"{_HERE}.learned_crops:goturn",
        "Ask a small network of siamese encoders for an affine map; a baseline for the other networks.",
        "Held et al., Learning to Track at 100 FPS with Deep Regression Networks, ECCV 2016",
        GOTURN,
        kinds=("rasters",),
        libraries=("torch",),
    ),
    "deep-lk": Method(
        f"{_HERE}.learned_crops:deep_lk",
        "Gauss-Newton steps on learned features of both scenes, coarse to fine, from a start that overlaps.",
        "Chang et al., CLKN, CVPR 2017; Wang et al., Deep-LK for Efficient Adaptive Object Tracking, ICRA "
        "2018; Lv et al., CVPR 2019",
        DEEP_LK,
        kinds=("rasters",),
        networks={2: "deep-lk"},
        libraries=("torch",),
    ),
}
