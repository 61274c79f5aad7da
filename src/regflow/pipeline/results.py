"""What a registration and a change detection hand back: figures, and products in the given types."""

import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from regflow.core.errors import InputError
from regflow.core.files import read_json, write_whole_directory
from regflow.core.gate import Verdict
from regflow.core.grid import Grid
from regflow.core.transform import Transform
from regflow.pipeline.exchange import ResultFolder, load_product
from regflow.provenance.run_record import require_writable


@dataclass(frozen=True, eq=False, repr=False)
class RegistrationResult:
    """What the registration of one pair came to.

    Where no folder was named, the products live in a temporary one that goes with this object: keep the
    object, or :meth:`save`, as long as a path or a rasterio dataset that it gave is in use.

    Attributes:
        kind: ``volumes`` or ``rasters``.
        transform: from fixed to moving world points: LPS mm, or the fixed scene's CRS units.
        verdict: ``pass``, ``warn`` or ``fail``, with the figure that decided.
        figures: of ``quality.json``, by names that carry the unit: ``ncc_refine``, ``tre_mean_mm_refine`` ...
        seconds: by stage, and in ``total``.
        fixed_grid: where the fixed image's samples lie.
        given: the moving image's parts as they were given, by ``image``, ``labels`` and
            ``companions/NAME``: each product comes back in the type of its part.
    """

    kind: str
    transform: Transform
    verdict: Verdict
    figures: Mapping[str, float]
    seconds: Mapping[str, float]
    fixed_grid: Grid
    given: Mapping[str, Any]
    _folder: ResultFolder

    def __repr__(self) -> str:
        return f"<RegistrationResult of {self.kind}, {self.verdict.status}: {self.verdict.reason}>"

    @property
    def folder(self) -> Path:
        """Where the products lie: ``report.html`` and all else that ``regflow register`` writes."""
        return self._folder.path

    @cached_property
    def warped(self) -> Any:
        """The moving image on the fixed one's grid (a scene: over its footprint), resampled once.

        It is of the moving image's type, with that one's type of samples; for a path, the product's path.
        """
        return self._product("warped", "image")

    @cached_property
    def labels(self) -> Any:
        """The moving label map on the fixed volume's grid, in its type; None where none was given."""
        return self._product("labels", "labels") if "labels" in self.given else None

    @cached_property
    def companions(self) -> dict[str, Any]:
        """The companions by name, each on the fixed image's grid and in its type."""
        names = [name for name in self.given if name.startswith("companions/")]
        return {name.removeprefix("companions/"): self._product(name, name) for name in names}

    @cached_property
    def inverse(self) -> Transform:
        """From moving to fixed world points; its error is in :attr:`figures` (volumes)."""
        from regflow.core.inversion import invert_transform
        from regflow.io.transforms import read_transform
        from regflow.stages.rasters.views import measure_spacing

        if self.kind == "rasters":
            return invert_transform(self.transform, measure_spacing(self.fixed_grid))
        stored = self.folder / "inverse.h5"
        return read_transform(stored, self.fixed_grid) if stored.is_file() else self.transform.inverse()

    def save(self, folder: str | Path) -> Path:
        """Copy everything into a folder, whole or not at all; one that holds an earlier result is replaced.

        Args:
            folder: the folder to make.

        Returns:
            The folder.

        Raises:
            InputError: it is a file, or holds what this program did not write.
        """
        from regflow.pipeline.pair import STEPS

        return _copy(self.folder, folder, STEPS[self.kind].products)

    def _product(self, name: str, part: str) -> Any:
        if self.kind == "volumes":
            return load_product(self.folder / f"{name}.nii.gz", self.given[part], self.fixed_grid)
        return load_product(self.folder / f"{name}.tif", self.given[part])


@dataclass(frozen=True, eq=False, repr=False)
class ChangeResult:
    """What changed between scenes.

    As with :class:`RegistrationResult`, products in a temporary folder go with this object.

    Attributes:
        verdict: ``pass``, ``warn`` or ``fail``; of several comparisons the most severe one.
        given: the first scene as it was given; maps come back in its type.
        path: of the folder with the products.
    """

    verdict: Verdict
    given: Any
    path: Path
    _folder: ResultFolder

    def __repr__(self) -> str:
        return f"<ChangeResult, {self.verdict.status}: {self.verdict.reason}>"

    @property
    def folder(self) -> Path:
        """Where the products lie: ``changes.gpkg``, ``report.html`` and all else of ``regflow detect``."""
        return self.path

    @cached_property
    def figures(self) -> dict[str, float]:
        """Figures of one comparison: ``changed_percent``, ``regions`` ..."""
        return dict(read_json(self._found("detect.json"))["figures"])

    @cached_property
    def change(self) -> Any:
        """0 unchanged, 1 changed, 2 explained by the remaining registration error, 255 no data (uint8)."""
        return self._map("change.tif")

    @cached_property
    def magnitude(self) -> Any:
        """How much changed, float32; NaN without data. The unit is in ``detect.json``."""
        return self._map("magnitude.tif")

    @cached_property
    def probability(self) -> Any:
        """Probability of NO change, 0 to 1, float32; NaN without data."""
        return self._map("probability.tif")

    @cached_property
    def comparisons(self) -> dict[str, "ChangeResult"]:
        """Of more than two scenes: each comparison by ``BEFORE_AFTER``; empty for two."""
        found = sorted(self.path.glob("*/detect.json"))
        return {
            path.parent.name: ChangeResult(
                Verdict.from_dict(read_json(path)["verdict"]), self.given, path.parent, self._folder
            )
            for path in found
        }

    def save(self, folder: str | Path) -> Path:
        """Copy everything into a folder, whole or not at all; see :meth:`RegistrationResult.save`."""
        from regflow.pipeline.change import PRODUCTS

        return _copy(self.path, folder, {*PRODUCTS, *self.comparisons})

    def _map(self, name: str) -> Any:
        return load_product(self._found(name), self.given, as_stored=True)

    def _found(self, name: str) -> Path:
        if self.comparisons:
            raise InputError(f"these are {len(self.comparisons)} comparisons; take one of .comparisons")
        return self.path / name


def _copy(source: Path, target: str | Path, products: Collection[str]) -> Path:
    target = require_writable(Path(target), products)
    if target.resolve() == source.resolve():
        return target
    with write_whole_directory(target) as part:
        shutil.copytree(source, part, dirs_exist_ok=True)
    return target
