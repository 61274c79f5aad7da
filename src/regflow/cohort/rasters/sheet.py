"""The sample sheet of scenes: a TSV or CSV table with one row per moving raster."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regflow.cohort.examples import EXAMPLE, resolve_example
from regflow.cohort.rasters.columns import samples_schema
from regflow.cohort.rasters.samples import (
    RasterSample,
    Reference,
    Scene,
    as_bands,
    as_nodata,
    as_quality,
    reference,
)
from regflow.cohort.table import Table
from regflow.core.errors import InputError
from regflow.core.names import nearest
from regflow.io.raster_names import relocated

_HASH_DIGITS = 8
_FORMS = {
    "nodata": "a number, nan, none or file",
    "fixed_nodata": "a number, nan, none or file",
    "mask_values": "values and bits, as '0, 2-4' or 'bit1, bit3'",
    "fixed_mask_values": "values and bits, as '0, 2-4' or 'bit1, bit3'",
    "date": "a date like 2024-06-30, with a time or without",
    "companions": "NAME=PATH;NAME=PATH",
    "classes": "NAME=PATH;NAME=PATH",
}
_FIXED = ("fixed_bands", "fixed_nodata", "fixed_mask", "fixed_mask_values")


class RasterSheet:
    """One sheet while it is read: rows in, samples and problems out.

    Attributes:
        table: the rows.
        config: the complete configuration, for its references and the default one.
    """

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self.table = Table(path, samples_schema(), _FORMS)
        self.config = config
        self.fixed: dict[tuple[str | None, ...], Reference | None] = {}

    def read(self) -> list[RasterSample]:
        """Return the samples, in the sheet's order.

        Raises:
            InputError: one sentence for each problem, one to a line.
        """
        return self.table.read(self._sample)

    def _sample(self, line: int, row: dict[str, str]) -> RasterSample | None:
        before = len(self.table.problems)
        fixed = self._fixed(line, row)
        companions, classes = (
            self._companions(line, row.get(part, "")) for part in ("companions", "classes")
        )
        scene = self._scene(line, row)
        if fixed is None or scene is None or "sample" not in row or len(self.table.problems) > before:
            return None
        return RasterSample(
            sample=row["sample"],
            scene=scene,
            fixed=fixed,
            group=row.get("group"),
            truth=self._path(line, row.get("truth")),
            companions=companions,
            classes=classes,
        )

    def _scene(self, line: int, row: Mapping[str, str]) -> Scene | None:
        if not self._sound(row, ("nodata", "mask_values")):
            return None
        return Scene(
            str(self._path(line, row.get("moving"))),
            bands=as_bands(row.get("bands")),
            nodata=as_nodata(row.get("nodata")),
            mask=self._path(line, row.get("moving_mask")),
            quality=as_quality(row.get("mask_values")),
            date=row.get("date"),
            sensor=row.get("sensor"),
        )

    def _fixed(self, line: int, row: Mapping[str, str]) -> Reference | None:
        """Return the row's fixed scene; equal cells give one and the same."""
        if not self._sound(row, ("fixed_nodata", "fixed_mask_values")):
            return None
        cells = (row.get("fixed") or self.config["fixed"], *(row.get(name) for name in _FIXED))
        if cells not in self.fixed:
            self.fixed[cells] = self._new_fixed(line, *cells)
        found = self.fixed[cells]
        if found is None and not self.table.problems:
            self.table.problem(line, "its fixed scene is in error")
        return found

    def _new_fixed(self, line: int, image: str | None, *cells: str | None) -> Reference | None:
        if image is None:
            self.table.problem(
                line, "names no fixed scene; fill in the column or set 'fixed' in the configuration"
            )
            return None
        known = self.config["references"]
        if image not in known and not image.startswith(EXAMPLE) and not re.search(r"[/\\.:]", image):
            near = f"; did you mean '{nearest(image, known)}'?" if known else "; add it to 'references'"
            self.table.problem(line, f"the configuration has no reference '{image}'{near}")
            return None
        try:
            base = reference(self.config, image) if image in known else None
        except InputError as error:
            self.table.problems.append(f"reference '{image}': {error}")
            return None
        if base is not None and not any(cells):
            return base
        digest = hashlib.sha256("|".join([image, *(cell or "" for cell in cells)]).encode()).hexdigest()
        stem = image if base else re.sub(r"[^A-Za-z0-9]+", "-", Path(image).name.split(".")[0]).strip("-")
        scene = base.scene if base else Scene(str(self._path(line, image)))
        return Reference(f"{stem or 'fixed'}-{digest[:_HASH_DIGITS]}", self._overlaid(line, scene, *cells))

    def _overlaid(
        self,
        line: int,
        scene: Scene,
        bands: str | None,
        nodata: str | None,
        mask: str | None,
        mask_values: str | None,
    ) -> Scene:
        """Return the fixed scene with what the row itself says of it."""
        return Scene(
            scene.image,
            bands=as_bands(bands) or scene.bands,
            nodata=scene.nodata if nodata is None else as_nodata(nodata),
            mask=self._path(line, mask) or scene.mask,
            quality=scene.quality if mask_values is None else as_quality(mask_values),
            date=scene.date,
            sensor=scene.sensor,
        )

    def _sound(self, row: Mapping[str, str], columns: tuple[str, ...]) -> bool:
        """Tell whether cells have their form; the table names those that do not."""
        patterns = self.table.patterns
        return all(name not in row or patterns[name].match(row[name]) for name in columns)

    def _companions(self, line: int, cell: str) -> dict[str, str]:
        paths = {name: self._path(line, text or None) for name, text in self.table.pairs(line, cell).items()}
        return {name: path for name, path in paths.items() if path is not None}

    def _path(self, line: int, text: str | None) -> str | None:
        if text is None:
            return None
        try:
            return relocated(resolve_example(text), self.table.beside)
        except InputError as error:
            self.table.problem(line, str(error))
            return None
