"""The files that the commands of README and documentation name, small ones."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window

from regflow.core.grid import Grid
from regflow.core.landmarks import Landmarks
from regflow.datasets.packaged import require_source
from regflow.datasets.serial_sections import SectionFaults, simulate_sections
from regflow.datasets.tiles import cut_tiles
from regflow.io.landmarks import write_landmarks
from regflow.io.raster_files import write_raster

BANDS = ("02", "03", "04", "08")
SIDE = 320
CLOUD = 9
"""Of Sentinel-2's scene classification: cloud, high probability."""


def write_volumes(folder: Path, volume_file: Callable[..., Path]) -> None:
    """Write an atlas, subjects, and what belongs to them, at 4 mm."""
    shutil.copyfile(volume_file("mni2009c", 4.0), folder / "atlas.nii.gz")
    for name in ("subject", "subject_flair"):
        shutil.copyfile(volume_file("mni6", 4.0), folder / f"{name}.nii.gz")
    shutil.copyfile(volume_file("icbm2009a", 4.0), folder / "other.nii.gz")
    for name in ("atlas", "subject"):
        write_labels(folder, name, volume_file("neuromorphometrics", 4.0))
    write_landmarks(folder / "subject_points.csv", Landmarks(("a",), np.zeros((1, 3))))


def write_points(folder: Path) -> None:
    """Write landmarks of atlas and subject, in the same places, and points between a map and a photo."""
    import json

    around = [[40, 20, 10], [-38, 25, 12], [5, -50, 20], [-6, 60, 15], [2, 10, 60], [20, 5, -20]]
    places = np.array([[0, 0, 0], *around])
    names = tuple(f"point {number}" for number in range(len(places)))
    write_landmarks(folder / "atlas.csv", Landmarks(names, places.astype(float)))
    points = [{"label": name, "position": place.tolist()} for name, place in zip(names, places, strict=True)]
    markups = [{"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": points}]
    (folder / "subject.mrk.json").write_text(json.dumps({"markups": markups}), encoding="utf-8")
    with rasterio.open(folder / "scene.tif") as scene, rasterio.open(folder / "reference.tif") as reference:
        plain = {key: scene.profile[key] for key in ("driver", "width", "height", "count", "dtype")}
        with rasterio.open(folder / "photo.tif", "w", **plain) as photo:
            photo.write(scene.read())
        rows = ["mapX,mapY,sourceX,sourceY,enable"]
        for x, y in ((30, 30), (280, 40), (35, 270), (260, 250), (150, 160), (200, 80)):
            on_map = reference.transform @ (x, y)
            rows.append(f"{on_map[0]},{on_map[1]},{x + 3},{-(y - 2)},1")
    shutil.copyfile(folder / "reference.tif", folder / "map.tif")
    (folder / "photo.points").write_text("\n".join(rows) + "\n", encoding="utf-8")


def write_tiles(folder: Path) -> None:
    """Write overlapping tiles of the reference's first band into the folder ``scan``."""
    with rasterio.open(folder / "reference.tif") as reference:
        band = reference.read(1).astype(np.float32)
    cut_tiles(folder / "scan", band, side=96, overlap=0.2, stage_px=1.5)


def write_slides(folder: Path, volume_file: Callable[..., Path]) -> None:
    """Write serial sections of a brain into the folder ``slides``."""
    brain = nibabel.load(volume_file("icbm2009a", 4.0)).get_fdata().astype(np.float32)
    planes = np.ascontiguousarray(np.moveaxis(brain, 1, 0)[16:34])
    faults = SectionFaults(rotation_deg=2.0, shift_px=1.0, warp_px=0.3, warp_width_px=8.0)
    (folder / "slides").mkdir()
    for number, picture in enumerate(simulate_sections(planes, faults).pictures):
        values = np.clip(200 * picture + 10, 0, 255).astype(np.uint8)
        write_raster(
            folder / "slides" / f"slide{number:02d}.tif", values[None], Grid(values.shape, np.eye(3))
        )


def write_labels(folder: Path, name: str, source: Path) -> None:
    """Write a label map on an image's grid."""
    import SimpleITK as sitk

    image = sitk.ReadImage(folder / f"{name}.nii.gz")
    labels = sitk.Resample(sitk.ReadImage(source), image, sitk.Transform(), sitk.sitkNearestNeighbor)
    sitk.WriteImage(labels, folder / f"{name}_labels.nii.gz")


