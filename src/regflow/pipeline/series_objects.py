"""A series from Python: images as people hold them in, aligned images of their type out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from regflow.cohort.rasters.samples import parse_bands, parse_mask_values, parse_nodata
from regflow.config.presets import merge_settings
from regflow.core.progress import StageListener, ignore_events
from regflow.core.threads import count_cores
from regflow.core.transform import Transform
from regflow.pipeline.exchange import (
    ResultFolder,
    is_path,
    load_product,
    name_images,
    store_image,
    store_part,
)
from regflow.pipeline.group_options import check_count, check_group_sections, complete_group_settings
from regflow.pipeline.image_types import Spacing
from regflow.pipeline.pair_options import make_linear_settings
from regflow.pipeline.series import align_series_folder
from regflow.pipeline.series_kinds import find_series_kind_steps
from regflow.pipeline.series_products import CHANGES
from regflow.pipeline.series_samples import (
    SceneReading,
    SeriesSample,
    find_series_kind,
    list_ordered_samples,
    read_series_samples,
)
from regflow.pipeline.series_steps import ALIGNED

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "rasters": ("preprocess", "initialize", "refine", "apply", "detect", "dask", "series"),
    "volumes": ("preprocess", "initialize", "refine", "apply", "series"),
}
"""Of the configuration, that a series reads, by kind."""
OPTIONS = ("steps", "hub", "model", "onto", "motion", "motion_width", "cutoff", "deform")


@dataclass(frozen=True, eq=False, repr=False)
class SeriesResult:
    """An aligned series.

    Where no folder was named, the files live in a temporary one that goes with this object.

    Attributes:
        figures: counts, and residuals and closures in pixels or millimeters.
        samples: a record for each image in order: ``image``, ``used``, ``verdict``, ``reason``, shifts.
        links: a record for each registration: ``first``, ``second``, ``verdict``, its residual, ``kept``.
        closures: a record for each triple of images: their names and how far its loop is from closed.
        kind: ``volumes`` or ``rasters``.
        given: an image as it was given: aligned ones come back in its type.
    """

    figures: Mapping[str, float]
    samples: Sequence[Mapping[str, Any]]
    links: Sequence[Mapping[str, Any]]
    closures: Sequence[Mapping[str, Any]]
    kind: str
    given: Any
    _folder: ResultFolder

    def __repr__(self) -> str:
        used = sum(row["used"] == "yes" for row in self.samples)
        return f"<SeriesResult of {used} of {len(self.samples)} images>"

    @property
    def folder(self) -> Path:
        """Where the files lie: all that ``regflow series`` writes."""
        return self._folder.path

    @cached_property
    def images(self) -> dict[str, Any]:
        """The aligned images by name, in the type of those that were given; for paths the files' paths."""
        file = find_series_kind_steps(self.kind).image_file
        return {
            name: load_product(self.folder / ALIGNED / name / file, self.given) for name in self._list_used()
        }

    @cached_property
    def transforms(self) -> dict[str, Transform]:
        """From the common to each image's world points, by the image's name."""
        from regflow.io.raster_transforms import read_raster_transform
        from regflow.io.transforms import read_transform

        folders = {name: self.folder / ALIGNED / name for name in self._list_used()}
        if self.kind == "rasters":
            return {name: read_raster_transform(folder) for name, folder in folders.items()}
        return {name: read_transform(folder / "transform.h5") for name, folder in folders.items()}

    @property
    def changes(self) -> Path:
        """The folder of what changed, where that was asked for."""
        return self.folder / CHANGES

    def _list_used(self) -> list[str]:
        return [row["image"] for row in self.samples if row["used"] == "yes"]


