"""Series of a cohort as jobs of the workflow: which images each has, and what its job does.

A job leaves a file that tells it is done; the series itself lies where Snakemake does not see it, so that a
job that was killed goes on where it was.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from regflow.cohort.rasters.samples import RasterSample
from regflow.cohort.volumes.samples import VolumeSample
from regflow.config.presets import merge_settings
from regflow.core.errors import InputError
from regflow.core.files import write_json
from regflow.pipeline.pair_options import make_linear_settings
from regflow.pipeline.series import align_series_folder
from regflow.pipeline.series_samples import SceneReading, SeriesSample, list_ordered_samples
from regflow.stages import layout


def list_cohort_series(
    settings: Mapping[str, Any], samples: Iterable[RasterSample | VolumeSample]
) -> dict[str, list[SeriesSample]]:
    """Return the images of each series of a cohort in order, by its name.

    Args:
        settings: the complete configuration.
        samples: the cohort.

    Raises:
        InputError: a series has one image only, or dates are missing, or its map cannot be sought.
    """
    members: dict[str, list[SeriesSample]] = {}
    for sample in samples:
        if sample.series is not None:
            members.setdefault(sample.series, []).append(_make_series_sample(sample))
    if members:
        make_cohort_series_settings(settings, settings["kind"])
    found = {}
    for name, images in sorted(members.items()):
        try:
            found[name] = list_ordered_samples(images)
        except InputError as error:
            raise InputError(f"series {name}: {error}") from None
    return found


def make_cohort_series_settings(settings: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return the configuration of a cohort's series, whose linear methods seek the map of its images.

    Raises:
        InputError: no method of the ladder seeks the map that ``series.model`` names.
    """
    linear = make_linear_settings(
        settings["series"]["model"], settings, kind, ladder_is_given=False, name="series.model"
    )
    return merge_settings(settings, {"initialize": linear["initialize"]})


def align_cohort_series(
    done: str | Path,
    *,
    name: str,
    samples: Sequence[SeriesSample],
    kind: str,
    settings: Mapping[str, Any],
    threads: int,
) -> None:
    """Align a series of a cohort, and leave a file that tells so.

    Changes between dates are mapped where the section ``detect`` names a method.

    Args:
        done: the file.
        name: of the series.
        samples: its images in order.
        kind: ``volumes`` or ``rasters``.
        settings: the complete configuration.
        threads: most threads to use.

    Raises:
        InputError: fewer than two images can be read.
        RegistrationError: no two images could be registered to one another.
    """
    record = align_series_folder(
        Path(settings["output"]) / layout.SERIES / name,
        samples,
        make_cohort_series_settings(settings, kind),
        threads=threads,
        detect=kind == "rasters" and settings["detect"]["method"] is not None,
    )
    write_json(done, {"series": name, "figures": record["figures"]})


def _make_series_sample(sample: RasterSample | VolumeSample) -> SeriesSample:
    if isinstance(sample, VolumeSample):
        return SeriesSample(sample.sample, sample.moving, mask=sample.moving_mask)
    scene = sample.scene
    reading = SceneReading(scene.bands, scene.nodata, scene.quality)
    return SeriesSample(sample.sample, scene.image, scene.date, scene.mask, reading)
