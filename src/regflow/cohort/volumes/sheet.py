"""The sample sheet of volumes: a TSV or CSV table with one row per moving image."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regflow.cohort.examples import EXAMPLE, resolve_example
from regflow.cohort.table import Table
from regflow.cohort.volumes.columns import samples_schema
from regflow.cohort.volumes.samples import Fixed, Sample, atlas
from regflow.core.errors import InputError
from regflow.core.names import nearest

_HASH_DIGITS = 8
_PATH_COLUMNS = ("moving", "moving_mask", "moving_labels", "moving_landmarks", "fixed_landmarks", "truth")
_FORMS = {
    "volume": "a number from 0, or the UID of a DICOM series",
    "companions": "NAME=PATH;NAME=PATH",
}


class Sheet:
    """One sheet while it is read: rows in, samples and problems out.

    Attributes:
        table: the rows.
        config: the complete configuration, for its atlases and the default fixed image.
    """

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self.table = Table(path, samples_schema(), _FORMS)
        self.config = config
        self.fixed: dict[tuple[str | None, ...], Fixed | None] = {}

    def read(self) -> list[Sample]:
        """Return the samples, in the sheet's order.

        Raises:
            InputError: one sentence for each problem, one to a line.
        """
        return self.table.read(self._sample)

    def _sample(self, line: int, row: dict[str, str]) -> Sample | None:
        fixed = self._fixed(line, row)
        companions = self._companions(line, row.get("companions", ""))
        paths = {name: self._path(line, row.get(name)) for name in _PATH_COLUMNS}
        if fixed is None or "sample" not in row:
            return None
        volume = row.get("volume")
        return Sample(
            sample=row["sample"],
            moving=str(paths["moving"]),
            fixed=fixed,
            moving_mask=paths["moving_mask"],
            moving_labels=paths["moving_labels"],
            moving_landmarks=paths["moving_landmarks"],
            fixed_landmarks=paths["fixed_landmarks"] or fixed.landmarks,
            companions=companions,
            modality=row.get("modality"),
            volume=int(volume) if volume is not None and volume.isdigit() else volume,
            group=row.get("group"),
            session=row.get("session"),
            truth=paths["truth"],
        )

    def _fixed(self, line: int, row: Mapping[str, str]) -> Fixed | None:
        """Return the row's fixed image; equal cells give one and the same."""
        cells = (row.get("fixed") or self.config["fixed"], row.get("fixed_mask"), row.get("fixed_labels"))
        if cells not in self.fixed:
            self.fixed[cells] = self._new_fixed(line, *cells)
        found = self.fixed[cells]
        if found is None and not self.table.problems:
            self.table.problem(line, "its fixed image is in error")
        return found

    def _new_fixed(self, line: int, image: str | None, mask: str | None, labels: str | None) -> Fixed | None:
        if image is None:
            self.table.problem(
                line, "names no fixed image; fill in the column or set 'fixed' in the configuration"
            )
            return None
        atlases = self.config["atlases"]
        suffix = hashlib.sha256("|".join((image, mask or "", labels or "")).encode()).hexdigest()[
            :_HASH_DIGITS
        ]
        try:
            base = atlas(self.config, image) if image in atlases else None
        except InputError as error:
            self.table.problems.append(f"atlas '{image}': {error}")
            return None
        if base is None and not image.startswith(EXAMPLE) and not re.search(r"[/\\.]", image):
            near = f"; did you mean '{nearest(image, atlases)}'?" if atlases else "; add it to 'atlases'"
            self.table.problem(line, f"the configuration has no atlas '{image}'{near}")
            return None
        own = {"mask": self._path(line, mask), "labels": self._path(line, labels)}
        if base is not None:
            if mask is None and labels is None:
                return base
            return Fixed(
                f"{base.name}-{suffix}",
                base.image,
                own["mask"] or base.mask,
                own["labels"] or base.labels,
                base.landmarks,
                base.modality,
            )
        stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(image).name.split(".")[0]).strip("-") or "fixed"
        return Fixed(f"{stem}-{suffix}", str(self._path(line, image)), own["mask"], own["labels"])

    def _companions(self, line: int, cell: str) -> dict[str, str]:
        paths = {name: self._path(line, text or None) for name, text in self.table.pairs(line, cell).items()}
        return {name: path for name, path in paths.items() if path is not None}

    def _path(self, line: int, text: str | None) -> str | None:
        if text is None:
            return None
        try:
            return self.table.beside(resolve_example(text))
        except InputError as error:
            self.table.problem(line, str(error))
            return None
