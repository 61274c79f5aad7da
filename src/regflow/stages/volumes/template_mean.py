"""The mean of a round: of the transforms, whose drift is taken out, and of the images under them."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regflow.core.devices import limit_numba_threads
from regflow.core.errors import RegistrationError
from regflow.core.files import read_json, write_json
from regflow.core.grid import Grid
from regflow.core.image import Image
from regflow.core.sampling import sample_channel
from regflow.core.similarity import ncc
from regflow.core.transform import (
    Affine,
    Composite,
    DisplacementField,
    Transform,
    compose_transforms,
    flatten_transform,
)
from regflow.io.transforms import read_transform, write_transform
from regflow.io.volumes import write_volume
from regflow.methods.groupwise.intensity_average import (
    SHARPENINGS,
    STATISTICS,
    apply_sharpening,
    average_intensities,
)
from regflow.methods.groupwise.linear_average import average_linear_maps, find_stretch
from regflow.metrics.sharpness import measure_gradient_energy
from regflow.stages.volumes.template_fits import DEFORMABLE, TemplateFit, find_linear_part, read_fit
from regflow.stages.volumes.template_images import (
    find_mean_grid,
    name_channel_file,
    read_channel,
    read_start_name,
)
from regflow.stages.volumes.working import read_working, write_working

OPTIONS: dict[str, dict[str, Any]] = {
    "average": {
        "enum": list(STATISTICS),
        "description": "of the images under the transforms: mean; median; trimmed: the mean without the "
        "lowest and highest parts, so that a few odd images count nowhere",
        "default": "mean",
    },
    "trim": {
        "type": "number",
        "minimum": 0,
        "exclusiveMaximum": 0.5,
        "description": "part of the images that 'trimmed' leaves out at either end",
        "default": 0.1,
    },
    "sharpen": {
        "enum": list(SHARPENINGS),
        "description": "edges of the mean restored: laplacian takes a part of the Laplacian off, unsharp "
        "adds a part of the difference from a blurred copy",
        "default": "none",
    },
    "sharpen_amount": {
        "type": "number",
        "minimum": 0,
        "description": "that part",
        "default": 0.5,
    },
    "symmetric": {
        "type": "boolean",
        "description": "every image counts a second time, with left and right turned around, so that the "
        "template is its own mirror image; takes twice as long",
        "default": False,
    },
}

FEWEST = 2
MEAN_FILE, TRANSFORMS = "mean.json", "transforms"
SLAB_VALUES = 1 << 23
"""Samples of all images together that are averaged at a time."""
PROBES = 20_000
"""Points inside the mask at which the drift of linear maps is measured."""

Moved = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class RoundMean:
    """What the transforms of a round have in common, and what is left of each.

    Attributes:
        transforms: from the new template's to image points, by name.
        grid: of the new template.
        figures: ``drift_mm``, how far the mean of the maps moved the template, ``spread_mm``, how far the
            maps lie from their mean, both means inside the mask; of deformable rounds also
            ``logarithm_error_mm``.
    """

    transforms: Mapping[str, Transform]
    grid: Grid
    figures: Mapping[str, float]


def average_round(
    folder: str | Path,
    *,
    images: Mapping[str, str | Path],
    fits: Mapping[str, str | Path],
    template: str | Path,
    kind: str,
    weights: Mapping[str, float],
    channels: Sequence[str],
    settings: Mapping[str, Any],
    keeps_pose: bool = False,
    spacing_mm: float | None = None,
    threads: int = 1,
) -> None:
    """Write the next template: the mean of all images, in the middle of all of them.

    The mean of the maps from the last template to the images is taken out of each, so what that template
    had of its own is gone.

    Args:
        folder: to write into: a folder of images, ``transforms/NAME.h5`` from the new template's to each
            image's points, and the figures in ``mean.json``.
        images: folders of images by name; sums follow this order.
        fits: folders of the round's registrations by name.
        template: folder of what the round registered to.
        kind: of the round.
        weights: of the images by name.
        channels: names of further channels.
        settings: by the names of :data:`OPTIONS`.
        keeps_pose: take out the mean stretch and the mean deformation only, as where the user has given
            what to start with: the template stays where that lies.
        spacing_mm: of a new grid, where the first round makes one.
        threads: most threads to use; no result depends on it.

    Raises:
        RegistrationError: fewer than two images are left.
    """
    folder = Path(folder)
    found = {name: read_fit(path) for name, path in fits.items()}
    used = [name for name in images if found[name].is_usable]
    if len(used) < FEWEST:
        told = "; ".join(f"{name}: {found[name].verdict.reason}" for name in images if name not in used)
        raise RegistrationError(f"a template needs {FEWEST} images, and {len(used)} is left ({told})")
    last = read_working(template)
    shares = [weights[name] for name in used]
    with limit_numba_threads(threads):
        chosen = {name: found[name] for name in used}
        if kind == DEFORMABLE:
            middle = _average_fields(chosen, shares, last)
        else:
            middle = _average_maps(chosen, shares, last, keeps_pose)
            if read_start_name(template) is not None:
                placed = {name: (images[name], one) for name, one in middle.transforms.items()}
                middle = replace(
                    middle, grid=find_mean_grid(placed, spacing_mm, symmetric=settings["symmetric"])
                )
        for name, transform in middle.transforms.items():
            write_transform(folder / TRANSFORMS / f"{name}.h5", transform)
        folders = {name: images[name] for name in used}
        made, agreement = _average_images(folders, middle, shares, settings, None)
        write_working(folder, made)
        for channel in channels:
            other, _ = _average_images(folders, middle, shares, settings, channel)
            write_volume(folder / name_channel_file(channel), other.channel, other.grid)
    figures = {**middle.figures, **_compare(last, made)}
    samples = {
        name: {
            "verdict": fit.verdict.to_dict(),
            "used": name in used,
            "weight": weights[name],
            **({"ncc": agreement[name]} if name in agreement else {}),
        }
        for name, fit in found.items()
    }
    write_json(folder / MEAN_FILE, {"kind": kind, "figures": figures, "samples": samples})


def read_mean(folder: str | Path) -> dict[str, Any]:
    """Read the record that :func:`average_round` wrote: ``kind``, ``figures`` and ``samples``."""
    found: dict[str, Any] = read_json(Path(folder) / MEAN_FILE)
    return found


def _average_maps(
    fits: Mapping[str, TemplateFit],
    weights: Sequence[float],
    last: Image,
    keeps_pose: bool,
) -> RoundMean:
    """Take the mean of linear maps out of each."""
    maps = {name: find_linear_part(_read(fit, last.grid)) for name, fit in fits.items()}
    mean = average_linear_maps(list(maps.values()), weights)
    points = _draw_points(last)
    if keeps_pose:
        mean = find_stretch(mean, points.mean(axis=0))
    middle = {name: compose_transforms(mean.inverse(), one) for name, one in maps.items()}
    moved = mean.apply(points) - points
    figures = {
        "drift_mm": float(np.linalg.norm(moved, axis=1).mean()),
        "spread_mm": _measure_spread(list(middle.values()), weights, points),
    }
    return RoundMean(middle, last.grid, figures)


def _average_fields(fits: Mapping[str, TemplateFit], weights: Sequence[float], last: Image) -> RoundMean:
    """Take the mean of deformations, as velocities, out of each."""
    from regflow.core import fields
    from regflow.methods.groupwise.velocity_average import (
        VelocityMean,
        integrate_velocity,
        measure_mean_length,
    )

    grid, size = last.grid, float(np.prod(last.grid.spacing) ** (1 / last.grid.ndim))
    mean = VelocityMean(grid.shape)
    for fit, weight in zip(fits.values(), weights, strict=True):
        mean.add(_read_displacement(_read(fit, grid), grid), weight)
    velocity = mean.average()
    back = integrate_velocity(-velocity)
    middle: dict[str, Transform] = {}
    for name, fit in fits.items():
        transform = _read(fit, grid)
        field = fields.compose_displacements(_read_displacement(transform, grid), back)
        vectors = fields.to_world(field, grid)
        middle[name] = Composite((DisplacementField(vectors, grid), find_linear_part(transform)))
    drift = fields.to_world(integrate_velocity(velocity), grid)
    spread = mean.measure_spread()
    figures = {
        "drift_mm": measure_mean_length(drift, last.mask),
        "spread_mm": size * float((spread if last.mask is None else spread[last.mask]).mean()),
        "logarithm_error_mm": size * float(np.mean(mean.residuals)),
    }
    return RoundMean(middle, grid, figures)


def _read(fit: TemplateFit, grid: Grid) -> Transform:
    assert fit.transform is not None
    return read_transform(fit.transform, grid)


def _read_displacement(transform: Transform, grid: Grid) -> NDArray[np.float32]:
    """Return what a transform does before its linear part, as a voxel field on a grid."""
    from regflow.core import fields

    first, *rest = flatten_transform([transform])
    if isinstance(first, DisplacementField) and first.grid.matches(grid):
        if all(isinstance(part, Affine) for part in rest):
            return fields.to_voxels(first.vectors, grid)
    elif isinstance(first, Affine) and all(isinstance(part, Affine) for part in rest):
        return np.zeros((grid.ndim, *grid.shape), np.float32)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij")[::-1], axis=-1)
    points = grid.to_world(index.reshape(-1, grid.ndim))
    moved = find_linear_part(transform).inverse().apply(transform.apply(points)) - points
    return fields.to_voxels(moved.T.reshape(grid.ndim, *grid.shape), grid)


def _draw_points(image: Image) -> NDArray[np.float64]:
    """Return world points inside an image's mask, evenly taken from all."""
    mask = np.ones(image.grid.shape, bool) if image.mask is None or not image.mask.any() else image.mask
    inside = np.argwhere(mask)
    return image.grid.to_world(inside[:: max(1, len(inside) // PROBES), ::-1])


def _measure_spread(
    maps: Sequence[Transform], weights: Sequence[float], points: NDArray[np.float64]
) -> float:
    """Return the root of the mean squared displacement of maps, the mean of points."""
    squares = np.zeros(len(points))
    for one, weight in zip(maps, weights, strict=True):
        squares += weight * ((one.apply(points) - points) ** 2).sum(axis=1)
    return float(np.sqrt(squares / sum(weights)).mean())


def _average_images(
    folders: Mapping[str, str | Path],
    middle: RoundMean,
    weights: Sequence[float],
    settings: Mapping[str, Any],
    channel: str | None,
) -> tuple[Image, dict[str, float]]:
    """Return the mean image with its mask, and each image's correlation with it inside the mask."""
    shape = middle.grid.shape
    inside = np.zeros(shape)
    with tempfile.TemporaryDirectory(prefix="regflow-") as place:
        stack: Any = np.lib.format.open_memmap(
            str(Path(place) / "moved.npy"), "w+", np.float32, (len(folders), *shape)
        )
        for number, (name, folder) in enumerate(folders.items()):
            image, transform = read_channel(folder, channel), middle.transforms[name]
            stack[number] = sample_channel(
                image.channel, image.grid, middle.grid, transform, "cubic", float("nan")
            )
            mask = np.ones(image.grid.shape, bool) if image.mask is None else image.mask
            part = sample_channel(mask.astype(np.float32), image.grid, middle.grid, transform)
            inside += weights[number] * part
        mean = _average_slabs(stack, weights, settings)
        mask = inside >= 0.5 * sum(weights)
        agreement = {
            name: ncc(np.nan_to_num(stack[number]), mean, mask) for number, name in enumerate(folders)
        }
        del stack
    if settings["symmetric"]:
        # What is left of asymmetry is the registrations' own.
        mean = (mean + mean[..., ::-1]) * np.float32(0.5)
        mask = mask | mask[..., ::-1]
    sharp = apply_sharpening(mean, settings["sharpen"], settings["sharpen_amount"])
    return Image(sharp[None], middle.grid, mask), agreement


def _average_slabs(
    stack: NDArray[np.float32], weights: Sequence[float], settings: Mapping[str, Any]
) -> NDArray[np.float32]:
    """Return the mean over the first axis, some planes at a time; nothing seen is the least value seen."""
    count, depth = stack.shape[:2]
    step = max(1, SLAB_VALUES // (count * int(np.prod(stack.shape[2:]))))
    mean = np.concatenate(
        [
            average_intensities(
                stack[:, start : start + step], weights, settings["average"], settings["trim"]
            )
            for start in range(0, depth, step)
        ]
    )
    return np.nan_to_num(mean, nan=float(np.nanmin(mean))).astype(np.float32)


def _compare(last: Image, made: Image) -> dict[str, float]:
    """Return how sharp the new template is, and how far it is from the last one where both have one grid."""
    figures = {"gradient_energy": measure_gradient_energy(made.channel, made.grid, made.mask)}
    if last.grid.matches(made.grid) and made.mask is not None and made.mask.any():
        gap = (made.channel - last.channel)[made.mask].astype(np.float64)
        figures["change_rms"] = float(np.sqrt((gap**2).mean()))
    return figures
