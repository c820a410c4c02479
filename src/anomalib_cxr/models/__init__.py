"""Models of this package; each folder follows anomalib's own file roles."""

from .roi_sure_ganomaly import RoiSureGanomaly

__all__ = ["RoiSureGanomaly"]
