"""Models of this package; each folder follows anomalib's own file roles."""

from .fanogan import Fanogan
from .lung_atlas import LungAtlas
from .roi_sure_ganomaly import RoiSureGanomaly

__all__ = ["Fanogan", "LungAtlas", "RoiSureGanomaly"]
