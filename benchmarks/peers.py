"""Run one peer on one pair, in the peers' own Python environment (see README.md).

    python peers.py {ants|ants-full|greedy|greedy-nmi|elastix|elastix-masks} FIXED MOVING FOLDER THREADS

Writes into FOLDER the warped image, ``transform.h5`` (ITK composite, fixed to moving points) and
``seconds.json``: seconds by step and in all, from this script's start to the warped image on disk.
Writing ``transform.h5`` is not counted: it is a conversion for the evaluation.
"""

import time

STARTED = time.perf_counter()

import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402


def ants_syn(
    fixed: str, moving: str, folder: Path, threads: int, kind: str = "SyN"
) -> tuple[dict, list[str]]:
    """ANTs' SyN with antspyx's defaults: affine, then symmetric normalization, at half resolution at most."""
    import ants

    seconds = {}
    with clock(seconds, "read"):
        pair = [ants.image_read(path) for path in (fixed, moving)]
    with clock(seconds, "affine and deformable"):
        result = ants.registration(*pair, type_of_transform=kind, outprefix=str(folder / "ants_"))
    with clock(seconds, "write"):
        ants.image_write(result["warpedmovout"], str(folder / "warped.nii.gz"))
    return seconds, result["fwdtransforms"]


def ants_full(fixed: str, moving: str, folder: Path, threads: int) -> tuple[dict, list[str]]:
    """ANTs' own script antsRegistrationSyN: cross-correlation, with iterations at full resolution, too."""
    return ants_syn(fixed, moving, folder, threads, "antsRegistrationSyN[s]")


def greedy(
    fixed: str, moving: str, folder: Path, threads: int, metric: str = "NCC 2x2x2"
) -> tuple[dict, list[str]]:
    """picsl-greedy: affine from the image centers, then deformable, by NCC of radius 2."""
    from picsl_greedy import Greedy3D

    affine, warp = folder / "affine.mat", folder / "warp.nii.gz"
    images = f"-i {fixed} {moving} -m {metric} -threads {threads}"
    seconds = {}
    with clock(seconds, "affine"):
        Greedy3D().execute(f"-d 3 -a -dof 12 -ia-image-centers -n 100x50x10 {images} -o {affine}")
    with clock(seconds, "deformable"):
        Greedy3D().execute(f"-d 3 {images} -it {affine} -n 100x50x10 -s 1.732vox 0.707vox -o {warp}")
    with clock(seconds, "apply"):
        target = folder / "warped.nii.gz"
        Greedy3D().execute(f"-d 3 -threads {threads} -rf {fixed} -rm {moving} {target} -r {warp} {affine}")
    return seconds, [str(warp), str(affine)]


def greedy_nmi(fixed: str, moving: str, folder: Path, threads: int) -> tuple[dict, list[str]]:
    """picsl-greedy by normalized mutual information: its metric for images of other contrast."""
    return greedy(fixed, moving, folder, threads, "NMI")


def elastix(
    fixed: str, moving: str, folder: Path, threads: int, masked: bool = False
) -> tuple[dict, list[str]]:
    """elastix: its default rigid, affine and B-spline parameter maps; ``masked``: inside both brains.

    Threads are capped through the environment: given as an option, more than one has silently
    given wrong transforms with the default B-spline map (ITKElastix issue 160).
    """
    os.environ["ITK_GLOBAL_DEFAULT_THREADER"] = "Pool"
    import itk

    seconds = {}
    with clock(seconds, "read"):
        pair = [itk.imread(path, itk.F) for path in (fixed, moving)]
    maps = itk.ParameterObject.New()
    for kind in ("rigid", "affine", "bspline"):
        settings = maps.GetDefaultParameterMap(kind, 4)
        if kind == "rigid":
            settings["AutomaticTransformInitialization"] = ["true"]
        if masked:
            settings["ErodeMask"] = ["false"]
        maps.AddParameterMap(settings)
    with clock(seconds, "affine and deformable"):
        method = itk.ElastixRegistrationMethod.New(*pair)
        method.SetParameterObject(maps)
        if masked:
            method.SetFixedMask(brain(pair[0]))
            method.SetMovingMask(brain(pair[1]))
        method.Update()
    with clock(seconds, "write"):
        itk.imwrite(method.GetOutput(), str(folder / "warped.nii.gz"), compression=True)
    base = itk.ElastixRegistrationMethod[type(pair[0]), type(pair[1])]
    combined = method.GetCombinationTransform()
    itk.transformwrite([base.ConvertToItkTransform(combined)], str(folder / "elastix.h5"))
    return seconds, [str(folder / "elastix.h5")]


