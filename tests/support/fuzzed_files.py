"""Damaged, odd and hostile inputs of every format that is read, drawn by hypothesis."""

import gzip
import json
import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pystac
import SimpleITK as sitk
from hypothesis import strategies as st
from raster_files import UTM33, write_raster

from regflow.core.grid import Grid
from regflow.core.landmarks import Landmarks
from regflow.core.transform import Affine, Composite, DisplacementField
from regflow.io.landmarks import write_landmarks
from regflow.io.raster_transforms import write_raster_transform
from regflow.io.transforms import write_transform
from regflow.io.vectors import write_points
from regflow.io.volumes import write_volume

Bytes = st.SearchStrategy[bytes]
NUMBERS = (0.0, -1.0, 1e-300, 1e38, float("nan"), float("inf"), float("-inf"))
WORDS = ["", "n/a", "nan", "1e400", "-5", "1_0", "../..", "\0", "{x}", "ü", "a" * 3000, '"', "é;,\t", "a://"]
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 2**31, 2**63, 10**400]),
    st.sampled_from([*NUMBERS, 0.5]),
    st.sampled_from(WORDS),
    st.builds(list),
    st.builds(dict),
    st.builds(lambda: [[None]]),
    st.builds(lambda: {"x": [1]}),
)


@st.composite
def damaged(draw: st.DrawFn, sound: bytes, start: int = 0) -> bytes:
    """Some bytes of a sound file are others, and perhaps its end is missing or goes on."""
    content = bytearray(sound)
    last = len(content) - 1
    for place, value in draw(
        st.lists(st.tuples(st.integers(start, last), st.integers(0, 255)), min_size=1, max_size=6)
    ):
        content[place] = value
    if draw(st.integers(0, 3)) == 0:
        del content[draw(st.integers(0, last)) :]
    if draw(st.integers(0, 5)) == 0:
        content += draw(st.binary(max_size=20))
    return bytes(content)


@st.composite
def odd_json(draw: st.DrawFn, sound: bytes) -> bytes:
    """Some parts of a sound content are something else, twice, or gone; the text itself may be cut off."""
    content = json.loads(sound)
    for _ in range(draw(st.integers(1, 3))):
        holder, key = _place(draw, content)
        if holder is None:
            content = draw(ODD)
        elif draw(st.integers(0, 4)) == 0:
            del holder[key]
        else:
            holder[key] = draw(ODD)
    text = json.dumps(content)
    if draw(st.integers(0, 9)) == 0:
        text = text[: draw(st.integers(0, len(text)))]
    return text.encode()


def _place(draw: st.DrawFn, content: Any) -> tuple[Any, Any]:
    """Walk down a random way to a part; (None, None) for the whole."""
    holder: Any = None
    key: Any = None
    here = content
    while isinstance(here, dict | list) and here and (holder is None or draw(st.integers(0, 4))):
        holder, key = (
            here,
            draw(st.sampled_from(sorted(here) if isinstance(here, dict) else range(len(here)))),
        )
        here = here[key]
    return holder, key


@st.composite
def odd_table(draw: st.DrawFn, sound: bytes) -> bytes:
    """Some cells of a sound table are other words; it is saved in any encoding with any delimiter."""
    rows = [line.split(",") for line in sound.decode().splitlines()]
    for _ in range(draw(st.integers(1, 4))):
        row = draw(st.sampled_from(rows))
        word = draw(st.one_of(st.sampled_from(WORDS), st.text(max_size=8)))
        if row and draw(st.booleans()):
            row[draw(st.integers(0, len(row) - 1))] = word
        else:
            row.append(word)
    delimiter = draw(st.sampled_from([",", ",", "\t", ";"]))
    text = draw(st.sampled_from(["\n", "\r\n", "\r"])).join(delimiter.join(row) for row in rows)
    encoded = text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"])), "ignore")
    return draw(damaged(encoded)) if encoded and draw(st.booleans()) else encoded


@st.composite
def odd_nifti(draw: st.DrawFn, sound: bytes) -> bytes:
    """Fields of a sound header hold edge values, and some bytes are damaged; compressed or not."""
    packed = sound.startswith(b"\x1f\x8b")
    content = bytearray(gzip.decompress(sound) if packed else sound)
    for _ in range(draw(st.integers(0, 3))):
        kind, offset = draw(st.sampled_from(_NIFTI_FIELDS))
        value = draw(st.sampled_from(NUMBERS if kind == "f" else (0, -5, 1, 7, 2, 127, 32767, -32768)))
        struct.pack_into(f"<{kind}", content, offset, value)
    plain = draw(damaged(bytes(content))) if draw(st.booleans()) else bytes(content)
    return gzip.compress(plain, 1, mtime=0) if packed else plain


_NIFTI_FIELDS = [
    *(("h", 40 + 2 * k) for k in range(8)),
    *(("h", offset) for offset in (68, 70, 72, 74, 120, 252, 254)),
    *(("f", 76 + 4 * k) for k in range(8)),
    *(("f", 108 + 4 * k) for k in range(3)),
    *(("f", 256 + 4 * k) for k in range(18)),
    *(("h", 122),),
]
"""struct's letter and the place of fields of a NIfTI-1 header: sizes, types, spacings, offset, forms."""

GRID = Grid((12, 14), np.array([[10.0, 0, 330005], [0, -10, 5822035], [0, 0, 1]]), UTM33)
FIELD = DisplacementField(np.ones((2, 12, 14), np.float32), GRID)
VOLUME = Grid((4, 5, 6), np.diag([2.0, 2.0, 2.0, 1.0]))


@cache
def sound_files() -> Mapping[str, bytes]:
    """One small sound file of each format, by name."""
    points = Landmarks(("AC", "PC"), np.array([[1.5, -2.25, 3.0], [4.0, 5.0, 6.0]]))
    data = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    with TemporaryDirectory() as name:
        folder = Path(name)
        for ending in ("nii", "nii.gz", "nrrd", "mha"):
            write_volume(folder / f"volume.{ending}", data, VOLUME)
        for ending in ("csv", "fcsv", "mrk.json"):
            write_landmarks(folder / f"points.{ending}", points)
        columns = {"name": np.array(["a", "b"]), "x": np.array([1.0, 2.0])}
        write_points(folder / "points.gpkg", columns, np.array([[1.0, 2.0], [3.0, 4.0]]), UTM33)
        bent = DisplacementField(np.ones((3, 4, 5, 6), np.float32), VOLUME)
        write_transform(folder / "transform.h5", Composite((Affine.identity(3), bent)))
        sitk.WriteTransform(sitk.Euler3DTransform(), str(folder / "transform.tfm"))
        write_raster(folder / "scene.tif", np.arange(168, dtype=np.uint16).reshape(12, 14))
        write_raster_transform(folder, Composite((Affine.identity(2), FIELD)), GRID)
        (folder / "items.json").write_text(json.dumps(collection()))
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def collection() -> dict[str, Any]:
    """A STAC item collection of two items."""
    items = []
    for day, name in enumerate(("one", "two"), start=1):
        box = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
        properties = {"platform": "sentinel-2b", "eo:cloud_cover": 5.0}
        item = pystac.Item(name, box, [0, 0, 1, 1], datetime(2024, 6, day, tzinfo=UTC), properties)
        item.add_asset("red", pystac.Asset(f"./{name}.tif", extra_fields={"raster:bands": [{"nodata": 0}]}))
        item.add_asset("scl", pystac.Asset("https://x.org/SCL.tif"))
        items.append(item)
    return dict(pystac.ItemCollection(items).to_dict())
