"""From an exported model to a worklist: calibration, the gate before scoring, screening, and what a reader then says.

This room runs what was exported and knows no model. For research, not a medical device.
"""
