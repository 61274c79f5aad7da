"""Register, apply and detect from Python: what ``import regflow as rf`` offers.

Images are taken as people hold them and come back in the same type:

- a path: what the formats' readers read; back comes the path of a product;
- a nibabel or a SimpleITK image, 3-D: a volume;
- a rasterio dataset, or an xarray DataArray ``([band,] y, x)``, placed by its coordinates and the CRS that
  ``rio`` or its ``spatial_ref`` names: a scene;
- a numpy array: 3-D ``(z, y, x)`` with a ``spacing`` in mm, a volume whose first sample lies at the world's
  origin; 2-D ``(rows, columns)``, a scene in pixel space;
- an :class:`~regflow.core.image.Image`: on a 3-D grid a volume, on a 2-D grid a scene; its mask, labels and
  modality count as if they were given.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from regflow.cohort.rasters.samples import parse_bands
from regflow.core.grid import Grid
from regflow.core.progress import StageListener, ignore_events
from regflow.core.transform import Transform
from regflow.pipeline.carry import WarpRequest, read_any_transform, warp_object
from regflow.pipeline.exchange import (
    ResultFolder,
    StoredImage,
    is_path,
    name_images,
    read_stored_grid,
)
from regflow.pipeline.image_types import Spacing
from regflow.pipeline.pair_options import make_pair_config, make_scene_pair, make_volume_pair
from regflow.pipeline.results import ChangeResult, RegistrationResult
from regflow.pipeline.scene_changes import detect_scene_changes
from regflow.pipeline.stored_pairs import list_given_parts, store_pair

if TYPE_CHECKING:
    from regflow.pipeline.compare import ComparisonResult
    from regflow.provenance.run_record import PairRecord

Names = str | Sequence[str]
Values = str | float | Sequence[str | int] | None


def register(
    fixed: Any,
    moving: Any,
    *,
    output: str | Path | None = None,
    preset: str = "default",
    config: Mapping[str, Any] | None = None,
    initialize: Names | None = None,
    refine: Names | None = None,
    transform: str | None = None,
    fixed_mask: Any = None,
    moving_mask: Any = None,
    masks: str | None = None,
    fixed_labels: Any = None,
    moving_labels: Any = None,
    fixed_landmarks: Any = None,
    moving_landmarks: Any = None,
    landmarks: str | Path | None = None,
    modality: str | None = None,
    fixed_modality: str | None = None,
    volume: int | str | None = None,
    spacing: Spacing = None,
    fixed_spacing: Spacing = None,
    bands: Values = None,
    fixed_bands: Values = None,
    nodata: str | float | None = None,
    fixed_nodata: str | float | None = None,
    mask_values: Values = None,
    fixed_mask_values: Values = None,
    representation: str | None = None,
    companions: Mapping[str, Any] | None = None,
    classes: Mapping[str, Any] | None = None,
    interpolation: str | None = None,
    inverse_image: bool = False,
    truth: str | Path | None = None,
    seed: int | None = None,
    threads: int | None = None,
    progress: StageListener = ignore_events,
) -> RegistrationResult:
    """Bring a moving image onto a fixed one.

    Args:
        fixed: the reference, of any type that the module names.
        moving: the image that is brought onto it, of the same kind; both may be of different types.
        output: folder to make, with all that ``regflow register`` writes; a temporary one when None.
        preset: ``default``, ``fast`` or ``accurate``; of scenes ``default``, ``same-sensor``,
            ``other-dates``, ``other-sensor`` or ``microscopy``.
        config: sections of the configuration (``config/README.md``), key by key; the arguments override it.
        initialize: linear methods, first choice first.
        refine: deformable methods, first choice first; ``"none"`` for a linear result.
        transform: linear and of this kind, nothing deformed unless ``refine`` says how: ``rigid``,
            ``similarity`` or ``affine``; of scenes ``translation``, ``similarity``, ``affine`` or
            ``homography``.
        fixed_mask: where the fixed image may steer the registration, in any of the types; an array has one
            value for each sample of its image.
        moving_mask: the same of the moving image; of scenes, a quality mask.
        masks: ``fixed`` or ``both``: whose masks steer the deformation of volumes.
        fixed_labels: structures of the fixed volume, for Dice and surface distances, as for ``fixed_mask``.
        moving_labels: those of the moving volume; they come back in ``.labels``.
        fixed_landmarks: partners of the moving landmarks: a path, or ``(N, 3)`` LPS mm; they measure the
            error, or drive the method ``landmarks``.
        moving_landmarks: points of the moving volume, likewise.
        landmarks: of scenes, the file of pairs of points that drive the method ``landmarks``: ``.points`` of
            QGIS' georeferencer, or a table ``fixed_x,fixed_y,moving_x,moving_y``.
        modality: of the moving volume: ``T1w``, ``CT`` ...
        fixed_modality: of the fixed volume.
        volume: which volume of a 4-D moving file, from 0, or which DICOM series.
        spacing: of arrays that are volumes, ``(x, y, z)`` in mm (the reverse of the array's axes), or one
            number.
        fixed_spacing: of a fixed array, where it is another.
        bands: of the moving scene, to match on, by number from 1 or name.
        fixed_bands: of the fixed scene.
        nodata: of the moving scene: a number, ``"nan"`` or ``"none"``; as declared when None.
        fixed_nodata: of the fixed scene.
        mask_values: of the moving scene's mask, that exclude a pixel: ``[3, 8]``, ``"3, 8-10"`` or
            ``"bit1"``; 0 when None.
        fixed_mask_values: of the fixed scene's mask.
        representation: of scenes: ``intensity``, ``gradient`` or ``phase-congruency``.
        companions: images that follow the moving one, by name; they come back in ``.companions``.
        classes: the same for rasters of classes: files of the result's folder.
        interpolation: of the warped image: ``nearest``, ``linear``, ``cubic`` or ``lanczos``.
        inverse_image: also bring the fixed image onto the moving one's grid, as a file of the folder.
        truth: of scenes, a known ``displacement.tif``, to measure the true error with.
        seed: of every random choice; 0 when None.
        threads: most threads to use, all cores when None; no result depends on it.
        progress: told when a stage begins and ends; from several threads.

    Returns:
        ``.warped`` in the moving image's type, ``.transform``, ``.inverse``, ``.verdict``, ``.figures``,
        and ``.save(folder)``.

    Raises:
        InputError: an image, a file, an option or a key is wrong; one sentence says which and what to do.
        RegistrationError: no method gave a usable transform.

    Examples:
        Three soft blobs, moved by one sample of 3 mm along x:

        >>> import numpy as np
        >>> import regflow as rf
        >>> z, y, x = np.indices((24, 24, 24))
        >>> def blobs(shift):
        ...     places = (12, 12, 12, 60), (17, 9, 13, 12), (9, 10, 17, 8)
        ...     x0 = x - shift
        ...     return sum(
        ...         100 * np.exp(-((x0 - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / d) for a, b, c, d in places
        ...     )
        >>> result = rf.register(blobs(0), blobs(1), spacing=3.0, initialize="moments", refine="none")
        >>> bool(abs(result.transform.apply([[36.0, 36.0, 36.0]]) - [39.0, 36.0, 36.0]).max() < 0.5)
        True
        >>> result.warped.shape
        (24, 24, 24)

        >>> rf.register(blobs(0), blobs(1)[0], spacing=3.0)
        Traceback (most recent call last):
        regflow.core.errors.InputError: the moving image is a 2-D array, a scene in pixel space; leave \
'spacing' out
    """
    return _register(fixed, moving, {name: value for name, value in locals().items() if name in _OPTIONS})


def compare(
    fixed: Any,
    moving: Any,
    *,
    output: str | Path,
    preset: str = "default",
    config: Mapping[str, Any] | None = None,
    methods: Names | None = None,
    moved: Sequence[float] | None = None,
    warped: Sequence[float] | None = None,
    time_limit: float = 600.0,
    fixed_mask: Any = None,
    moving_mask: Any = None,
    fixed_labels: Any = None,
    moving_labels: Any = None,
    fixed_landmarks: Any = None,
    moving_landmarks: Any = None,
    landmarks: str | Path | None = None,
    modality: str | None = None,
    fixed_modality: str | None = None,
    volume: int | str | None = None,
    spacing: Spacing = None,
    fixed_spacing: Spacing = None,
    bands: Values = None,
    fixed_bands: Values = None,
    nodata: str | float | None = None,
    fixed_nodata: str | float | None = None,
    mask_values: Values = None,
    fixed_mask_values: Values = None,
    seed: int = 0,
    threads: int | None = None,
    progress: StageListener = ignore_events,
) -> "ComparisonResult":
    """Run every method that fits a pair, each by itself, and recommend a ladder.

    Besides the pair itself each method gets the fixed image moved in known ways, with the contrast and the
    noise of the moving one: how far its answers err is then known. What is done already in the folder is not
    done again.

    Args:
        fixed: the reference, of any type that the module names.
        moving: the image that is to be brought onto it.
        output: folder to make.
        preset: as for :func:`register`.
        config: sections of the configuration, for all methods.
        methods: to compare, of either stage; all that fit the kind of image when None.
        moved: how far the fixed image is shifted and turned: of volumes mm and degrees, of scenes pixels;
            parts of the object's size when None.
        warped: the longest displacements of its smooth deformations, mm or pixels; likewise.
        time_limit: seconds after which a method is stopped on a pair.
        fixed_mask: as for :func:`register`, like all that follow.
        moving_mask: see there.
        fixed_labels: see there.
        moving_labels: see there.
        fixed_landmarks: see there.
        moving_landmarks: see there.
        landmarks: see there.
        modality: see there.
        fixed_modality: see there.
        volume: see there.
        spacing: see there.
        fixed_spacing: see there.
        bands: see there.
        fixed_bands: see there.
        nodata: see there.
        fixed_nodata: see there.
        mask_values: see there.
        fixed_mask_values: see there.
        seed: of the motions.
        threads: most threads of all methods together, all cores when None.
        progress: told when a method begins and ends on a pair; from several threads.

    Returns:
        ``.rows``, one for each method, ``.recommendation``, and ``.folder`` with ``index.html``,
        ``comparison.tsv`` and ``recommended.yaml``.

    Raises:
        InputError: an image, a file, an option or a key is wrong; one sentence says which and what to do.
    """
    return _compare(fixed, moving, {name: value for name, value in locals().items() if name in _COMPARED})


def apply_transform(
    transform: Transform | str | Path,
    image: Any,
    reference: Any = None,
    *,
    output: str | Path | None = None,
    labels: bool = False,
    points: bool = False,
    inverse: bool = False,
    interpolation: str = "linear",
    outside: float | None = None,
    smooth: bool = False,
    volume: int | str | None = None,
    nodata: str | float | None = None,
    spacing: Spacing = None,
    threads: int | None = None,
) -> Any:
    """Carry an image, a label map or points, which lie in the moving image's space, into the fixed one's.

    Args:
        transform: from fixed to moving world points, or its file: any ITK transform; of scenes
            ``transform.json``, the folder that holds it, or ``displacement.tif``.
        image: of any type that the module names; with ``points`` a file, or ``(N, 3)`` LPS mm, ``(N, 2)``
            in the fixed scene's CRS.
        reference: the fixed image, whose grid (of a scene: whose footprint) the result takes, or a
            :class:`~regflow.core.grid.Grid`.
        output: file to write; must be given for a path.
        labels: ``image`` is a label map, or a scene of classes: no value is invented.
        points: ``image`` holds points; they go by the transform's inverse, which is what brings them along
            with an image.
        inverse: the other way, from the fixed image's space to the moving one's; ``reference`` is then the
            moving image. How far the inverse errs stands in the tags of a scene's file.
        interpolation: ``nearest``, ``linear``, ``cubic`` or ``lanczos``.
        outside: value where a volume has no sample; its own background when None.
        smooth: borders of labels between samples, instead of the nearest sample.
        volume: which volume of a 4-D file, from 0, or which DICOM series; all when None.
        nodata: of a scene: a number, ``"nan"`` or ``"none"``; as declared when None.
        spacing: of arrays that are volumes, ``(x, y, z)`` in mm.
        threads: most threads to use for a scene, all cores when None; no byte depends on it.

    Returns:
        The result in the type of ``image``; for a path that of ``output``.

    Raises:
        InputError: something cannot be read, or does not belong together.

    Examples:
        >>> import numpy as np
        >>> import regflow as rf
        >>> shift = rf.Affine.from_parts(np.eye(3), [2.0, 0.0, 0.0])  # one sample of 2 mm along x
        >>> image = np.zeros((3, 3, 3), np.int16)
        >>> image[1, 1] = [10, 20, 30]
        >>> rf.apply_transform(shift, image, image, spacing=2.0)[1, 1]
        array([20, 30,  0], dtype=int16)
        >>> rf.apply_transform(shift, [[5.0, 1.0, 1.0]], points=True)
        array([[3., 1., 1.]])
    """
    how = {
        **{"interpolation": interpolation, "outside": outside, "smooth": smooth, "volume": volume},
        **{"nodata": nodata, "spacing": spacing, "threads": threads},
    }
    path = None if output is None else Path(output)
    with TemporaryDirectory(prefix="regflow-") as folder:
        carried = WarpRequest(image, reference, path, labels, points, inverse, how)
        return warp_object(transform, carried, Path(folder))


def detect_changes(
    before: Any,
    after: Any,
    *later: Any,
    output: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    method: str | None = None,
    bands: Values = None,
    indices: Sequence[Sequence[int]] | None = None,
    threshold: str | None = None,
    level: float | None = None,
    mapping_unit_px: int | None = None,
    residual_px: float | None = None,
    masks: Sequence[Any] | None = None,
    mask_values: Values = None,
    nodata: str | float | None = None,
    dates: Sequence[str] | None = None,
    pairs: str | None = None,
    normalized: bool = False,
    all_pixels: bool = False,
    chunk: int | None = None,
    threads: int | None = None,
) -> ChangeResult:
    """Map what changed between scenes that lie on the same pixels.

    Args:
        before: the first scene, of any type that the module names.
        after: the second one.
        later: further ones; each comparison is then one of ``.comparisons``.
        output: folder to make, with all that ``regflow detect`` writes; a temporary one when None.
        config: the section ``detect`` of the configuration (``config/rasters/README.md``); the arguments
            override it.
        method: ``ir-mad``, ``cva`` or ``index-difference``.
        bands: to compare, by number from 1 or name; all when None.
        indices: for ``index-difference``: pairs (A, B) of the bands compared, (A - B) / (A + B).
        threshold: ``chi-square`` or ``otsu``.
        level: of chi-square, 0 to 1: the share of unchanged pixels left unmarked.
        mapping_unit_px: pixels of the smallest change kept.
        residual_px: remaining registration error in pixels.
        masks: quality masks, one for each scene, of any type.
        mask_values: values of the masks that exclude a pixel: ``[3, 8]``, ``"3, 8-10"`` or ``"bit1"``.
        nodata: a number, ``"nan"`` or ``"none"``; as declared when None.
        dates: one for each scene, ISO 8601.
        pairs: with more than two scenes ``reference`` (each with the first) or ``consecutive``.
        normalized: also write the later date in the earlier's radiometry, as a file of the folder.
        all_pixels: statistics from every pixel, not from an even sample.
        chunk: pixels along a side of the blocks read; no result depends on it.
        threads: most threads to use, all cores when None; no result depends on it.

    Returns:
        ``.change``, ``.magnitude`` and ``.probability`` in the type of ``before``, ``.verdict``,
        ``.figures`` and ``.save(folder)``.

    Raises:
        InputError: a scene or a setting is wrong, or the scenes do not lie on one another.
        RegistrationError: nothing to hold a change against was found.

    Examples:
        >>> import numpy as np
        >>> import regflow as rf
        >>> rng = np.random.default_rng(0)
        >>> before = rng.normal(100, 10, (96, 96)).astype(np.float32)
        >>> after = before + rng.normal(0, 1, before.shape).astype(np.float32)
        >>> after[40:60, 40:60] += 80
        >>> found = rf.detect_changes(before, after, method="cva")
        >>> int(found.figures["regions"]), int(found.change[50, 50]), int(found.change[10, 10])
        (1, 1, 0)
    """
    return detect_scene_changes(
        (before, after, *later), {name: value for name, value in locals().items() if name in _CHANGE_OPTIONS}
    )


def read_transform(path: str | Path, grid: Grid | None = None) -> Transform:
    """Read a transform of volumes or of scenes.

    Args:
        path: any ITK transform file (``.h5``, ``.tfm``, ``.mat``, ``.txt``, ``.xfm``), or of scenes
            ``transform.json``, the folder that holds it, or ``displacement.tif``.
        grid: where to sample a transform that is neither linear nor a displacement field (a B-spline).

    Returns:
        From fixed to moving world points: LPS mm, or the fixed scene's CRS units.

    Raises:
        InputError: the file cannot be read, or it needs a grid and none is given.
    """
    return read_any_transform(path, grid)


def _register(fixed: Any, moving: Any, given: Mapping[str, Any]) -> RegistrationResult:
    from regflow.pipeline.pair import register_pair

    home = ResultFolder(given["output"])
    with TemporaryDirectory(prefix="regflow-") as name, name_images(Path(name)):
        pair = store_pair(fixed, moving, given, Path(name))
        found = register_pair(
            pair.kind,
            _PAIRS[pair.kind](pair.fixed.path, pair.moving.path, {**given, **pair.parts}),
            home.path,
            config=make_pair_config(given, pair.kind, given["preset"], below=given["config"]),
            **{name: given[name] for name in ("preset", "inverse_image", "threads", "progress")},
        )
        grid = _fixed_grid(pair.fixed, found)
    return RegistrationResult(
        kind=pair.kind,
        transform=found.transform,
        verdict=found.verdict,
        figures=dict(found.quality["figures"]),
        seconds=found.seconds,
        fixed_grid=grid,
        given=list_given_parts(moving, given),
        _folder=home,
    )


def _compare(fixed: Any, moving: Any, given: Mapping[str, Any]) -> "ComparisonResult":
    from regflow.core.threads import count_cores
    from regflow.pipeline.compare import compare_pair
    from regflow.pipeline.comparison import ComparisonSettings
    from regflow.pipeline.known_truth import make_own_pair

    given = {**dict.fromkeys(_OPTIONS), **given}
    folder = Path(given["output"])
    stored = folder / "images"
    if not (is_path(fixed) and is_path(moving)):
        stored.mkdir(parents=True, exist_ok=True)
    pair = store_pair(fixed, moving, given, stored)
    how = ComparisonSettings(
        pair.kind,
        folder,
        given["preset"],
        make_pair_config(given, pair.kind, given["preset"], below=given["config"]),
        given["time_limit"],
        given["threads"] or count_cores(),
    )
    with name_images(stored):
        return compare_pair(
            make_own_pair(pair.fixed.path, pair.moving.path, {**given, **pair.parts}),
            how,
            methods=parse_bands(given["methods"]),
            sizes={name: given[name] for name in ("moved", "warped")},
            seed=given["seed"],
            progress=given["progress"],
        )


def _fixed_grid(fixed: StoredImage, found: "PairRecord") -> Grid:
    """Return where the fixed image's samples lie, in the transform's world."""
    from regflow.io.raster_transforms import read_fixed_grid

    return read_stored_grid(fixed) if fixed.kind == "volumes" else read_fixed_grid(found.output)


def _keywords(function: Any) -> frozenset[str]:
    code = function.__code__
    return frozenset(code.co_varnames[code.co_argcount :][: code.co_kwonlyargcount])


_OPTIONS, _CHANGE_OPTIONS, _COMPARED = map(_keywords, (register, detect_changes, compare))
_PAIRS = {"volumes": make_volume_pair, "rasters": make_scene_pair}
