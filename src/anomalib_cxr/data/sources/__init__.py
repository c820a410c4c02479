"""Samples tables, splits and downloads of the public data sets."""
