"""DICOM node: images in over the network or from a folder, results out to archives."""
