"""Calibration of an exported model, screening with it, and the worklist that readers work through.

This package runs exported models and knows no model's code. For research, not a medical device.
"""
