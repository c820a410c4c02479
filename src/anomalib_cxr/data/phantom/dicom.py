"""Writer of a phantom set as DICOM files with a DICOMDIR."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.fileset import FileSet
from pydicom.sr.codedict import codes
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)
from rich.progress import track

from anomalib_cxr.data.reading.dicomdir import DICOMDIR, dicomdir_files
from anomalib_cxr.data.reading.metadata import ClinicalReading, read_clinical_reading
from anomalib_cxr.errors import DatasetError
from anomalib_cxr.utils.files import atomic_folder

from .files import DICOM, IMAGES, READINGS, RECORD, lock_set

_WIDTH_MM = 350.0  # of the field of view, as in an adult's radiograph
_INVERSE_EVERY = 3  # one radiograph in three is MONOCHROME1, so that readers that ignore the polarity are detected
_DAY, _TIME = "20000101", "120000"


def write_phantom_dicom(root: Path | str) -> Path:
    """Write a copy of a phantom set as DICOM files.

    Each phantom is a patient with one Digital X-Ray image for presentation: the gray levels and bit depth of its PNG,
    and the age and sex of its clinical reading. One in three is MONOCHROME1 with inverted levels; `read_radiograph`
    returns the same image for both files. UIDs are derived from the settings of the set and the name of the phantom:
    the same set always has the same UIDs. The folder is written atomically; an existing copy is left unchanged.

    Args:
        root: Folder of the set, from :func:`anomalib_cxr.data.phantom.files.write_phantoms`.

    Returns:
        The folder `DICOM/` in the root, with a `DICOMDIR` and the files that it lists.

    Raises:
        DatasetError: The root holds no set of phantoms, or cannot be written, or an existing copy is incomplete.
        RadiographError: The DICOMDIR of an existing copy is missing or damaged.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from anomalib_cxr.data.phantom.files import write_phantoms
        >>> with TemporaryDirectory() as folder:
        ...     root = write_phantoms(Path(folder) / "phantoms", n_normal=1, n_sick=1, size=32)
        ...     copy = write_phantom_dicom(root)
        ...     [path.relative_to(copy).as_posix() for path in dicomdir_files(copy / "DICOMDIR")]
        ['PT000000/ST000000/SE000000/IM000000', 'PT000001/ST000000/SE000000/IM000000']
    """
    root = Path(root)
    folder = root / DICOM
    if not (root / RECORD).is_file():
        raise DatasetError(f"{root}: no set of phantoms", f"a folder with {RECORD}", "draw the phantoms first")
    with lock_set(root):
        if folder.exists():
            dicomdir_files(folder / DICOMDIR)  # raises an error for an incomplete copy
        else:
            _write(root, folder)
    return folder


def _write(root: Path, folder: Path) -> None:
    record = (root / RECORD).read_text(encoding="utf-8")
    files = FileSet()
    files.UID = generate_uid(entropy_srcs=[record])
    with atomic_folder(folder) as partial:
        for path in track(sorted((root / IMAGES).glob("*.png")), description="Writing DICOM", transient=True):
            levels = np.asarray(Image.open(path))
            reading = read_clinical_reading(root / READINGS / f"{path.stem}.txt")
            files.add(_dataset(_Identity(record, path.stem), levels, reading))
        files.write(partial)


class _Identity(NamedTuple):
    """Identity of a phantom: the record of its set, and its name."""

    record: str
    name: str

    @property
    def number(self) -> str:
        """Number in the name, `PHANTOM_{number}_{label}`."""
        return self.name.split("_")[1]

    def uid(self, role: str) -> UID:
        return generate_uid(entropy_srcs=[self.record, self.name, role])


def _dataset(identity: _Identity, levels: NDArray[np.uint8] | NDArray[np.uint16], reading: ClinicalReading) -> Dataset:
    """Return a Digital X-Ray Image for presentation (PS3.3 A.26) of gray levels `(H, W)`."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = identity.uid("image")
    _add_patient(dataset, identity, reading)
    _add_series(dataset, identity)
    _add_acquisition(dataset, levels.shape[1])
    _add_pixels(dataset, levels, inverse=int(identity.number) % _INVERSE_EVERY == _INVERSE_EVERY - 1)
    return dataset


def _add_patient(dataset: Dataset, identity: _Identity, reading: ClinicalReading) -> None:
    dataset.PatientName = f"PHANTOM^{identity.number}"
    dataset.PatientID = identity.name
    dataset.PatientBirthDate = ""
    dataset.PatientSex = reading.sex or ""
    if reading.age is not None:
        dataset.PatientAge = f"{reading.age:03.0f}Y"
    dataset.PatientIdentityRemoved, dataset.DeidentificationMethod = "YES", "drawn: no patient"


def _add_series(dataset: Dataset, identity: _Identity) -> None:
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = identity.uid("study"), identity.uid("series")
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID = _DAY, _TIME, identity.number
    dataset.AccessionNumber = dataset.ReferringPhysicianName = ""
    dataset.Modality, dataset.PresentationIntentType = "DX", "FOR PRESENTATION"
    dataset.SeriesNumber = dataset.InstanceNumber = 1
    dataset.Manufacturer, dataset.ManufacturerModelName = "anomalib_cxr", "phantom"


def _add_acquisition(dataset: Dataset, columns: int) -> None:
    dataset.ImageType = ["ORIGINAL", "PRIMARY", ""]
    dataset.BodyPartExamined, dataset.ViewPosition, dataset.ImageLaterality = "CHEST", "PA", "U"
    dataset.PatientOrientation = ["L", "F"]  # the image's right is the patient's left, down is towards the feet
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning, _ = codes.SCT.Chest
    dataset.AnatomicRegionSequence = [region]
    dataset.ImagerPixelSpacing = [f"{_WIDTH_MM / columns:.8g}"] * 2
    dataset.DetectorType = dataset.PositionerType = ""
    dataset.AcquisitionContextSequence = []


def _add_pixels(dataset: Dataset, levels: NDArray[np.uint8] | NDArray[np.uint16], *, inverse: bool) -> None:
    """Add the pixels, and a window over the range of their bits."""
    bits = 8 * levels.itemsize
    dataset.PhotometricInterpretation = "MONOCHROME1" if inverse else "MONOCHROME2"
    dataset.PresentationLUTShape = "INVERSE" if inverse else "IDENTITY"
    dataset.PixelIntensityRelationship = "LOG"
    dataset.PixelIntensityRelationshipSign = 1 if inverse else -1  # -1: the less radiation, the greater the value
    dataset.Rows, dataset.Columns = levels.shape
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
    dataset.WindowCenter, dataset.WindowWidth = 2 ** (bits - 1), 2**bits
    dataset.LossyImageCompression, dataset.BurnedInAnnotation = "00", "NO"
    stored = np.invert(levels) if inverse else levels
    dataset.add_new("PixelData", "OB" if bits == 8 else "OW", stored.astype(f"<u{levels.itemsize}").tobytes())  # noqa: PLR2004
