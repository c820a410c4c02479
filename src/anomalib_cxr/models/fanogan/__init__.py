"""Fanogan: f-AnoGAN, a generator of healthy X-rays and an encoder into it; scores by the reconstruction error."""

from .lightning_model import Fanogan
from .torch_model import FanoganModel

__all__ = ["Fanogan", "FanoganModel"]
