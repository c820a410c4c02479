"""Readers for PNG, JPEG, TIFF and DICOM radiographs."""
