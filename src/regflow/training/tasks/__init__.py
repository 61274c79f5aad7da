"""What can be learned, by name. One row per task; imports happen when one is trained."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from regflow.core.errors import SettingError
from regflow.core.json_schema import fill_defaults
from regflow.training.tasks.moved_options import CORNERS_OPTIONS, FEATURES_OPTIONS
from regflow.training.tasks.patch_options import PATCH_OPTIONS

if TYPE_CHECKING:
    from regflow.training.task import TrainingTask

_HERE = "regflow.training.tasks"


@dataclass(frozen=True)
class TaskRow:
    """What is known of a task before it is trained.

    Attributes:
        target: ``"package.module:function"`` of the settings and the seed, returning the
            :class:`~regflow.training.task.TrainingTask`.
        summary: one sentence.
        citation: the paper or tool behind it.
        options: JSON schema properties of its options, each with ``description`` and ``default``.
        check: ``"package.module:function"`` that completes the settings and refuses what cannot be trained;
            empty where there is nothing to check.
        title: what the network is for, for its model card.
        limits: sentences for the model card.
    """

    target: str
    summary: str
    citation: str = ""
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    check: str = ""
    title: str = ""
    limits: tuple[str, ...] = ()

    def load(self) -> "Callable[[Mapping[str, Any], int], TrainingTask]":
        """Import and return the function that makes the task."""
        made: Callable[[Mapping[str, Any], int], TrainingTask] = _imported(self.target)
        return made

    def complete(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings with the task's options complete, and checked by the task.

        Raises:
            InputError: a setting is wrong.
        """
        unknown = sorted(set(settings["options"]) - set(self.options))
        if unknown:
            known = ", ".join(self.options) or "none"
            raise SettingError(
                f"train: options: the task {settings['task']} has no option '{unknown[0]}'; "
                f"its options: {known}"
            )
        completed = {**settings, "options": fill_defaults(self.options, settings["options"])}
        return _imported(self.check)(completed) if self.check else completed


