"""Threshold, probability and the calibration record."""
