"""A template from Python: images as people hold them in, a template of their type out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from regflow.config.presets import merge_settings
from regflow.core.errors import InputError
from regflow.core.progress import StageListener, ignore_events
from regflow.core.threads import count_cores
from regflow.pipeline.exchange import ResultFolder, StoredImage, is_path, name_images, store_image, store_part
from regflow.pipeline.group_options import check_count, check_group_sections, complete_group_settings
from regflow.pipeline.image_types import Spacing
from regflow.pipeline.template import TemplateResult, build_template_folder
from regflow.pipeline.template_samples import (
    SUFFIXES,
    TemplateSample,
    check_template_samples,
    choose_names,
    read_template_samples,
)

SECTIONS = ("preprocess", "initialize", "refine", "template")
"""Of the configuration, that a template reads."""
_OPTIONS = ("mode", "average", "trim", "sharpen", "sharpen_amount", "symmetric", "spacing_mm")


def build_template(
    images: Sequence[Any] | Mapping[str, Any] | str | Path,
    *,
    output: str | Path | None = None,
    start: Any = None,
    mode: str | None = None,
    average: str | None = None,
    trim: float | None = None,
    sharpen: str | None = None,
    sharpen_amount: float | None = None,
    symmetric: bool | None = None,
    spacing_mm: float | None = None,
    weights: Sequence[float] | None = None,
    subjects: Sequence[str | None] | None = None,
    masks: Sequence[Any] | None = None,
    channels: Mapping[str, Sequence[Any]] | None = None,
    modality: str | Sequence[str] | None = None,
    spacing: Spacing = None,
    preset: str = "default",
    config: Mapping[str, Any] | None = None,
    seed: int | None = None,
    threads: int | None = None,
    progress: StageListener = ignore_events,
) -> TemplateResult:
    """Make the unbiased mean of volumes: of their intensities and of their shapes.

    All images are registered to a template, the mean of the maps is taken out of them, and the mean of the
    images is the next template; rigid, then affine, then deformable. No order of the images changes a byte.

    Args:
        images: volumes of any type that :func:`regflow.register` takes: a list, a mapping by name, or the
            path of a sheet with the columns ``sample``, ``moving`` and perhaps ``moving_mask``,
            ``companions``, ``modality``, ``weight`` and ``subject``.
        output: folder to make, with all that ``regflow template`` writes; what it holds of the same images
            and settings is taken up again. A temporary one when None.
        start: volume to begin with, in whose pose the template stays; one of the images when None, whose
            pose and shape are averaged out.
        mode: ``rigid``, ``affine`` or ``deformable``: rounds that leave more free are left out.
        average: ``mean``, ``median`` or ``trimmed``.
        trim: part of the images that ``trimmed`` leaves out at either end.
        sharpen: ``none``, ``laplacian`` or ``unsharp``.
        sharpen_amount: how much.
        symmetric: each image counts a second time, mirrored, and the template is its own mirror image.
        spacing_mm: of the template and of the working images.
        weights: one for each image, above 0.
        subjects: whose image each is: images of one subject first make a template of their own.
        masks: one for each image: where it may steer.
        channels: further channels by name, one image for each of ``images``: they are averaged by the
            transforms that the images themselves were found by.
        modality: of the images, or of each.
        spacing: of arrays, ``(x, y, z)`` in mm.
        preset: as for :func:`regflow.register`.
        config: sections of the configuration, key by key; the arguments override it.
        seed: of every random choice; 0 when None.
        threads: most threads to use, all cores when None; no result depends on it.
        progress: told when a step begins and ends.

    Returns:
        ``.image`` in the type of the images, ``.transforms`` by name, ``.history`` of the rounds,
        ``.samples`` and ``.save(folder)``.

    Raises:
        InputError: an image, an option or a key is wrong, or the images contradict one another; one sentence
            says which and what to do.
        RegistrationError: fewer than two images could be registered.
    """
    given = dict(locals())
    home = ResultFolder(output)
    with TemporaryDirectory(prefix="regflow-") as place, name_images(Path(place)):
        samples, like = _store_images(images, given, Path(place))
        settings = make_template_settings(_choose(given, Path(place)), preset, seed)
        record = build_template_folder(
            home.path, samples, settings, threads=threads or count_cores(), progress=progress
        )
    return TemplateResult(record["rounds"], record["samples"], like, home)


def make_template_settings(
    chosen: Mapping[str, Any], preset: str = "default", seed: int | None = None
) -> dict[str, Any]:
    """Return the complete configuration of a template.

    Args:
        chosen: sections that replace the preset's, key by key.
        preset: its name.
        seed: of every random choice; 0 when None.

    Raises:
        InputError: a section is not read, or a key or value is wrong.
    """
    check_group_sections("a template", SECTIONS, chosen, "volumes")
    complete, _ = complete_group_settings(chosen, "volumes", preset, seed)
    return complete


def _choose(given: Mapping[str, Any], place: Path) -> dict[str, Any]:
    """Return the sections of the configuration that the arguments say."""
    own = {name: given[name] for name in _OPTIONS if given[name] is not None}
    if given["start"] is not None:
        own["start"] = store_image(given["start"], place, "start", given["spacing"]).path
    return merge_settings(given["config"] or {}, {"template": own} if own else {})


def _store_images(images: Any, given: Mapping[str, Any], place: Path) -> tuple[list[TemplateSample], Any]:
    """Return the images as files, and one of them as it was given."""
    if is_path(images):
        path = str(images)
        if not path.lower().endswith(SUFFIXES):
            raise InputError(
                f"{path}: give a list of images, or a sheet that ends in {' or '.join(SUFFIXES)}"
            )
        return read_template_samples([path]), path
    names = list(images) if isinstance(images, Mapping) else None
    listed = list(images.values()) if isinstance(images, Mapping) else list(images)
    if not listed:
        raise InputError("a template needs 2 images, and none is given; name more")
    for name in ("weights", "subjects", "masks"):
        check_count(name, given[name], len(listed))
    stored = [store_image(one, place, f"image_{n}", given["spacing"]) for n, one in enumerate(listed, 1)]
    _check_kinds(stored)
    names = names or choose_names([_name_image(one, n) for n, one in enumerate(stored, 1)])
    channels = _store_channels(given["channels"] or {}, stored, given["spacing"], place)
    modality = given["modality"]
    every = [modality] * len(listed) if modality is None or isinstance(modality, str) else list(modality)
    check_count("modality", every, len(listed))
    samples = [
        TemplateSample(
            name,
            one.path,
            _store_mask(given["masks"], number, one, place),
            {channel: paths[number] for channel, paths in channels.items()},
            1.0 if given["weights"] is None else float(given["weights"][number]),
            None if given["subjects"] is None else given["subjects"][number],
            every[number] or one.parts.get("modality"),
        )
        for number, (name, one) in enumerate(zip(names, stored, strict=True))
    ]
    return check_template_samples(samples), listed[0]


def _store_mask(masks: Sequence[Any] | None, number: int, image: StoredImage, place: Path) -> str | None:
    if masks is None or masks[number] is None:
        return image.parts.get("mask")
    return store_part(masks[number], place, f"image_{number + 1}_mask", image)


def _store_channels(
    channels: Mapping[str, Sequence[Any]], stored: Sequence[StoredImage], spacing: Spacing, place: Path
) -> dict[str, list[str]]:
    for name, listed in channels.items():
        check_count(f"channels['{name}']", listed, len(stored))
    return {
        name: [
            store_image(one, place, f"{name}_{number}", spacing).path for number, one in enumerate(listed, 1)
        ]
        for name, listed in channels.items()
    }


def _check_kinds(stored: Sequence[StoredImage]) -> None:
    """Refuse images that are no volumes."""
    scenes = [image for image in stored if image.kind != "volumes"]
    if scenes and len(scenes) < len(stored):
        volume = next(image for image in stored if image.kind == "volumes")
        raise InputError(f"{volume.name} is a volume and {scenes[0].name} is none; give images of one kind")
    if scenes:
        raise InputError(f"{scenes[0].name} is no volume; a template is made of volumes, 3-D")


def _name_image(image: StoredImage, number: int) -> str:
    return f"image-{number}" if image.written else image.path
