"""Changes between scenes as people hold them: files for the run, and back to the type given."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from regflow.core.errors import InputError
from regflow.pipeline.exchange import ResultFolder, StoredImage, name_images, store_image, store_part
from regflow.pipeline.results import ChangeResult


def detect_scene_changes(scenes: Sequence[Any], given: Mapping[str, Any]) -> ChangeResult:
    """Map what changed between scenes that lie on the same pixels.

    Args:
        scenes: two or more, of any type that :mod:`regflow.api` names, in order of date.
        given: the keywords of :func:`regflow.api.detect_changes`.

    Raises:
        InputError: a scene or a setting is wrong, or the scenes do not lie on one another.
        RegistrationError: nothing to hold a change against was found.
    """
    from regflow.pipeline.change import detect_series
    from regflow.pipeline.change_options import check_counts, make_change_config, parse_dated_scenes

    check_counts(given, len(scenes))
    settings = make_change_config(given, below=given["config"])
    home = ResultFolder(given["output"])
    with TemporaryDirectory(prefix="regflow-") as name:
        folder = Path(name)
        images = [_store_scene(scene, folder, index) for index, scene in enumerate(scenes)]
        masks = [
            None if mask is None else store_part(mask, folder, f"mask_{index}", images[index])
            for index, mask in enumerate(given["masks"] or ())
        ]
        dated = parse_dated_scenes([image.path for image in images], {**given, "masks": masks})
        with name_images(folder):
            verdict = detect_series(
                dated,
                home.path,
                settings,
                pairs=settings["pairs"],
                chunk=given["chunk"],
                threads=given["threads"],
            )
    return ChangeResult(verdict, scenes[0], home.path, home)


def _store_scene(scene: Any, folder: Path, index: int) -> StoredImage:
    image = store_image(scene, folder, ("before", "after")[index] if index < 2 else f"later_{index - 1}")
    if image.kind == "volumes":
        raise InputError(f"{image.name}: is a volume; changes are detected between scenes")
    return image
