"""Datasets, items and batches, and the image cache."""
