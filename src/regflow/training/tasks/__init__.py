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
    "It is small, and was trained in minutes where the papers took days: it is here to be compared.",
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
            "It is small, and was trained in minutes where the papers took days: it is here to be compared.",
            _NO_DEVICE,
        ),
    ),
}
