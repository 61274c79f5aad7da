"""Mosaics as OME-Zarr, chunk by chunk: NGFF 0.5, with levels of half the size each.

Specification: https://ngff.openmicroscopy.org/0.5/
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from regflow.core.files import write_whole_directory

CHUNK = 1024
"""Side of a chunk in pixels; each is a file."""
SMALLEST = 512
"""Levels end when the picture is no larger."""


@dataclass(frozen=True)
class OmeProfile:
    """What an OME file says beside its pixels.

    Attributes:
        shape: ``(C, rows, columns)``.
        dtype: of the samples.
        channels: names; empty for none.
        pixel_size_um: width and height of a pixel in micrometers, None where it is not known.
        name: of the picture.
    """

    shape: tuple[int, int, int]
    dtype: str
    channels: tuple[str, ...] = ()
    pixel_size_um: float | None = None
    name: str = "mosaic"


class OmeZarrWriter:
    """Writes a picture window by window: ``with OmeZarrWriter(path, profile) as store: store.write(...)``.

    The folder appears, whole, when the block ends without an error. Windows must begin and end where chunks
    of :data:`CHUNK` pixels do; several threads may write at once.
    """

    def __init__(self, path: str | Path, profile: OmeProfile, *, threads: int = 1) -> None:
        self.path, self.profile, self.threads = Path(path), profile, threads

    def __enter__(self) -> Self:
        import zarr

        self._whole = write_whole_directory(self.path)
        part = self._whole.__enter__()
        try:
            self._group = zarr.open_group(str(part), mode="w", zarr_format=3)
            self._levels = [self._create_level(n, shape) for n, shape in enumerate(self._list_shapes())]
        except BaseException as error:
            self._whole.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def write(
        self, values: NDArray[Any], rows: slice, cols: slice, valid: NDArray[np.bool_] | None = None
    ) -> None:
        """Write a window of all channels, ``(C, h, w)``; OME-Zarr has no word for what is not valid."""
        self._levels[0][:, rows, cols] = values

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
        except BaseException as failure:
            self._whole.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._whole.__exit__(kind, error, trace)

    def _list_shapes(self) -> Iterator[tuple[int, int, int]]:
        channels, rows, cols = self.profile.shape
        yield channels, rows, cols
        while max(rows, cols) > SMALLEST:
            rows, cols = -(-rows // 2), -(-cols // 2)
            yield channels, rows, cols

    def _create_level(self, number: int, shape: tuple[int, int, int]) -> Any:
        return self._group.create_array(
            str(number),
            shape=shape,
            chunks=(1, CHUNK, CHUNK),
            dtype=self.profile.dtype,
            dimension_names=["c", "y", "x"],
            fill_value=0,
        )

    def _finish(self) -> None:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(self.threads) as pool:
            for fine, coarse in zip(self._levels, self._levels[1:], strict=False):
                _, rows, cols = coarse.shape
                starts = [(row, col) for row in range(0, rows, CHUNK) for col in range(0, cols, CHUNK)]
                list(pool.map(lambda start, a=fine, b=coarse: _halve_chunk(a, b, *start), starts))
        self._group.attrs["ome"] = describe_levels(self.profile, len(self._levels))


def describe_levels(profile: OmeProfile, count: int) -> Mapping[str, Any]:
    """Return the metadata ``ome`` of a picture with ``count`` levels."""
    size = profile.pixel_size_um or 1.0
    unit = {"unit": "micrometer"} if profile.pixel_size_um else {}
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {"type": "scale", "scale": [1.0, size * 2**level, size * 2**level]},
                # Centers of coarse pixels lie between those of fine ones.
                {"type": "translation", "translation": [0.0, *[size * (2**level - 1) / 2] * 2]},
            ],
        }
        for level in range(count)
    ]
    axes = [
        {"name": "c", "type": "channel"},
        {"name": "y", "type": "space", **unit},
        {"name": "x", "type": "space", **unit},
    ]
    names: Sequence[str] = profile.channels or [f"channel {n}" for n in range(1, profile.shape[0] + 1)]
    colors = ["FFFFFF"] if len(names) == 1 else ["FF0000", "00FF00", "0000FF"]
    span = _find_span(profile.dtype)
    return {
        "version": "0.5",
        "multiscales": [{"name": profile.name, "axes": axes, "datasets": datasets, "type": "mean"}],
        "omero": {
            "channels": [
                {"label": label, "color": colors[index % len(colors)], "active": True, "window": span}
                for index, label in enumerate(names)
            ]
        },
    }


def halve_planes(values: NDArray[Any]) -> NDArray[Any]:
    """Return the means of 2 x 2 samples of ``(C, rows, columns)`` in their type; odd borders are repeated."""
    _, rows, cols = values.shape
    padded = np.pad(values, ((0, 0), (0, rows % 2), (0, cols % 2)), mode="edge").astype(np.float64)
    means = (padded[:, ::2, ::2] + padded[:, 1::2, ::2] + padded[:, ::2, 1::2] + padded[:, 1::2, 1::2]) / 4
    return means.astype(values.dtype) if values.dtype.kind == "f" else np.rint(means).astype(values.dtype)


def _halve_chunk(fine: Any, coarse: Any, row: int, col: int) -> None:
    last_row, last_col = min(row + CHUNK, coarse.shape[1]), min(col + CHUNK, coarse.shape[2])
    coarse[:, row:last_row, col:last_col] = halve_planes(
        fine[:, 2 * row : 2 * last_row, 2 * col : 2 * last_col]
    )


def _find_span(dtype: str) -> dict[str, float]:
    kind = np.dtype(dtype)
    low, high = (
        (0.0, 1.0) if kind.kind == "f" else (float(np.iinfo(kind.name).min), float(np.iinfo(kind.name).max))
    )
    return {"min": low, "max": high, "start": low, "end": high}
