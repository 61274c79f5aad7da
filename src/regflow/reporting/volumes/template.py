"""The page of a template: its slices round by round, the rounds' figures, and the images it was made from."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.image import Image
from regflow.reporting.shared.drawing import choose_window, draw_gray, encode_data_uri
from regflow.reporting.shared.render import render_template
from regflow.reporting.volumes.views import UprightOrientation

PICTURE_SIDE = 960
FIGURES = {
    "drift_mm": ("Drift, mm", "how far the mean of all maps moved the template; taken out"),
    "spread_mm": ("Spread, mm", "how far the images' maps lie from their mean"),
    "gradient_energy": ("Sharpness", "mean squared gradient inside the mask"),
    "change_rms": ("Change", "from the round before, root mean square of intensities inside the mask"),
    "logarithm_error_mm": (
        "Logarithm, mm",
        "mean distance of the maps from their velocities' exponentials",
    ),
}
"""Title and meaning of each figure of a round."""


def render_template_report(
    images: Mapping[str, Image],
    rounds: Sequence[Mapping[str, Any]],
    samples: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, Any],
) -> str:
    """Return the page.

    Args:
        images: the template after each round, by what the page calls it, in order.
        rounds: ``kind`` and figures of each round.
        samples: ``used``, ``verdict``, ``weight`` and ``ncc`` of each image, by name.
        settings: the ``template`` section of the configuration.
    """
    pictures = {name: draw_middle_slices(image) for name, image in reversed(list(images.items()))}
    window = choose_window(next(iter(pictures.values())).ravel())
    names = [name for name in FIGURES if any(name in each for each in rounds)]
    used = sum(bool(own["used"]) for own in samples.values())
    story = {
        "sentence": f"The mean of {used} of {len(samples)} images after {len(rounds)} rounds.",
        "facts": [(name, str(settings[name])) for name in ("mode", "average", "sharpen")],
        "pictures": [
            {"name": name, "src": encode_data_uri(draw_gray(picture, window), PICTURE_SIDE)}
            for name, picture in pictures.items()
        ],
        "figures": [FIGURES[name] for name in names],
        "rounds": [
            {"number": number, "kind": each["kind"], "values": [_format(each.get(name)) for name in names]}
            for number, each in enumerate(rounds, start=1)
        ],
        "samples": [
            {
                "name": name,
                "status": own["verdict"]["status"],
                "reason": own["verdict"]["reason"],
                "used": "yes" if own["used"] else "no",
                "weight": f"{own['weight']:g}",
                "ncc": _format(own.get("ncc")),
            }
            for name, own in samples.items()
        ],
    }
    return render_template("template.html", scripts=("table.js", "flip.js"), title="Template", story=story)


def draw_middle_slices(image: Image) -> NDArray[np.float32]:
    """Return the middle slices of a volume side by side, upright, padded to one height."""
    upright = UprightOrientation.from_grid(image.grid).turn(image.channel.astype(np.float32))
    middle = [n // 2 for n in upright.shape]
    slices = [upright[middle[0]], upright[::-1, middle[1]], upright[::-1, :, middle[2]]]
    height = max(part.shape[0] for part in slices)
    low = float(upright.min())
    return np.concatenate(
        [np.pad(part, ((0, height - len(part)), (0, 0)), constant_values=low) for part in slices], axis=1
    )


def _format(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
