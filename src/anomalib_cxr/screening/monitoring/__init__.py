"""Whether the calibration still describes the X-rays that come in."""