def align_series(
    images: Sequence[Any] | Mapping[str, Any] | str | Path,
    *,
    output: str | Path | None = None,
    dates: Sequence[str] | None = None,
    masks: Sequence[Any] | None = None,
    mask_values: str | float | Sequence[str | int] | None = None,
    bands: str | float | Sequence[str | int] | None = None,
    nodata: str | float | None = None,
    steps: Sequence[int] | None = None,
    hub: bool | None = None,
    model: str | None = None,
    onto: str | None = None,
    motion: str | None = None,
    motion_width: float | None = None,
    cutoff: float | None = None,
    deform: bool | None = None,
    detect: bool = False,
    spacing: Spacing = None,
    preset: str = "default",
    config: Mapping[str, Any] | None = None,
    seed: int | None = None,
    threads: int | None = None,
    progress: StageListener = ignore_events,
) -> SeriesResult:
    """Bring the images of a series onto one another, by registrations between many pairs of them.

    Images are registered to their neighbors in time, to those some places apart and to the one of which most
    is valid; of all those links one map for each image is found, and links that contradict the others are
    dropped. Each image is then resampled once. No order of the images changes a byte.

    Args:
        images: volumes or scenes of any type that :func:`regflow.register` takes: a list, a mapping by name,
            the path of a sheet with the columns ``sample``, ``moving`` and perhaps ``date`` and
            ``moving_mask``, or of a TIFF with several pages.
        output: folder to make, with all that ``regflow series`` writes; what it holds of the same images and
            settings is taken up again. A temporary one when None.
        dates: one for each image, ISO 8601; else images are in the order of their names, and those that
            have none in the order given.
        masks: one for each image: of scenes quality masks, of volumes where they may steer.
        mask_values: of the scenes' masks, that exclude a pixel; 0 when None.
        bands: of the scenes, to register on.
        nodata: of the scenes: a number, ``"nan"`` or ``"none"``; as declared when None.
        steps: how many places apart images are registered to one another.
        hub: also register all images to the one of which most is valid.
        model: ``translation``, ``similarity`` or ``affine``; of volumes ``rigid`` or ``affine``.
        onto: name of the image that all others are brought onto; the middle of all when None.
        motion: ``remove``, or ``smooth`` to remove jitter and keep slow motion.
        motion_width: of smooth motion, in images.
        cutoff: from which residual a link is dropped, in units of its uncertainty.
        deform: of volumes: also measure how volume changed since the first one, as ``refine`` says.
        detect: also map changes between scenes, as :func:`regflow.detect_changes` does.
        spacing: of arrays that are volumes, ``(x, y, z)`` in mm.
        preset: as for :func:`regflow.register`.
        config: sections of the configuration, key by key; the arguments override it.
        seed: of every random choice; 0 when None.
        threads: most threads to use, all cores when None; no result depends on it.
        progress: told when a step begins and ends.

    Returns:
        ``.images`` and ``.transforms`` by name, ``.samples``, ``.links``, ``.closures`` and ``.figures``.

    Raises:
        InputError: an image, an option or a key is wrong, or the images are no series.
        RegistrationError: no two images could be registered to one another.
    """
    given = dict(locals())
    home = ResultFolder(output)
    with TemporaryDirectory(prefix="regflow-") as place, name_images(Path(place)):
        samples, like = _store_images(images, given, Path(place))
        kind = find_series_kind(samples)
        own = {name: given[name] for name in OPTIONS if given[name] is not None}
        chosen = merge_settings(config or {}, {"series": own} if own else {})
        settings = make_series_settings(chosen, kind, preset, seed)
        record = align_series_folder(
            home.path,
            samples,
            settings,
            threads=threads or count_cores(),
            detect=detect,
            progress=progress,
        )
    return SeriesResult(
        record["figures"], record["images"], record["links"], record["closures"], kind, like, home
    )


def make_series_settings(
    chosen: Mapping[str, Any], kind: str, preset: str = "default", seed: int | None = None
) -> dict[str, Any]:
    """Return the complete configuration of a series, whose linear methods seek the map of its images.

    Args:
        chosen: sections that replace the preset's, key by key.
        kind: ``volumes`` or ``rasters``.
        preset: its name.
        seed: of every random choice; 0 when None.

    Raises:
        InputError: a section is not read, or a key or value is wrong.
    """
    check_group_sections("a series", SECTIONS[kind], chosen, kind)
    complete, stated = complete_group_settings(chosen, kind, preset, seed)
    free = "methods" in chosen.get("initialize", {})
    linear = make_linear_settings(
        complete["series"]["model"], stated, kind, ladder_is_given=free, name="series.model"
    )
    return merge_settings(complete, {"initialize": linear["initialize"]})


def make_scene_reading(bands: Any, nodata: Any, mask_values: Any) -> SceneReading:
    """Return how the scenes of a series are read, of what a user says.

    Raises:
        InputError: nodata or mask values have another form.
    """
    return SceneReading(parse_bands(bands), parse_nodata(nodata), parse_mask_values(mask_values))


def _store_images(images: Any, given: Mapping[str, Any], place: Path) -> tuple[list[SeriesSample], Any]:
    """Return the images as files in order, and one of them as it was given."""
    reading = make_scene_reading(given["bands"], given["nodata"], given["mask_values"])
    listed = (
        [images]
        if is_path(images)
        else list(images.values())
        if isinstance(images, Mapping)
        else list(images)
    )
    if all(is_path(image) for image in listed) and not isinstance(images, Mapping) and given["masks"] is None:
        paths = [str(path) for path in listed]
        return read_series_samples(paths, dates=given["dates"], reading=reading), paths[0] if paths else ""
    for name in ("dates", "masks"):
        check_count(name, given[name], len(listed))
    names = (
        list(images) if isinstance(images, Mapping) else [f"image-{n:04d}" for n in range(1, len(listed) + 1)]
    )
    samples = []
    for number, (name, image) in enumerate(zip(names, listed, strict=True)):
        stored = store_image(image, place, f"image_{number + 1}", given["spacing"])
        mask = None if given["masks"] is None else given["masks"][number]
        path = (
            stored.parts.get("mask")
            if mask is None
            else store_part(mask, place, f"mask_{number + 1}", stored)
        )
        date = None if given["dates"] is None else given["dates"][number]
        samples.append(SeriesSample(str(name), stored.path, date, path, reading))
    return list_ordered_samples(samples), listed[0]
