"""Models of this package; each folder follows anomalib's own file roles."""

from .fanogan import Fanogan
from .roi_sure_ganomaly import RoiSureGanomaly

__all__ = ["Fanogan", "RoiSureGanomaly"]
