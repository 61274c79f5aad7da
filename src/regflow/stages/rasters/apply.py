"""The products: everything of the moving scene on the fixed scene's grid, by one interpolation."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regflow.cohort.rasters.samples import DeclaredSamples
from regflow.core.gate import Verdict
from regflow.stages.rasters.ingest import find_declared_samples, find_scene
from regflow.stages.rasters.warping import WarpInput, warp_raster
from regflow.stages.shell import Outcome, make_outcome, record_step, run_stage_work

if TYPE_CHECKING:
    from regflow.io.scenes import SceneView


def apply(
    output: str | Path,
    *,
    sample: str,
    manifests: tuple[str | Path, str | Path],
    prepared: tuple[str | Path, str | Path],
    refined: str | Path,
    settings: Mapping[str, Any],
    dask: Mapping[str, Any] | None = None,
    threads: int = 1,
) -> Outcome:
    """Bring everything of one sample onto the fixed scene's grid.

    Writes ``warped.tif`` and, where the sample has them, ``mask.tif``, ``companions/NAME.tif`` and
    ``classes/NAME.tif``, all COGs, and ``item.json``, a STAC item that describes them.

    Args:
        output: the directory to make.
        sample: its id.
        manifests: of the fixed and the moving scene, written by ingest.
        prepared: directories of both, written by preprocess.
        refined: directory written by refine.
        settings: the ``apply`` section of the configuration; missing keys take their default.
        dask: the ``dask`` section of the configuration.
        threads: workers where that section names none.
    """
    from regflow.core.chunks import open_workers
    from regflow.core.files import write_json
    from regflow.io.stac_items import build_stac_item
    from regflow.stages.rasters.ingest import read_manifest
    from regflow.stages.rasters.working import read_scene

    def work(folder: Path) -> Outcome:
        reference, original = (read_manifest(path) for path in manifests)
        fixed, moving = (read_scene(path).view for path in prepared)
        tags = {"REGFLOW_REFERENCE": Path(reference["paths"]["image"]).name, "REGFLOW_SAMPLE": sample}
        steps: list[dict[str, Any]] = []
        written = []
        with open_workers(dask, threads=threads) as workers:
            for name, source in list_warp_inputs(original, moving).items():
                path = folder / f"{name}.tif"
                with record_step(steps, name) as record:
                    figures = warp_raster(
                        source,
                        path,
                        fixed=fixed.grid,
                        moving=moving,
                        refined=refined,
                        settings=settings,
                        workers=workers,
                        tags=tags,
                    )
                    record.update(figures)
                written.append((name, path))
        item = build_stac_item(sample, folder, written, original, reference)
        write_json(folder / "item.json", item)
        return make_outcome(Verdict("pass", "every product was written"), steps)

    return run_stage_work("apply", sample, output, [*prepared, refined], work)


def list_warp_inputs(manifest: Mapping[str, Any], moving: "SceneView") -> dict[str, WarpInput]:
    """Return what is to be warped of a moving scene, by the products' names."""
    paths = manifest["paths"]
    scaling, stated = find_scene(manifest).scaling, find_declared_samples(manifest)
    found = {"warped": WarpInput(paths["image"], nodata=moving.nodata, scaling=scaling)}
    if "mask" in paths:
        found["mask"] = WarpInput(paths["mask"], classes=True)
    for group in ("companions", "classes"):
        for name, path in paths.get(group, {}).items():
            said = stated.get(f"{group}.{name}", DeclaredSamples())
            found[f"{group}/{name}"] = WarpInput(path, group == "classes", said.nodata, said.scaling)
    return found
