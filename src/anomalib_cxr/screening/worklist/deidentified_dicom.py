"""DICOM X-rays without what tells who the patient is: made anew of a list of attributes, in which no free text is.

The confidentiality profile of the standard (PS3.15 Annex E) lists what to take out of a header. Headers of real files
have names in attributes that no list has. So the contrary is done here: what a viewer needs is taken over, and only in
values that the standard defines. Names, IDs and UIDs are then replaced by dicognito, the same ones in the same way.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
from dicognito.anonymizer import Anonymizer
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.uid import UID, ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from anomalib_cxr.data.reading.content import FileContent
from anomalib_cxr.data.reading.dicom_file import as_radiograph_error, load_dicom
from anomalib_cxr.data.reading.dicom_pixels import pixel_bits, stored_values
from anomalib_cxr.errors import RadiographError

_TERMS: Mapping[str, Sequence[str]] = {
    "PatientSex": ("M", "F", "O"),
    "BodyPartExamined": ("CHEST",),
    "ViewPosition": ("PA", "AP", "LL", "RL"),
    "PhotometricInterpretation": ("MONOCHROME1", "MONOCHROME2"),
    "PresentationLUTShape": ("IDENTITY", "INVERSE"),
    "PixelIntensityRelationship": ("LIN", "LOG"),
    "VOILUTFunction": ("LINEAR", "LINEAR_EXACT", "SIGMOID"),
    "LossyImageCompression": ("00", "01"),
    "BurnedInAnnotation": ("YES", "NO"),
}
_NUMBERS = (
    *("PixelSpacing", "ImagerPixelSpacing", "RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"),
    *("KVP", "PixelIntensityRelationshipSign", "PixelPaddingValue", "PixelPaddingRangeLimit"),
)
_TABLES = {"ModalityLUTSequence": "US", "VOILUTSequence": ""}  # with the type that the former has to have
_EMPTY = (
    *("PatientName", "PatientBirthDate", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"),
    *("ReferringPhysicianName", "Manufacturer", "BodyPartExamined", "ViewPosition", "PatientSex"),
)
METHOD = "anomalib_cxr: attributes for viewing only; dicognito"
_UIDS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_AGE = re.compile(r"(\d{3})Y")
_OLDEST = 90
"""Age in years that stands for all higher ones, of which there are few."""


def deidentified_dicom(content: FileContent, anonymizer: Anonymizer) -> bytes:
    """Return a DICOM file with the same stored values, and without what tells who the patient is.

    Text that is burnt into the pixels stays. A file whose header says that there is some is refused.

    Args:
        content: DICOM file of one gray image.
        anonymizer: Replaces names, IDs and UIDs; X-rays of one patient or study keep together if it is the same one.

    Returns:
        The file, Explicit VR Little Endian.

    Raises:
        RadiographError: The file cannot be decoded, or its header says that text is burnt in.
    """
    path = content.path
    with as_radiograph_error(path, "not readable as DICOM"):
        source = load_dicom(content)
        if str(source.get("BurnedInAnnotation") or "").strip().upper() == "YES":
            raise RadiographError(
                path, "text is burnt into the pixels, by its header", "pixels without a name", "leave the file out"
            )
        bits = pixel_bits(path, source)
        stored = stored_values(path, source, bits)
        kept = _kept(source)
        kept.Rows, kept.Columns = stored.shape
        kept.SamplesPerPixel, kept.BitsAllocated, kept.BitsStored, kept.HighBit = 1, 16, bits.stored, bits.stored - 1
        kept.PixelRepresentation = int(bits.signed)
        kept.add_new("PixelData", "OW", stored.astype("<i2" if bits.signed else "<u2").tobytes())
        anonymizer.anonymize(kept)
        kept.PatientIdentityRemoved, kept.DeidentificationMethod = "YES", METHOD
        kept.file_meta.MediaStorageSOPInstanceUID = kept.SOPInstanceUID
        file = io.BytesIO()
        kept.save_as(file, enforce_file_format=True)
        return file.getvalue()


def _kept(source: Dataset) -> Dataset:
    """Return a new dataset with the attributes that a viewer needs."""
    kept = Dataset()
    for keyword in _EMPTY:
        setattr(kept, keyword, "")
    kept.SOPClassUID, kept.Modality = ComputedRadiographyImageStorage, "CR"  # DX would need what is left out
    kept.ImageType = ["DERIVED", "PRIMARY"]
    kept.PatientOrientation = kept.SeriesNumber = kept.InstanceNumber = None
    for keyword in _UIDS:
        setattr(kept, keyword, UID(str(source.get(keyword) or "")) or UID("1.2"))
    kept.PatientID = str(source.get("PatientID") or "")  # replaced, by the same one for the same patient
    if age := _AGE.fullmatch(str(source.get("PatientAge") or "")):
        kept.PatientAge = f"{min(int(age[1]), _OLDEST):03}Y"
    _take_gray(source, kept)
    kept.file_meta = FileMetaDataset()
    kept.file_meta.MediaStorageSOPClassUID = kept.SOPClassUID
    kept.file_meta.MediaStorageSOPInstanceUID = kept.SOPInstanceUID
    kept.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return kept


def _take_gray(source: Dataset, kept: Dataset) -> None:
    """Take over terms, numbers and tables, by which the gray of the pixels is found."""
    for keyword, terms in _TERMS.items():
        text = str(source.get(keyword) or "").strip().upper()
        if text in terms:
            setattr(kept, keyword, text)
    for keyword in _NUMBERS:
        if (numbers := _numbers(source, keyword)) is not None:
            setattr(kept, keyword, numbers)
    if "RescaleSlope" in kept:
        kept.RescaleType = "US"
    for keyword, kind in _TABLES.items():
        if items := source.get(keyword):
            setattr(kept, keyword, [_table(items[0], kind)])


def _numbers(source: Dataset, keyword: str) -> object | None:
    """Return finite numbers as they are; None for anything else."""
    value = source.get(keyword)
    values = list(value) if isinstance(value, MultiValue | list) else [value]
    try:
        are_finite = bool(values) and all(math.isfinite(float(each)) for each in values)
    except (TypeError, ValueError):
        return None
    return value if are_finite else None


def _table(item: Dataset, kind: str) -> Dataset:
    table = Dataset()
    entries, first, width = (int(number) for number in item.LUTDescriptor)
    table.add_new("LUTDescriptor", "SS" if first < 0 else "US", [entries, first, width])
    data = item.LUTData
    words = data if isinstance(data, bytes) else np.asarray(data, np.int64).astype("<u2").tobytes()
    table.add_new("LUTData", "OW", words)
    if kind:
        table.ModalityLUTType = kind
    return table
