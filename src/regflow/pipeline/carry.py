"""An image, a label map or points through a transform, whatever their types."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from regflow.cohort.rasters.samples import parse_nodata
from regflow.core.errors import InputError
from regflow.core.grid import Grid
from regflow.core.transform import Transform, flatten_transform
from regflow.pipeline.exchange import (
    StoredImage,
    find_common_kind,
    is_path,
    load_product,
    name_images,
    parse_points,
    read_stored_grid,
    store_image,
    store_reference,
)
from regflow.pipeline.image_types import Spacing
from regflow.pipeline.raster_warp import (
    LoadedTransform,
    load_transform,
    map_point_file,
    move_points,
    warp_raster_file,
)

SCENE_TRANSFORMS = (".json", ".tif", ".tiff")
"""Endings of transforms between scenes; a folder holds one as well."""

_GIVEN = "the transform"


class WarpRequest(NamedTuple):
    """What is carried, and how.

    Attributes:
        what: an image, or points.
        reference: whose grid the result takes; None for points.
        output: the file to write; None for what is in memory.
        labels: whether it is a label map or classes.
        points: whether it is points.
        inverse: whether it goes from the fixed to the moving image's space.
        how: ``interpolation``, ``outside``, ``smooth``, ``volume``, ``nodata``, ``spacing``, ``threads``.
    """

    what: Any
    reference: Any
    output: Path | None
    labels: bool
    points: bool
    inverse: bool
    how: Mapping[str, Any]


def find_kind_of_transform(transform: Any) -> str:
    """Return ``volumes`` or ``rasters``: what a transform, or the file of one, is for."""
    if is_path(transform):
        path = Path(transform)
        return "rasters" if path.suffix.lower() in SCENE_TRANSFORMS or path.is_dir() else "volumes"
    return "volumes" if next(flatten_transform([transform])).ndim == 3 else "rasters"


def read_any_transform(path: str | Path, grid: Grid | None = None) -> Transform:
    """Read a transform of volumes or of scenes.

    Args:
        path: any ITK transform file, or of scenes ``transform.json``, its folder or ``displacement.tif``.
        grid: where to sample a transform that is neither linear nor a displacement field (a B-spline).

    Raises:
        InputError: the file cannot be read, or it needs a grid and none is given.
    """
    from regflow.io.transforms import read_transform

    if find_kind_of_transform(path) == "rasters":
        return load_transform(path).transform
    return read_transform(path, grid)


def refuse_misuse(given: Mapping[str, Any], kind: str, spelled: Callable[[str], str] = str) -> None:
    """Refuse options that contradict each other, are missing, or are for the other kind of images.

    Args:
        given: ``reference``, ``labels``, ``points``, ``outside``, ``smooth``, ``volume`` and ``nodata``.
        kind: ``volumes`` or ``rasters``: what the transform is for.
        spelled: how the user wrote an option of a name.

    Raises:
        InputError: naming them.
    """
    if given["labels"] and given["points"]:
        raise InputError(f"{spelled('labels')} and {spelled('points')} are both given; give one of the two")
    if given["outside"] is not None and (given["labels"] or given["points"]):
        raise InputError(
            f"{spelled('outside')} is for images; label maps have 0 there, and points no background"
        )
    if given["reference"] is None and not given["points"]:
        raise InputError(f"{spelled('reference')} is missing; name the image whose grid the result takes")
    others = ("smooth", "volume", "outside") if kind == "rasters" else ("nodata",)
    for name in others:
        if given[name] is not None and given[name] is not False:
            noun = {"rasters": "scenes"}.get(kind, kind)
            raise InputError(f"{spelled(name)} is not for {noun}; leave it out")


def warp_object(transform: Transform | str | Path, carried: WarpRequest, folder: Path) -> Any:
    """Return what is carried through a transform, in its type.

    Args:
        transform: from fixed to moving world points, or its file.
        carried: what, and how.
        folder: for files of what is in memory.

    Raises:
        InputError: something cannot be read, or does not belong together.
    """
    kind = find_kind_of_transform(transform)
    refuse_misuse({**carried._asdict(), **carried.how}, kind)
    if carried.output is None and is_path(carried.what):
        raise InputError("the output is missing; name the file to write")
    spacing: Spacing = carried.how["spacing"]
    reference = None
    if carried.reference is not None:
        reference = store_reference(carried.reference, folder, spacing)
    if carried.points:
        return (_carry_scene_points if kind == "rasters" else _carry_landmarks)(transform, carried, reference)
    assert reference is not None
    source = store_image(carried.what, folder, "moving", spacing)
    of_reference = reference.kind if isinstance(reference, StoredImage) else "volumes"
    find_common_kind((source.name, "the reference"), (source.kind, of_reference))
    find_common_kind((source.name, _named(transform)), (source.kind, kind))
    with name_images(folder):
        if isinstance(reference, StoredImage):
            return _carry_scene(transform, source, reference, carried, folder)
        return _carry_volume(transform, source, reference, carried, folder)


def _named(transform: Any) -> str:
    return str(transform) if is_path(transform) else _GIVEN


def _loaded(transform: Any, grid: Grid | None) -> Transform:
    from regflow.io.transforms import read_transform

    if not is_path(transform):
        return transform
    return read_transform(transform, grid)


def _carry_volume(transform: Any, source: StoredImage, grid: Grid, carried: WarpRequest, folder: Path) -> Any:
    from regflow.pipeline.volume_warp import warp_label_file, warp_volume_file

    forward, how = _loaded(transform, grid), carried.how
    pull = forward.inverse() if carried.inverse else forward
    output = carried.output or folder / "carried.nrrd"
    if carried.labels:
        mode = "smooth" if how["smooth"] else "nearest"
        warp_label_file(source.path, output, grid, pull, volume=how["volume"], mode=mode)
    else:
        chosen = {name: how[name] for name in ("interpolation", "outside")}
        warp_volume_file(source.path, output, grid, pull, volume=how["volume"], how=chosen)
    return load_product(output, carried.what, grid)


def _carry_scene(
    transform: Any, source: StoredImage, reference: StoredImage, carried: WarpRequest, folder: Path
) -> Any:
    from regflow.stages.rasters.warping import WarpInput

    how = carried.how
    output = carried.output or folder / "carried.tif"
    warp_raster_file(
        _correction(transform, source if carried.inverse else reference),
        WarpInput(source.path, carried.labels, parse_nodata(how["nodata"])),
        output,
        reference=reference.path,
        resampling={"linear": "bilinear"}.get(how["interpolation"], how["interpolation"]),
        inverse=carried.inverse,
        threads=how["threads"],
    )
    return load_product(output, carried.what)


def _correction(transform: Any, fixed: StoredImage | None) -> LoadedTransform:
    """Return a transform between scenes with what it covers: the fixed scene, where no file tells."""
    if is_path(transform):
        return load_transform(transform)
    if fixed is None:
        raise InputError("the reference is missing; name the fixed scene, in whose pixels accuracy is meant")
    return LoadedTransform(Path(_GIVEN), transform, read_stored_grid(fixed), None)


def _carry_landmarks(transform: Any, carried: WarpRequest, reference: StoredImage | Grid | None) -> Any:
    from regflow.pipeline.volume_warp import warp_landmark_file

    if isinstance(reference, StoredImage):
        raise InputError(f"{reference.name}: is a scene, but the transform is one of volumes")
    forward = _loaded(transform, reference)
    push = forward if carried.inverse else forward.inverse()
    if is_path(carried.what):
        assert carried.output is not None
        warp_landmark_file(carried.what, carried.output, push)
        return carried.output
    return push.apply(parse_points(carried.what, "points", 3))


def _carry_scene_points(transform: Any, carried: WarpRequest, reference: StoredImage | Grid | None) -> Any:
    if isinstance(reference, Grid):
        raise InputError("the reference is a volume, but the transform is one of scenes")
    correction = _correction(transform, reference)
    if is_path(carried.what):
        assert carried.output is not None
        map_point_file(correction, carried.what, carried.output, inverse=carried.inverse)
        return carried.output
    return move_points(correction, parse_points(carried.what, "points", 2), "points", inverse=carried.inverse)