def _imported(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


_NO_DEVICE = "It is no medical device. The gates of regflow judge each of its answers, and so should you."

_OF_CROPS = (
    "One channel per image. It expects crops that overlap by more than half, and maps of a plane.",
    "It has seen satellite bands of one place and painted shapes; of other pictures nothing is known.",
    "It is small, and was trained in minutes: it is here to be compared.",
    _NO_DEVICE,
)

TASKS: dict[str, TaskRow] = {
    "registration": TaskRow(
        f"{_HERE}.registration:make_task",
        "A network that is shown two images and answers with the velocity field between them.",
        "Balakrishnan et al., IEEE Trans. Medical Imaging 38(8):1788-1800, 2019; "
        "Hoffmann et al., IEEE Trans. Medical Imaging 41(3):543-558, 2022",
        check=f"{_HERE}.registration:complete_settings",
        title="registration",
        limits=(
            "One channel per image. Images are shown to it with percentiles 1 and 99 as 0 and 1.",
            "It expects images that are aligned up to an affine map, within a few samples of its coarsest "
            "pass.",
            "It has seen no lesions, resections or implants but those in the data above; where one image "
            "shows what the other lacks, its answer there means nothing.",
            _NO_DEVICE,
        ),
    ),
    "landmarks": TaskRow(
        f"{_HERE}.landmarks:make_task",
        "A network that finds the landmarks of your own images, from a few in which a person has set them.",
        "Payer et al., Medical Image Analysis 54:207-219, 2019",
        {
            "annotated": {
                "type": ["string", "null"],
                "description": "folder of images and of landmark files of the same names (wing1.png, "
                "wing1.csv)",
                "default": None,
            },
            "sigma": {
                "type": "number",
                "exclusiveMinimum": 0,
                "description": "width of a landmark's heat map, samples",
                "default": 1.5,
            },
            "degrees": {
                "type": "number",
                "minimum": 0,
                "maximum": 180,
                "description": "by which images are turned at most while learning",
                "default": 30,
            },
            "invert": {
                "type": "boolean",
                "description": "let dark and bright change places now and then",
                "default": False,
            },
        },
        title="landmarks",
        limits=(
            "It knows the landmarks of images like those it has seen, and no others.",
            _NO_DEVICE,
        ),
    ),
    "moves": TaskRow(
        f"{_HERE}.moves:make_task",
        "A network that is shown two images and values small rotations and shifts by how much nearer each "
        "brings them.",
        "Liao et al., An artificial agent for robust image registration, AAAI 2017",
        title="an agent's moves between images",
        limits=(
            "It is trained small, to be compared with other methods: mutual information from many starts is "
            "the better choice.",
            "It sees whole objects, and knows poses up to some 60 degrees and half an object's size.",
            _NO_DEVICE,
        ),
    ),
    "corners": TaskRow(
        f"{_HERE}.corners:make_task",
        "A network that is shown two crops and answers with how far the corners of the first were moved.",
        "DeTone et al., Deep Image Homography Estimation, arXiv:1606.03798, 2016; "
        "Nguyen et al., IEEE Robotics and Automation Letters 3(3):2346-2353, 2018; "
        "Held et al., ECCV 2016",
        options=CORNERS_OPTIONS,
        check=f"{_HERE}.moved_settings:complete_settings",
        title="alignment by corners",
        limits=_OF_CROPS,
    ),
    "alignment-features": TaskRow(
        f"{_HERE}.alignment_features:make_task",
        "A network that describes two crops by features that lead Gauss-Newton steps from one to the other.",
        "Chang et al., CLKN, CVPR 2017; Wang et al., Deep-LK for Efficient Adaptive Object Tracking, ICRA "
        "2018; Lv et al., CVPR 2019",
        options=FEATURES_OPTIONS,
        check=f"{_HERE}.moved_settings:complete_settings",
        title="alignment by learned features",
        limits=_OF_CROPS,
    ),
    "field": TaskRow(
        f"{_HERE}.field:make_task",
        "A small network that is shown two images and answers with the displacement between them; similarity "
        "and smoothness teach it, and the truth only where `weights` say so.",
        "Balakrishnan et al., IEEE Trans. Medical Imaging 38(8):1788-1800, 2019; "
        "de Vos et al., Medical Image Analysis 52:128-143, 2019",
        options={
            "architecture": {
                "enum": ["field-unet", "control-points"],
                "description": "a U-Net that answers for every other sample, or a network that answers with "
                "the control points of a B-spline",
                "default": "field-unet",
            },
            "pools": {
                "type": "integer",
                "minimum": 1,
                "maximum": 6,
                "description": "control points stand this power of 2 samples apart",
                "default": 3,
            },
            "similarity": {
                "enum": ["mse", "lncc", "mind"],
                "description": "mse: squared difference, for one scale of brightness; lncc: local "
                "correlation, squared, so that its sign does not matter; mind: descriptors, for any contrast",
                "default": "lncc",
            },
        },
        check=f"{_HERE}.field:complete_settings",
        title="the displacement between images",
        limits=(
            "It is trained small, to be compared with other methods and to begin with on images of one's "
            "own.",
            "One channel per image, percentiles 1 and 99 shown as 0 and 1; aligned up to some samples of the "
            "coarsest pass.",
            _NO_DEVICE,
        ),
    ),
    "momenta": TaskRow(
        f"{_HERE}.momenta:make_task",
        "Two networks that predict the initial momentum of a diffeomorphism between two images, and its "
        "correction.",
        "Yang et al., NeuroImage 158:378-396, 2017",
        check=f"{_HERE}.momenta:complete_settings",
        title="the momenta of deformations",
        limits=(
            "It is trained small, to be compared with other methods, on momenta that are drawn at random: "
            "the paper takes those that an optimization finds between real brains.",
            "It looks at patches of 32 samples a side: what has moved out of a patch is not found.",
            _NO_DEVICE,
        ),
    ),
    "modes": TaskRow(
        f"{_HERE}.modes:make_task",
        "A network that is shown two images and values steps along modes of deformation by how much nearer "
        "each comes.",
        "Krebs et al., MICCAI 2017, 344-352",
        options={
            "modes": {
                "type": "integer",
                "minimum": 2,
                "maximum": 64,
                "description": "principal modes of the displacements that are drawn",
                "default": 16,
            },
        },
        check=f"{_HERE}.modes:complete_settings",
        title="an agent's steps along modes of deformation",
        limits=(
            "It is trained small, to be compared with other methods: some modes follow no detail.",
            "It sees whole images, made as small as its side.",
            _NO_DEVICE,
        ),
    ),
    "patch-descriptor": TaskRow(
        f"{_HERE}.patches:make_task",
        "Networks that describe patches of visible and of near infrared bands alike: the second is taught "
        "the answers of the first.",
        "Mishchuk et al., Working hard to know your neighbor's margins, NeurIPS 2017; "
        "Hinton et al., Distilling the Knowledge in a Neural Network, arXiv:1503.02531, 2015",
        options=PATCH_OPTIONS,
        check=f"{_HERE}.patch_options:complete_patch_settings",
        title="descriptors of patches across bands",
        limits=(
            "Patches are upright and of one size: scenes may differ by some 10 % in size and 10 degrees.",
            "It has seen three visible bands and near infrared of one place; of other pictures nothing is "
            "known.",
            "It is small, and was trained in minutes: it is here to be compared.",
            _NO_DEVICE,
        ),
    ),
}
