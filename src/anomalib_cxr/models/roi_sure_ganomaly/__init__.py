"""RoiSureGanomaly: reconstructs the lungs, and scores by the disagreement of two encoders."""

from .lightning_model import RoiSureGanomaly
from .torch_model import RoiSureGanomalyModel

__all__ = ["RoiSureGanomaly", "RoiSureGanomalyModel"]