def write_volume_parts(folder: Path) -> None:
    """Write masks of atlas and subject, and a lesion of the subject."""
    for name in ("atlas", "subject"):
        image = nibabel.load(folder / f"{name}.nii.gz")
        samples = image.get_fdata()
        inside = samples > 0.02 * samples.max()
        _write_nifti(folder / f"{name}_mask.nii.gz", inside, image.affine)
        if name == "subject":
            lesion = np.zeros_like(inside)
            middle = [length // 2 for length in inside.shape]
            lesion[middle[0] - 6 : middle[0] - 3, middle[1] : middle[1] + 3, middle[2] : middle[2] + 3] = True
            _write_nifti(folder / "lesion.nii.gz", lesion & inside, image.affine)


def write_dataset(folder: Path) -> None:
    """Write a BIDS data set of one subject."""
    anatomy = folder / "dataset" / "sub-01" / "anat"
    anatomy.mkdir(parents=True)
    for suffix, name in (("T1w", "subject"), ("FLAIR", "subject_flair")):
        shutil.copyfile(folder / f"{name}.nii.gz", anatomy / f"sub-01_{suffix}.nii.gz")
    description = '{"Name": "one brain", "BIDSVersion": "1.9.0"}\n'
    (folder / "dataset" / "dataset_description.json").write_text(description, encoding="utf-8")


def write_dicom(folder: Path) -> None:
    """Write the subject as a DICOM series, one file for each slice."""
    import SimpleITK as sitk
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

    target = folder / "dicom"
    target.mkdir()
    image = sitk.DICOMOrient(sitk.ReadImage(str(folder / "subject.nii.gz")), "LPS")
    samples = sitk.GetArrayFromImage(image).astype(np.float64)
    stored = (1000 * samples / samples.max()).clip(0).astype("<u2")
    study, series = generate_uid(entropy_srcs=["study"]), generate_uid(entropy_srcs=["series"])
    for number, plane in enumerate(stored):
        content = Dataset()
        content.file_meta = FileMetaDataset()
        content.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        content.file_meta.MediaStorageSOPClassUID = content.SOPClassUID = MRImageStorage
        uid = generate_uid(entropy_srcs=["slice", str(number)])
        content.file_meta.MediaStorageSOPInstanceUID = content.SOPInstanceUID = uid
        content.Modality, content.PatientName, content.PatientID = "MR", "Nobody", "0"
        content.StudyInstanceUID, content.SeriesInstanceUID = study, series
        content.SeriesNumber, content.InstanceNumber = 1, number + 1
        content.Rows, content.Columns = plane.shape
        content.SamplesPerPixel, content.PhotometricInterpretation = 1, "MONOCHROME2"
        content.BitsAllocated = content.BitsStored = 16
        content.HighBit, content.PixelRepresentation = 15, 0
        content.PixelSpacing, content.SliceThickness = [4.0, 4.0], 4.0
        content.ImageOrientationPatient = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
        corner = image.TransformIndexToPhysicalPoint((0, 0, number))
        content.ImagePositionPatient = [round(value, 6) for value in corner]
        content.PixelData = plane.tobytes()
        content.save_as(target / f"slice_{number:03d}.dcm", enforce_file_format=True)


def write_scenes(folder: Path) -> None:
    """Cut two scenes of four real bands; the second's pixels lie two rows and three columns off."""
    bands = [rasterio.open(require_source(f"sentinel2-b{name}")) for name in BANDS]
    rng = np.random.default_rng(0)
    for name, row, column in (("reference", 100, 100), ("scene", 102, 97)):
        values = np.stack([band.read(1, window=Window(column, row, SIDE, SIDE)) for band in bands])
        noisy = values + rng.normal(0, 10, values.shape)
        corner = bands[0].transform @ Affine.translation(100, 100)
        kind = {"driver": "GTiff", "dtype": "uint16", "count": 4, "crs": bands[0].crs}
        with rasterio.open(
            folder / f"{name}.tif", "w", width=SIDE, height=SIDE, transform=corner, **kind
        ) as scene:
            scene.write(noisy.round().clip(1).astype(np.uint16))
    write_what_follows(folder)


def write_what_follows(folder: Path) -> None:
    """Write a band of its own, classes and points of the moving scene, and classes of the reference."""
    shutil.copyfile(folder / "scene.tif", folder / "scene_B11.tif")
    for name, source in (("scene_classes", "scene"), ("fields", "reference")):
        with rasterio.open(folder / f"{source}.tif") as scene:
            profile = {**scene.profile, "count": 1, "dtype": "uint8"}
            classes = (scene.read(4) > 2500).astype(np.uint8)
            x, y = scene.transform @ (100.5, 100.5)
        with rasterio.open(folder / f"{name}.tif", "w", **profile) as target:
            target.write(classes, 1)
    (folder / "scene_points.csv").write_text(f"name,x,y\nwell,{x},{y}\n", encoding="utf-8")


def write_scene_parts(folder: Path) -> None:
    """Write classifications with a cloud, a scene of other brightness, and sections without georeference."""
    for number, name in enumerate(("reference", "scene")):
        with rasterio.open(folder / f"{name}.tif") as scene:
            profile, red = {**scene.profile, "count": 1}, scene.read(3)
        classes = np.full((SIDE, SIDE), 4, np.uint8)
        classes[40 + 60 * number : 80 + 60 * number, 50:90] = CLOUD
        _write_raster(folder / f"{name}_scl.tif", classes, profile)
        section = {key: profile[key] for key in ("driver", "width", "height", "count")}
        _write_raster(folder / f"section_{number + 1}.tif", red, section)
        if name == "scene":
            _write_raster(folder / "other_sensor.tif", red.max() + 1 - red, profile)
    with rasterio.open(folder / "reference.tif") as reference:
        red = reference.read(3)
    moved = [red[shift : shift + 240, 2 * shift : 2 * shift + 240] for shift in (4, 2, 0)]
    np.save(folder / "stack.npy", np.stack(moved))


def _write_nifti(path: Path, samples: Any, affine: Any) -> None:
    nibabel.save(nibabel.Nifti1Image(samples.astype(np.uint8), affine), path)


def _write_raster(path: Path, samples: Any, profile: dict[str, Any]) -> None:
    with rasterio.open(path, "w", **{**profile, "dtype": samples.dtype}) as target:
        target.write(samples, 1)
