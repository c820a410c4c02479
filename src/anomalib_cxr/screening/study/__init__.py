"""Calibration study: what a model is worth at a place, over all thresholds."""