def elastix_masks(fixed: str, moving: str, folder: Path, threads: int) -> tuple[dict, list[str]]:
    """Run elastix inside both brains: its default maps may collapse on large plain surroundings."""
    return elastix(fixed, moving, folder, threads, masked=True)


def brain(image):  # noqa: ANN001, ANN201
    """Return the mask of a skull-stripped ITK image: where it is above 0."""
    import itk
    import numpy as np

    mask = itk.image_from_array((itk.array_view_from_image(image) > 0).astype(np.uint8))
    mask.CopyInformation(image)
    return mask


class clock:  # noqa: N801
    """Add the seconds a block took to a dictionary."""

    def __init__(self, seconds: dict, name: str) -> None:
        self.seconds, self.name = seconds, name

    def __enter__(self) -> None:
        self.started = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self.seconds[self.name] = time.perf_counter() - self.started


def read_part(path: str, reference):  # noqa: ANN001, ANN201
    """Read a peer's transform with SimpleITK; anything else than an affine is sampled."""
    import numpy as np
    import SimpleITK as sitk

    if path.endswith(".nii.gz"):
        return sitk.DisplacementFieldTransform(sitk.ReadImage(path, sitk.sitkVectorFloat64))
    if Path(path).name == "affine.mat":
        # greedy's affine: a text file in RAS; ITK's world is LPS.
        turn = np.diag([-1.0, -1.0, 1.0, 1.0])
        matrix = turn @ np.loadtxt(path) @ turn
        affine = sitk.AffineTransform(3)
        affine.SetMatrix(matrix[:3, :3].ravel().tolist())
        affine.SetTranslation(matrix[:3, 3].tolist())
        return affine
    transform = sitk.ReadTransform(path).Downcast()
    if transform.IsLinear():
        return transform
    field = sitk.TransformToDisplacementField(
        transform,
        sitk.sitkVectorFloat64,
        reference.GetSize(),
        reference.GetOrigin(),
        reference.GetSpacing(),
        reference.GetDirection(),
    )
    return sitk.DisplacementFieldTransform(field)


def write_composite(parts: list[str], fixed: str, target: Path) -> None:
    """Write transforms, the first applied first, as one ITK composite."""
    import SimpleITK as sitk

    reference = sitk.ReadImage(fixed)
    composite = sitk.CompositeTransform(3)
    for part in reversed(parts):
        composite.AddTransform(read_part(part, reference))
    sitk.WriteTransform(composite, str(target))


PEERS = {
    "ants": ants_syn,
    "ants-full": ants_full,
    "greedy": greedy,
    "greedy-nmi": greedy_nmi,
    "elastix": elastix,
    "elastix-masks": elastix_masks,
}


def main() -> None:
    """Run the peer named on the command line."""
    name, fixed, moving, folder, threads = sys.argv[1:]
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = threads
    seconds, parts = PEERS[name](fixed, moving, target, int(threads))
    total = time.perf_counter() - STARTED
    write_composite(parts, fixed, target / "transform.h5")
    (target / "seconds.json").write_text(json.dumps({"steps": seconds, "total": total}))


if __name__ == "__main__":
    main()
