"""Multi-frame DICOM files with any place, kind and scaling of their frames."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

STUDY = "1.2.826.0.1.3680043.8.498.2"


class Plane(NamedTuple):
    """A frame: stored numbers, position along z, stack, kind of contrast, slope and intercept, b-value."""

    samples: np.ndarray
    z: float
    stack: str = "1"
    kind: str = "M"
    scale: tuple[float, float] | None = None
    b_value: float | None = None


def write_frames(path: Path, planes: Sequence[Plane], spacing: Sequence[float] = (0.9, 1.1)) -> Path:
    """Write an Enhanced MR file of uint16 frames in the given order, axial, from x = -10, y = 20."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian

    content = Dataset()
    content.file_meta = FileMetaDataset()
    content.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    content.file_meta.MediaStorageSOPClassUID = content.SOPClassUID = EnhancedMRImageStorage
    content.file_meta.MediaStorageSOPInstanceUID = content.SOPInstanceUID = f"{STUDY}.9"
    content.Modality, content.PatientName, content.PatientID = "MR", "Nobody", "0"
    content.StudyInstanceUID, content.SeriesInstanceUID, content.SeriesNumber = STUDY, f"{STUDY}.1", 5
    content.NumberOfFrames = len(planes)
    content.Rows, content.Columns = planes[0].samples.shape
    content.SamplesPerPixel, content.PhotometricInterpretation = 1, "MONOCHROME2"
    content.BitsAllocated = content.BitsStored = 16
    content.HighBit, content.PixelRepresentation = 15, 0
    measures = _dataset(PixelSpacing=[spacing[1], spacing[0]], SliceThickness=1.0)
    turn = _dataset(ImageOrientationPatient=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    content.SharedFunctionalGroupsSequence = [
        _dataset(PixelMeasuresSequence=[measures], PlaneOrientationSequence=[turn])
    ]
    content.PerFrameFunctionalGroupsSequence = [_group(plane) for plane in planes]
    content.PixelData = np.stack([plane.samples for plane in planes]).astype("<u2").tobytes()
    content.save_as(path, enforce_file_format=True)
    return path


def _group(plane: Plane) -> Any:
    group = _dataset(
        FrameContentSequence=[_dataset(StackID=plane.stack)],
        PlanePositionSequence=[_dataset(ImagePositionPatient=[-10.0, 20.0, plane.z])],
        MRImageFrameTypeSequence=[_dataset(FrameType=["ORIGINAL", "PRIMARY", plane.kind, "NONE"])],
    )
    if plane.scale is not None:
        slope, intercept = plane.scale
        scale = _dataset(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="US")
        group.PixelValueTransformationSequence = [scale]
    if plane.b_value is not None:
        group.MRDiffusionSequence = [_dataset(DiffusionBValue=plane.b_value)]
    return group


def _dataset(**elements: Any) -> Any:
    from pydicom.dataset import Dataset

    made = Dataset()
    for name, value in elements.items():
        setattr(made, name, value)
    return made
