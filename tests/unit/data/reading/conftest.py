"""A writer of DICOM files, which pydicom writes."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian, generate_uid

STORED = np.arange(4096, dtype=np.uint16).reshape(64, 64)  # every value of 12 bits once


@pytest.fixture
def write(tmp_path):
    """Write a 12-bit DX file; keyword arguments set tags, or delete them where None."""

    def _write(stored=STORED, syntax=ExplicitVRLittleEndian, **tags):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.SOPClassUID, dataset.SOPInstanceUID = ComputedRadiographyImageStorage, generate_uid()
        dataset.Modality, dataset.PhotometricInterpretation = "DX", "MONOCHROME2"
        dataset.Rows, dataset.Columns = stored.shape[:2]
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
        dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, int(stored.dtype.kind == "i")
        order = ">" if syntax == ExplicitVRBigEndian else "<"
        dataset.PixelData = stored.astype(stored.dtype.newbyteorder(order)).tobytes()
        dataset["PixelData"].VR = "OW"
        for keyword, value in tags.items():
            setattr(dataset, keyword, value)
            if value is None:
                delattr(dataset, keyword)
        path = tmp_path / "chest"
        dataset.save_as(path, enforce_file_format=True)
        return path

    return _write
