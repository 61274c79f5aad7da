"""The products: everything of the moving scene on the fixed scene's grid, by one interpolation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regflow.cohort.rasters.samples import DeclaredSamples, Nodata, Scene
from regflow.core.gate import Verdict
from regflow.stages.rasters.ingest import find_declared_samples, find_scene
from regflow.stages.rasters.warping import WarpInput, warp_raster
from regflow.stages.shell import Outcome, make_outcome, record_step, run_stage_work


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
            for name, source in _stored_sources(original, moving.nodata).items():
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


def list_warp_inputs(
    scene: Scene,
    nodata: Nodata,
    companions: Mapping[str, str],
    classes: Mapping[str, str],
    stated: Mapping[str, DeclaredSamples],
) -> dict[str, WarpInput]:
    """Return what is to be warped of a moving scene, by the products' names.

    Args:
        scene: the moving scene.
        nodata: of it, as it was read.
        companions: rasters that follow it, by name.
        classes: rasters of classes that do.
        stated: what a catalog states about the samples of both, by ``companions.NAME`` and ``classes.NAME``.
    """
    found = {"warped": WarpInput(scene.image, nodata=nodata, scaling=scene.scaling)}
    if scene.mask is not None:
        found["mask"] = WarpInput(scene.mask, classes=True)
    for group, files in (("companions", companions), ("classes", classes)):
        for name, path in files.items():
            said = stated.get(f"{group}.{name}", DeclaredSamples())
            found[f"{group}/{name}"] = WarpInput(path, group == "classes", said.nodata, said.scaling)
    return found


def _stored_sources(manifest: Mapping[str, Any], nodata: Nodata) -> dict[str, WarpInput]:
    paths = manifest["paths"]
    companions, classes = (paths.get(group, {}) for group in ("companions", "classes"))
    return list_warp_inputs(
        find_scene(manifest), nodata, companions, classes, find_declared_samples(manifest)
    )
