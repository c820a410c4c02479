"""The worklist: storage, tables, DICOM objects."""
