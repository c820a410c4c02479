"""Comparison of the X-rays that come in with those of the calibration."""
